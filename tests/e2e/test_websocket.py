"""A WebSocket handshake is refused at once and leaves nothing behind, in a service that is served."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from e2e.operating import BENTOML, Operated, of_tests, operated, tiny_bundle

pytestmark = pytest.mark.e2e

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ANSWER_S = 20
END_S = 30
"""A service that hangs ends by force, later than this."""


def answer_of(service: Operated, path: str) -> bytes:
    """All that a handshake gets, until the service closes the connection."""
    url = service.client.base_url
    with socket.create_connection((url.host, url.port or 80), ANSWER_S) as connection:
        connection.sendall(HANDSHAKE.format(path=path).encode())
        parts = iter(lambda: connection.recv(65536), b"")
        return b"".join(parts)


def test_a_handshake_is_refused_at_once_and_nothing_stays(tmp_path: Path) -> None:
    with operated(BENTOML, tiny_bundle(tmp_path, of_tests("mortal_runner")), tmp_path / "log") as service:
        for path in ("/health", "/predict", "/metrics", "/livez", "/nothing"):
            assert answer_of(service, path).startswith(b"HTTP/1.1 403 "), path
        assert service.client.post("/predict", json={"text": "one"}).status_code == 200
        told = service.client.get("/metrics").text
        gauges = re.findall(r"^\w+_(?:in_progress|connections)\{.*\} (\S+)$", told, re.MULTILINE)
        assert gauges
        assert {float(gauge) for gauge in gauges} == {0.0}
        service.terminate()
        assert service.process.wait(END_S) == 0
        assert "given up" not in service.log.read_text()
