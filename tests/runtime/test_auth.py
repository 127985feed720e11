"""API keys: read from the environment, wanted before a body is read, told nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from mlspec_runtime.auth import Keys, given_keys, key_problem, keys_from
from mlspec_runtime.plan import Auth
from runtime.services import running, wait_until
from runtime.test_app import error_of, go

AUTH = {"api_key_env": "DEMO_KEYS"}
KEYS = {"DEMO_KEYS": " first-key-1 ,, second-key-2,"}
BODY = {"text": "one"}


def test_several_keys_lie_between_commas() -> None:
    assert list(given_keys(Auth("DEMO_KEYS"), KEYS)) == ["first-key-1", "second-key-2"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "DEMO_KEYS is not set"),
        ("", "DEMO_KEYS is not set"),
        (" , ,", "DEMO_KEYS is not set"),
        ("long-enough,short", "fewer than 8 characters"),
        ("1234567", "fewer than 8 characters"),
    ],
)
def test_without_good_keys_the_service_does_not_start(value: str | None, expected: str) -> None:
    environment = {} if value is None else {"DEMO_KEYS": value}
    problem = key_problem(Auth("DEMO_KEYS"), environment)
    assert problem is not None
    assert expected in problem
    assert "1234567" not in problem
    assert "short," not in problem
    keys = keys_from(Auth("DEMO_KEYS"), environment)
    assert keys is not None
    assert not keys.knows(b"long-enough")


def test_good_keys_are_no_problem() -> None:
    assert key_problem(Auth("DEMO_KEYS"), KEYS) is None
    assert key_problem(None, {}) is None
    assert keys_from(None, KEYS) is None


def test_keys_are_known_whole_and_only_whole() -> None:
    keys = Keys(["first-key-1", "schlüssel-€"])
    assert keys.knows(b"first-key-1")
    assert keys.knows("schlüssel-€".encode())
    assert not any(
        map(keys.knows, (b"", b"first-key-", b"first-key-11", b"First-key-1", "schlüssel-€".encode("utf-16")))
    )
    assert "first" not in repr(vars(keys))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key-1"},
        {"authorization": "bearer  second-key-2 "},
        {"X-API-Key": "second-key-2"},
        {"X-API-Key": "wrong-key", "Authorization": "Bearer first-key-1"},
    ],
)
def test_a_key_opens(headers: dict[str, str]) -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            response = await service.client.post("/predict", json=BODY, headers=headers)
            assert (response.status_code, response.json()["text"]) == (200, "one")

    go(check())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong-key-1"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer"},
        {"Authorization": "first-key-1"},
        {"Authorization": "Basic first-key-1"},
        {"Authorization": "Bearer first-key-1,second-key-2"},
        {"X-API-Key": ""},
        {"X-API-Key": " first-key-1 ,, second-key-2,"},
        {"Cookie": "X-API-Key=first-key-1"},
    ],
)
def test_without_one_the_answer_is_always_the_same(headers: dict[str, str]) -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            response = await service.client.post("/predict", json=BODY, headers={**headers, "X-Request-ID": "r1"})
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert error_of(response) == {
                "operation": "predict",
                "code": "unauthorized",
                "type": "authentication_error",
                "message": "send an API key: Authorization: Bearer KEY, or X-API-Key: KEY",
                "param": None,
                "request_id": "r1",
            }
            assert service.value('mlspec_errors_total{code="unauthorized",endpoint="predict"}') == 1

    go(check())


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/predict"), ("POST", "/predict/stream"), ("GET", "/predict"), ("GET", "/nowhere"), ("GET", "/health/")],
)
def test_what_wants_a_key(method: str, path: str) -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            assert (await service.client.request(method, path)).status_code == 401

    go(check())


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/docs.json", "/docs/start.js", "/docs/swagger-ui.css"])
def test_what_is_open(path: str) -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            response = await service.client.get(path)
            assert response.status_code == 200
            assert "first-key" not in response.text

    go(check())


def test_no_body_is_read_without_a_key() -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                raise AssertionError("the body was asked for")

            async def send(message: Any) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"content-length", b"999999")]}
            await service.app(scope, receive, send)
            assert sent[0]["status"] == 401

    go(check())


def test_a_service_without_keys_answers_503_and_says_which_variable(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment={"DEMO_KEYS": "tiny"}, wait=False) as service:
            wait_until(lambda: "not ready" in caplog.text)
            response = await service.client.get("/health")
            error = error_of(response)
            assert (response.status_code, error["code"]) == (503, "environment_missing")
            assert "DEMO_KEYS" in error["message"]
            assert "tiny" not in response.text + caplog.text

    go(check())


def test_the_documents_say_how_a_key_is_shown() -> None:
    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            document = (await service.client.get("/docs.json")).json()
            assert document["components"]["securitySchemes"] == {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            predict = document["paths"]["/predict"]["post"]
            assert predict["security"] == [{"bearer": []}, {"key": []}]
            assert "401" in predict["responses"]
            for path in ("/health", "/metrics", "/livez"):
                assert document["paths"][path]["get"]["security"] == []
        async with running() as service:
            assert "securitySchemes" not in (await service.client.get("/docs.json")).json()["components"]

    go(check())


def test_keys_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def check() -> None:
        async with running(auth=AUTH, environment=KEYS) as service:
            for key in ("first-key-1", "wrong-key-1"):
                for body in (BODY, {"text": "a", "fail": "unknown"}, {}):
                    headers = {"Authorization": f"Bearer {key}", "X-API-Key": key}
                    await service.client.post("/predict", json=body, headers=headers)
            await asyncio.sleep(0)

    go(check())
    told = caplog.text + json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert "POST /predict 401" in told
    assert "first-key" not in told
    assert "wrong-key" not in told
