"""CORS: off unless the plan names origins, and then for them alone, errors too."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mlspec_runtime.cors import check_origins
from mlspec_runtime.plan import PlanError
from runtime.services import Service, running
from runtime.test_app import error_of, go

PAGE = "https://app.example.com"
KEYS: dict[str, Any] = {"auth": {"api_key_env": "KEYS"}, "environment": {"KEYS": "good-key-1"}}
BODY = {"text": "one"}


async def preflight(service: Service, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    return await service.client.options("/predict", headers=headers)


def allowed(response: httpx.Response) -> str | None:
    return response.headers.get("access-control-allow-origin")


def test_off_by_default() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict", json=BODY, headers={"Origin": PAGE})
            assert (response.status_code, allowed(response)) == (200, None)
            assert (await preflight(service, PAGE)).status_code == 405

    go(check())


def test_a_page_of_a_named_origin_may_ask_without_a_key_whether_it_may() -> None:
    async def check() -> None:
        async with running(cors_origins=[PAGE], **KEYS) as service:
            response = await preflight(service, PAGE)
            assert (response.status_code, allowed(response)) == (200, PAGE)
            assert response.headers["access-control-allow-methods"] == "GET, POST"
            assert response.headers["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
            assert "access-control-allow-credentials" not in response.headers
            assert "x-request-id" in response.headers

    go(check())


@pytest.mark.parametrize(
    ("origin", "method"),
    [
        ("https://evil.example.com", "POST"),
        ("https://app.example.com.evil.org", "POST"),
        ("http://app.example.com", "POST"),
        ("https://app.example.com:8443", "POST"),
        ("null", "POST"),
        (PAGE, "DELETE"),
    ],
)
def test_others_may_not(origin: str, method: str) -> None:
    async def check() -> None:
        async with running(cors_origins=[PAGE], **KEYS) as service:
            response = await preflight(service, origin, method)
            assert response.status_code == 400
            assert error_of(response)["code"] == "cors_refused"
            if origin != PAGE:
                assert allowed(response) is None
                answer = await service.client.post("/predict", json=BODY, headers={"Origin": origin})
                assert allowed(answer) is None

    go(check())


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, b"{}", 401),
        ({"X-API-Key": "good-key-1"}, b"{}", 422),
        ({"X-API-Key": "good-key-1"}, b"{", 400),
        ({"X-API-Key": "good-key-1"}, b" " * 5000, 413),
        ({"X-API-Key": "good-key-1"}, b'{"text": "a", "fail": "unknown"}', 500),
        ({"X-API-Key": "good-key-1"}, b'{"text": "a"}', 200),
    ],
)
def test_every_answer_can_be_read_by_the_page(headers: dict[str, str], content: bytes, status: int) -> None:
    async def check() -> None:
        async with running(cors_origins=[PAGE, "http://localhost:5173"], **KEYS) as service:
            all_headers = {"Origin": PAGE, "Content-Type": "application/json", **headers}
            response = await service.client.post("/predict", content=content, headers=all_headers)
            assert (response.status_code, allowed(response)) == (status, PAGE)
            assert response.headers["vary"] == "Origin"
            assert response.headers["access-control-expose-headers"] == "X-Request-ID, Retry-After"

    go(check())


def test_a_stream_can_be_read_by_any_page_if_all_are_named() -> None:
    async def check() -> None:
        async with running(cors_origins=["*"]) as service:
            response = await service.client.post("/predict/stream", json=BODY, headers={"Origin": PAGE})
            assert (response.status_code, allowed(response)) == (200, "*")

    go(check())


def test_a_form_of_another_page_is_not_taken() -> None:
    """What a browser sends without asking first, it may not send here."""

    async def check() -> None:
        async with running() as service:
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
                headers = {"Content-Type": kind, "Origin": "https://evil.example.com"}
                response = await service.client.post("/predict", content=b'{"text": "a"}', headers=headers)
                assert response.status_code == 415

    go(check())


@pytest.mark.parametrize("origins", [["https://a.example"], ["http://localhost:3000", "https://a.example"], ["*"], []])
def test_origins(origins: list[str]) -> None:
    check_origins(origins)


@pytest.mark.parametrize(
    "origins",
    [
        ["*", "https://a.example"],
        ["a.example"],
        ["https://a.example/"],
        ["https://*.example"],
        ["https://a.example\n"],
        ["ftp://a.example"],
        ["https://user@a.example"],
    ],
)
def test_what_is_no_origin(origins: list[str]) -> None:
    with pytest.raises(PlanError, match="cors_origins"):
        check_origins(origins)
