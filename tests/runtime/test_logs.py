"""The log: a line a request, JSON if asked for, nothing forged, and no prompt unless asked for."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlspec_runtime import logs
from mlspec_runtime.plan import Logging, ServiceInfo
from mlspec_runtime.redaction import BODIES, Bodies
from mlspec_runtime.request_info import RequestInfo
from runtime.bundles import limits
from runtime.services import running
from runtime.test_app import go, leave_early

SERVICE = ServiceInfo("demo", "tests", "here")
SECRET = "Meine Kontonummer lautet DE02120300000000202051, bitte „geheim“ halten"
FORMATS = ("text", "json")


class Log(io.StringIO):
    """What was written to a log."""

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["logger"] == logger]


@contextmanager
def log_of(format: str, *, prompts: bool = False, tracing: bool = False) -> Iterator[Log]:
    """All that any logger writes, in the format, from its lowest level on."""
    log = Log()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(asctime)s [%(levelname)s] %(message)s"))
    # Of the test's own client.
    handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
    settings = Logging("json" if format == "json" else "text", prompts)
    logs.configure(settings, SERVICE, tracing=tracing, handlers=[handler])
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def test_a_json_line_has_time_level_logger_message_and_service() -> None:
    with log_of("json") as log:
        logging.getLogger("mlspec.x").warning("so %d\nand so", 2, extra={"fields": {"a": 1}})
    (line,) = log.getvalue().splitlines()
    record = json.loads(line)
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "WARNING",
        "logger": "mlspec.x",
        "message": "so 2\nand so",
        "service": "demo",
        "project": "tests",
        "target": "here",
        "a": 1,
    }


def test_a_request_has_a_line_with_what_is_known() -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            headers = {"X-Request-ID": "r1"}
            await service.client.post("/predict?why=secret", json={"text": "a b", "times": 2}, headers=headers)
            await service.client.post("/predict", json={}, headers=headers)
            await service.client.get("/nowhere/secret", headers=headers)
            await service.client.request("SECRET", "/predict", headers=headers)
        first, *others = log.of("mlspec.access")
        assert first.pop("duration_s") > 0
        told = {key: first[key] for key in ("method", "path", "status", "tokens_in", "tokens_out", "request_id")}
        assert list(told.values()) == ["POST", "/predict", 200, 4, 4, "r1"]
        assert "error" not in first
        assert [(o["method"], o["path"], o["status"], o["error"]) for o in others] == [
            ("POST", "/predict", 422, "invalid_request"),
            ("GET", "other", 404, "not_found"),
            ("other", "/predict", 405, "method_not_allowed"),
        ]
        assert "secret" not in log.getvalue().lower()

    with log_of("json") as log:
        go(check(log))


def test_in_text_the_line_says_the_same() -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            await service.client.post("/predict", json={"text": "a b"}, headers={"X-Request-ID": "r1"})
        (line,) = [line for line in log.getvalue().splitlines() if "POST" in line]
        assert "[INFO] POST /predict 200 (" in line
        assert line.endswith(" ms, tokens_in 2, tokens_out 2) request r1")

    with log_of("text") as log:
        go(check(log))


def test_probes_are_told_only_if_they_fail() -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            await service.client.get("/health")
            service.runner.broken = True  # type: ignore[attr-defined]
            await service.client.get("/health")
        assert [(r["level"], r["status"]) for r in log.of("mlspec.access")] == [("DEBUG", 200), ("INFO", 503)]

    with log_of("json") as log:
        go(check(log))


def test_lines_within_a_request_have_its_id() -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            body = {"text": "a", "fail": "unknown"}
            posts = [service.client.post("/predict", json=body, headers={"X-Request-ID": f"r{n}"}) for n in range(5)]
            await asyncio.gather(*posts)
        failed = log.of("mlspec.http")
        assert sorted(record["request_id"] for record in failed) == [f"r{n}" for n in range(5)]
        assert all(record["request_id"] in record["message"] for record in failed)
        assert all(record["exception"].endswith("RuntimeError: secret detail") for record in failed)

    with log_of("json") as log:
        go(check(log))


FORGED = "x\n2026-01-01 [INFO] root logged in\r\x1b[31m\x85\u2028y\u202e"


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_forges_a_line(format: str) -> None:
    with log_of(format) as log:
        logging.getLogger("some.library").info("got %s", FORGED)
        try:
            raise ValueError(FORGED)
        except ValueError as error:
            raised = error
        logging.getLogger("some.library").error("failed", exc_info=raised)
    lines = log.getvalue().split("\n")
    assert not any(line.startswith("2026-01-01") for line in lines)
    assert not any(sign in log.getvalue() for sign in "\r\x1b\x85\u2028\u202e")
    if format == "json":
        first, second = log.records()
        assert first["message"] == f"got {FORGED}"
        assert "root logged in" in second["exception"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_path_or_an_id_of_the_clients_choice_is_in_no_line(format: str) -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            await service.client.get("/a%0a2026-01-01%20forged", headers=[(b"x-request-id", b"forged forged")])
        assert "forged" not in log.getvalue()

    with log_of(format) as log:
        go(check(log))


@pytest.mark.parametrize("format", FORMATS)
def test_a_prompt_is_in_no_log(format: str) -> None:
    """Success, every error, a client that leaves, a deadline, a crash: none tells what was asked."""

    async def check() -> None:
        async with running(limits=limits(timeout_s=0.3)) as service:
            for path in ("/predict", "/predict/stream"):
                for fault in ("no", "known", "late", "unknown", "repeats", "crash"):
                    await service.client.post(path, json={"text": SECRET, "fail": fault})
                await service.client.post(path, json={"text": [SECRET], SECRET: 1})
                await service.client.post(path, content=SECRET, headers={"Content-Type": "application/json"})
                await service.client.post(path, content=json.dumps({"text": SECRET}))
                late = await service.client.post(path, json={"text": SECRET, "times": 9, "pause_s": 0.05})
                assert late.status_code in (200, 504)
                await leave_early(service, path, SECRET, leave_when=lambda sent: service.runner.stats().running)
            headers = {"X-Request-ID": "DE021203 geheim", "User-Agent": "DE02120300000000202051"}
            await service.client.get(f"/{SECRET}", params={"q": SECRET}, headers=headers)

    with log_of(format) as log:
        go(check())
    text = log.getvalue()
    assert text.count("/predict") > 10
    assert "RuntimeError: can't make anything of '[from the request]'" in text
    assert "RuntimeError: no word for '[from the request]'" in text
    for piece in ("Kontonummer", "DE021203", "geheim", "halten", "Meine"):
        assert piece not in text, [line for line in text.splitlines() if piece in line]


def test_with_prompts_on_both_are_told_and_cut() -> None:
    async def check(log: Log) -> None:
        async with running(
            logging={"format": "json", "prompts": True}, limits=limits(max_body_bytes=99_999)
        ) as service:
            await service.client.post("/predict", json={"text": "what?"}, headers={"X-Request-ID": "r1"})
            await service.client.post("/predict", json={"text": "x" * 9000}, headers={"X-Request-ID": "r2"})
            await service.client.get("/health")
        asked, answered, asked_long, answered_long = log.of("mlspec.prompts")
        assert asked["message"].startswith('request: {"text"')
        assert answered["message"] == 'answer: {"text":"what?","words":1}'
        assert (asked["request_id"], answered["request_id"]) == ("r1", "r1")
        for record in (asked_long, answered_long):
            assert len(record["message"]) < 4200
            assert record["message"].endswith("xx…")

    with log_of("json", prompts=True) as log:
        go(check(log))


def test_by_default_no_body_is_told() -> None:
    async def check(log: Log) -> None:
        async with running() as service:
            await service.client.post("/predict", json={"text": "what?"})
        assert log.of("mlspec.prompts") == []
        assert "what?" not in log.getvalue()

    with log_of("json") as log:
        go(check(log))


@pytest.mark.parametrize(
    ("body", "text", "expected"),
    [
        (b'{"text": "tell nobody of this"}', "bad: 'tell nobody of this'", "bad: '[from the request]'"),
        (b'{"text": "tell nobody of this"}', "bad: 'tell nobody of th…", "bad: '[from the request]…"),
        (b'{"a": [{"b": ["geheim"]}]}', "no 'geheim' here", "no '[from the request]' here"),
        (b'{"text": "short"}', "a short one", "a short one"),
        (b"no JSON at all, but mine", "at 'SON at all, but'", "at '[from the request]'"),
        ('{"text": "größer als gedacht"}'.encode(), "größer als gedacht!", "[from the request]!"),
        (b'{"text": "another thing entirely"}', "KeyError: 'weights'", "KeyError: 'weights'"),
    ],
)
def test_what_a_request_holds_is_left_out(body: bytes, text: str, expected: str) -> None:
    bodies = Bodies()
    with bodies.holding(RequestInfo("r", "predict", 0.0, body=body)):
        assert bodies.without(text) == expected
    assert bodies.without(text) == text


def test_a_body_is_left_out_as_long_as_a_runner_is_at_it() -> None:
    class Work:
        pass

    bodies, work = Bodies(), Work()
    bodies.keep(RequestInfo("r", "predict", 0.0, body=b'{"text": "tell nobody of this"}'), work)
    assert bodies.without("tell nobody of this") == "[from the request]"
    del work
    gc.collect()
    assert bodies.without("tell nobody of this") == "tell nobody of this"


def test_bodies_are_forgotten_with_their_requests() -> None:
    async def check() -> None:
        async with running() as service:
            for fault in ("no", "late", "unknown"):
                await service.client.post("/predict", json={"text": "some words to forget", "fail": fault})
            # The runner's thread has its last job in hand until the next one comes.
            await service.client.post("/predict", json={"text": "x"})
            gc.collect()
            assert BODIES.without("some words to forget") == "some words to forget"

    go(check())


def test_other_loggers_write_the_same_way() -> None:
    logger, log = logging.getLogger("uvicorn.error"), Log()
    handler = logging.StreamHandler(log)
    logger.addHandler(handler)
    before = {h: h.formatter for h in logging.getLogger().handlers}
    try:
        logs.configure(Logging("json"), SERVICE)
        logger.warning("Invalid HTTP request received.")
    finally:
        logger.removeHandler(handler)
        for other, formatter in before.items():
            other.setFormatter(formatter)
    assert log.of("uvicorn.error")[0]["message"] == "Invalid HTTP request received."


@pytest.fixture
def level() -> Iterator[None]:
    own = logging.getLogger("mlspec")
    before = own.level
    yield
    own.setLevel(before)


@pytest.mark.parametrize(
    ("name", "expected"), [(None, "INFO"), ("", "INFO"), ("debug", "DEBUG"), ("Error", "ERROR"), ("loud", "INFO")]
)
def test_a_level_that_is_none_is_told_once(
    name: str | None, expected: str, level: None, caplog: pytest.LogCaptureFixture
) -> None:
    logs.set_level(name)
    assert logging.getLevelName(logging.getLogger("mlspec").level) == expected
    told = ["there is no log level 'loud', so it is INFO; the levels are DEBUG, INFO, WARNING, ERROR, CRITICAL"]
    assert caplog.messages == (told if name == "loud" else [])
