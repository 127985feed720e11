"""An HTTP/1 answer as it comes in: its head, and its body's pieces with the time at which each came."""

from __future__ import annotations

_HEAD_BYTES = 65536


class HttpAnswer:
    """Fed with what was read from a connection. Nothing of a body is looked at here: that can wait until the load is
    over.

    Raises ValueError where what comes is no HTTP.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[float, bytes]] = []
        self.finished = False
        self._head = b""
        self._chunks: _Chunks | None = None
        self._left_bytes: int | None = None

    @property
    def begun(self) -> bool:
        """Whether anything came."""
        return bool(self._head or self.status)

    @property
    def keeps_connection(self) -> bool:
        """Whether another request may follow on the connection."""
        wanted = self.headers.get("connection", "").lower()
        bounded = self._chunks is not None or self._left_bytes is not None
        return self.finished and bounded and (wanted == "keep-alive" or (self._is_http11 and wanted != "close"))

    def feed(self, data: bytes, at: float) -> None:
        """Take what was read at that time."""
        if not self.status:
            self._head += data
            data = self._read_head()
        if data and self.status:
            self._read_body(data, at)

    def end_of_input(self) -> None:
        """The service has closed the connection: for a body without a length that is its end."""
        self.finished = self.finished or (bool(self.status) and self._chunks is None and self._left_bytes is None)

    def _read_head(self) -> bytes:
        """Parse the head once it is whole; the rest is the body's begin."""
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(head) > _HEAD_BYTES:
                raise ValueError("the head is endless")
            return b""
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = f"{first} ".split(" ")
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise ValueError("no HTTP")
        if int(status) < 200:
            self._head = rest
            return self._read_head()
        self._is_http11 = version != "HTTP/1.0"
        self.status = int(status)
        pairs = (line.partition(":") for line in lines)
        self.headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self._choose_framing()
        return rest

    def _choose_framing(self) -> None:
        length = self.headers.get("content-length", "")
        if self.status in (204, 304):
            length = "0"
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._chunks = _Chunks()
        elif length:
            self._left_bytes = int(length)
            self.finished = self._left_bytes == 0

    def _read_body(self, data: bytes, at: float) -> None:
        if self._chunks is not None:
            data = self._chunks.feed(data)
            self.finished = self._chunks.finished
        elif self._left_bytes is not None:
            self._left_bytes -= len(data)
            self.finished = self._left_bytes <= 0
        if data:
            self.pieces.append((at, data))


class _Chunks:
    """A body in chunked coding (RFC 9112, 7.1), decoded however it is cut."""

    def __init__(self) -> None:
        self.finished = False
        self._rest = b""
        self._left = 0
        self._line_end = 0
        self._in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """What of the body is in it."""
        data, self._rest = self._rest + data, b""
        found, at = [], 0
        while at < len(data) and not self.finished:
            if self._left:
                found.append(data[at : at + self._left])
                at += len(found[-1])
                self._took(len(found[-1]))
            elif self._line_end:
                taken = min(self._line_end, len(data) - at)
                at, self._line_end = at + taken, self._line_end - taken
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._rest = data[at:]
                    break
                self._read_line(data[at:end])
                at = end + 2
        return found[0] if len(found) == 1 else b"".join(found)

    def _took(self, count: int) -> None:
        self._left -= count
        if not self._left:
            self._line_end = 2

    def _read_line(self, line: bytes) -> None:
        if self._in_trailer:
            self.finished = not line
            return
        self._left = int(line.partition(b";")[0], 16)
        self._in_trailer = not self._left
