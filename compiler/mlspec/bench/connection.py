"""A connection to the service that never blocks: plain or TLS."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlspec.bench.samples import Request

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_PIECE_BYTES = 65536
_CONNECTING = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


@dataclass(frozen=True)
class Place:
    """Where the service is: an address that was looked up once, and how its requests begin."""

    family: int
    address: Any
    host: str
    base_path: str
    tls: ssl.SSLContext | None

    @staticmethod
    def of(url: str) -> Place:
        """The place of an `http` or `https` URL.

        Raises:
            ValueError: it is none.
            OSError: its host has no address.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the URL of a service begins with http:// or https:// and a host, and has no query")
        if parts.username is not None:
            raise ValueError("a URL with a name or a password isn't taken")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        known = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        # Services listen at 127.0.0.1 more often than at ::1, and "localhost" is both.
        family, _, _, _, address = min(known, key=lambda one: one[0] != socket.AF_INET)
        return Place(family, address, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), tls)

    @property
    def name(self) -> str:
        """The host alone, which a certificate names."""
        return str(urlsplit(f"//{self.host}").hostname)

    def spelt(self, request: Request) -> bytes:
        """The request as HTTP/1.1 has it."""
        lines = [f"POST {self.base_path}{request.path} HTTP/1.1", f"Host: {self.host}", "User-Agent: mlspec-bench"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(request.body)}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


class Connection:
    """Registered with a selector as long as it is open; `data` is what the selector hands out for it."""

    def __init__(self, place: Place, selector: selectors.BaseSelector, data: object) -> None:
        self.opened = False
        """Whether the service ever took the connection."""
        self._place = place
        self._selector, self._data = selector, data
        self._unsent = b""
        self._wanted = WRITE
        self._socket = socket.socket(place.family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._failed = self._socket.connect_ex(place.address)
        selector.register(self._socket, WRITE, data)

    def send(self, content: bytes) -> None:
        """Send it as soon as that can be done. OSError: there is no connecting at all."""
        self._raise_if(self._failed)
        self._unsent = content
        if self.opened:
            self._send_on()

    def read(self, mask: int) -> bytes | None:
        """What came; nothing at the connection's end, None if it isn't time for either. OSError: it is broken."""
        if not self.opened:
            self._open()
        if self._unsent and self.opened:
            self._send_on()
        if not (self.opened and mask & READ):
            return None
        try:
            data = self._socket.recv(_PIECE_BYTES)
            while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
                data += self._socket.recv(_PIECE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        return data

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._socket.close()

    def _open(self) -> None:
        """Go on with connecting, and with TLS's own beginning."""
        self._raise_if(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        if self._place.tls is not None and not self._shake_hands(self._place.tls):
            return
        self.opened = True
        self._want(READ)

    def _raise_if(self, number: int) -> None:
        if number not in _CONNECTING:
            raise OSError(number, os.strerror(number))

    def _shake_hands(self, context: ssl.SSLContext) -> bool:
        if not isinstance(self._socket, ssl.SSLSocket):
            self._selector.unregister(self._socket)
            self._socket = context.wrap_socket(
                self._socket, server_hostname=self._place.name, do_handshake_on_connect=False
            )
            self._selector.register(self._socket, WRITE, self._data)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._want(READ)
        except ssl.SSLWantWriteError:
            self._want(WRITE)
        else:
            return True
        return False

    def _send_on(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except (BrokenPipeError, ConnectionResetError):
            self._unsent = b""  # an answer may be here all the same, as a refusal of the body's size
        self._want(READ | WRITE if self._unsent else READ)

    def _want(self, mask: int) -> None:
        if mask != self._wanted:
            self._selector.modify(self._socket, mask, self._data)
            self._wanted = mask
