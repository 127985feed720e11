"""Many small clients in one process: HTTP by hand, as a client library would take more time than the service."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close sends RST at once."""


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def is_whole(self) -> bool:
        """Whether an answer of 200 is all there: a stream ends with `done`, an object reads as JSON."""
        if self.text.startswith("event:"):
            return "event: done\n" in self.text and "event: error" not in self.text
        return "text" in json.loads(self.text)


@dataclass
class Seen:
    """What clients have got: how often each status, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def take(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == 200 and not answer.is_whole:
            self.faults.append(answer.text[-300:])


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One of its own, closed at the end."""
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port, limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.close()


def request(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def ask(url: str, path: str, body: Any) -> Answer:
    """The whole answer."""
    async with connection(url) as (reader, writer):
        writer.write(request(path, body))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        content = await _chunks(reader) if "transfer-encoding: chunked" in head.lower() else await reader.read()
        return Answer(int(head.split(" ", 2)[1]), content.decode())


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    return b"".join(parts)


async def vanish(url: str, path: str, body: Any, *, reset: bool) -> int:
    """Read until the first event of the answer is there, then go; the status."""
    async with connection(url) as (reader, writer):
        writer.write(request(path, body))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split(" ", 2)[1])
        if status == 200:
            await reader.readuntil(b"data: ")
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return status


async def crowd(count: int, until_s: float, act: Callable[[int], Any]) -> None:
    """`count` clients that each act again and again; `act` is given a number of its own each time."""
    end = asyncio.get_running_loop().time() + until_s
    numbers = iter(range(1 << 60))

    async def client() -> None:
        while asyncio.get_running_loop().time() < end:
            await act(next(numbers))

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(client())
