"""A small server for the load client: it answers in every way that servers have, and in some that they shouldn't."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Answering = Callable[[str, bytes, asyncio.StreamWriter], Awaitable[bool]]
"""Path and body to what is written; the result is whether the connection is kept."""


@contextmanager
def listening(connected: Connected, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL of a server on a thread of its own."""
    loop = asyncio.new_event_loop()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await connected(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = asyncio.start_server(handled, "127.0.0.1", 0, ssl=tls)
    server = asyncio.run_coroutine_threadsafe(serving, loop).result()
    try:
        yield f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def serving(answering: Answering, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The URL of a server that reads requests as HTTP has them, and knows no GET."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await _request(reader):
            method, path, body = request
            answer = answering if method == "POST" else of_json(404, {})
            if not await answer(path, body, writer):
                return

    with listening(connected, tls) as url:
        yield url


async def _request(reader: asyncio.StreamReader) -> tuple[str, str, bytes] | None:
    if not (line := await reader.readline()):
        return None
    headers = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(f"{headers.partition('content-length:')[2]} 0".split()[0])
    method, path, _ = line.decode().split()
    return method, path, await reader.readexactly(length)


def head(status: int = 200, kind: str = "text/event-stream", *more: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} OK", f"content-type: {kind}", *more, "", ""]).encode()


def event(data: object, name: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


OURS = (
    event({"text": "Hel", "tokens": [1]}, "token")
    + event({"text": "lo\n\nthere", "tokens": [2, 3]}, "token")
    + event({"text": "Hello", "usage": {"prompt_tokens": 7, "completion_tokens": 5, "cached_tokens": 4}}, "done")
)
CHAT = (
    b": keepalive 3/9\n\n"
    + event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    + event({"choices": [{"delta": {"content": "Hi"}}]})
    + event({"choices": [{"delta": {"content": " you"}}]})
    + event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    + event("[DONE]")
)
USED = {"prompt_tokens": 9, "completion_tokens": 6, "prompt_tokens_details": {"cached_tokens": 8}}
TOLD = event({"choices": [{"text": "a", "index": 0}]}) + event({"choices": [], "usage": USED}) + event("[DONE]")
STREAMS = {"ours": OURS, "crlf": OURS.replace(b"\n", b"\r\n"), "chat": CHAT, "told": TOLD}


async def in_odd_pieces(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
    """The stream that `/FRAMING/STREAM` names, in odd pieces as the request's seed has them."""
    chance = random.Random(json.loads(body)["seed"])
    _, framing, what = path.split("/")
    for piece in _cut(_framed(STREAMS[what], framing, chance), chance):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    return framing != "closed"


def _framed(content: bytes, framing: str, chance: random.Random) -> bytes:
    if framing == "chunked":
        coded = b"".join(b"%x;odd=1\r\n%s\r\n" % (len(piece), piece) for piece in _cut(content, chance))
        return head(200, "text/event-stream", "transfer-encoding: chunked") + coded + b"0\r\nTrailer: x\r\n\r\n"
    if framing == "length":
        return head(200, "text/event-stream", f"content-length: {len(content)}") + content
    return head(200, "text/event-stream; charset=utf-8", "connection: close") + content


def _cut(content: bytes, chance: random.Random) -> Iterator[bytes]:
    while content:
        size = chance.choice((1, 2, 3, 7, 50))
        yield content[:size]
        content = content[size:]


def answering(status: int, kind: str, content: bytes, *more: str) -> Answering:
    """The same answer to everything."""

    async def answer(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(head(status, kind, f"content-length: {len(content)}", *more) + content)
        await writer.drain()
        return True

    return answer


def of_json(status: int, body: object, *more: str) -> Answering:
    return answering(status, "application/json", json.dumps(body).encode(), *more)
