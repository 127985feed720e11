"""One shape for all errors, and OpenAI's words in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mlspec_runtime.entrance import MOST_ARRIVING
from mlspec_runtime.errors import ServiceError
from runtime.bundles import limits
from runtime.services import running
from runtime.test_app import error_of, go

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "invalid_request_error"),
        (413, "invalid_request_error"),
        (415, "invalid_request_error"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
        (504, "server_error"),
    ],
)
def test_the_type_follows_from_the_status(status: int, expected: str) -> None:
    assert ServiceError("x", "x", status).type == expected


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (None, None),
        ("prompt", "prompt"),
        ("messages.0.role", "messages[0].role"),
        ("messages.12", "messages[12]"),
        ("tools.1.2", "tools[1][2]"),
        ("a.b2", "a.b2"),
    ],
)
def test_the_field_as_openai_writes_it(field: str | None, param: str | None) -> None:
    assert ServiceError("x", "x", 400, field=field).param == param


def test_a_body_has_all_that_is_known() -> None:
    details = {"allowed_tokens": 8, "prompt_tokens": 9}
    error = ServiceError("too_long", "too long", 400, field="prompt", retry_after_s=1.5, details=details)
    for one in (error, error.again()):
        assert one.body("predict", "r1") == {
            "error": {
                "operation": "predict",
                "code": "too_long",
                "type": "invalid_request_error",
                "message": "too long",
                "param": "prompt",
                "request_id": "r1",
                "field": "prompt",
                "details": details,
                "retry_after_s": 1.5,
            }
        }
        assert one.headers() == {"Retry-After": "2"}


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "code"),
    [
        ("GET", "/nowhere", b"", {}, 404, "not_found"),
        ("POST", "/health", b"", {}, 405, "method_not_allowed"),
        ("POST", "/metrics", b"", {}, 405, "method_not_allowed"),
        ("DELETE", "/docs", b"", {}, 405, "method_not_allowed"),
        ("OPTIONS", "/predict", b"", {}, 405, "method_not_allowed"),
        ("NONSENSE", "/predict", b"", {}, 405, "method_not_allowed"),
        ("POST", "/predict", b"{", JSON, 400, "bad_json"),
        ("POST", "/predict", b'{"text": "\xff"}', JSON, 400, "bad_json"),
        ("POST", "/predict", b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", "/predict", b"{}", {}, 415, "unsupported_media_type"),
        ("POST", "/predict", b"x" * 5000, JSON, 413, "body_too_large"),
        ("POST", "/nowhere", b"x" * 5000, JSON, 413, "body_too_large"),
        ("PUT", "/predict", b"x" * 5000, JSON, 413, "body_too_large"),
        ("POST", "/predict", b"{}", JSON, 422, "invalid_request"),
        ("POST", "/predict", b'{"text": "a", "fail": "unknown"}', JSON, 500, "internal"),
    ],
)
def test_each_way_to_fail(
    method: str, path: str, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.request(method, path, content=content, headers=headers)
            assert (response.status_code, error_of(response)["code"]) == (status, code)
            operation = error_of(response)["operation"]
            assert service.value(f'mlspec_errors_total{{code="{code}",endpoint="{operation}"}}') == 1

    go(check())


def test_the_limit_on_a_body_is_a_number_too() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict", content=b"x" * 5000, headers=JSON)
            assert error_of(response)["details"] == {"allowed_bytes": 4096}

    go(check())


def test_a_slow_body_is_given_up() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def check() -> None:
        async with running(limits=limits(timeout_s=0.1)) as service:
            response = await service.client.post("/predict", content=trickle(), headers=JSON)
            assert (response.status_code, error_of(response)["code"]) == (408, "body_timeout")

    go(check())


def test_bodies_on_their_way_are_bounded_together() -> None:
    """Each holds one byte less than it may; the one that is too much is refused, and nothing is left behind."""

    async def check() -> None:
        async with running(limits=limits(max_body_bytes=64)) as service:
            hold = asyncio.Event()
            arrived = 0

            async def slow() -> AsyncIterator[bytes]:
                nonlocal arrived
                arrived += 1
                yield b" " * 63
                await hold.wait()
                yield b" "

            async def post(content: Any) -> Any:
                return await service.client.post("/predict", content=content, headers=JSON)

            posts = [asyncio.create_task(post(slow())) for _ in range(MOST_ARRIVING + 1)]
            while arrived <= MOST_ARRIVING:
                await asyncio.sleep(0.01)
            refused = await post(b'{"text": "%s"}' % (b"a" * 50))
            assert (refused.status_code, error_of(refused)["code"]) == (503, "busy")
            assert refused.headers["retry-after"] == "1"
            hold.set()
            assert {(await one).status_code for one in posts} <= {400, 422}
            assert (await post(b'{"text": "a"}')).status_code == 200

    go(check())
