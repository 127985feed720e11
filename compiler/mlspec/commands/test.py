"""`mlspec test`: build and serve a spec, run its tests against the service, stop it."""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass
from subprocess import Popen
from typing import IO

from mlspec.commands.serve import built_for_host
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK
from mlspec.model.spec import Expectation, TestCase
from mlspec.serving import Answer, api_key, ask, check_environment, free_port, running, wait_until_healthy

START_TIMEOUT_S = 600
_LOGGED = ("model_error", "bad_output", "step_failed")
"""Of errors: those that the log tells more of than the answer."""
_LOG_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Outcome:
    """One test's result: what was answered, what of its expectation didn't hold, whether the log says why."""

    name: str
    latency_s: float
    answer: str
    faults: tuple[str, ...]
    is_logged: bool = False

    def __str__(self) -> str:
        mark = "FAILED" if self.faults else "passed"
        below = [self.answer, *self.faults]
        return "\n".join(
            [f"{mark}  {self.name}  {self.latency_s * 1000:.0f} ms", *(f"        {b}" for b in below if b)]
        )


def run(options: Namespace) -> int:
    built = built_for_host(options)
    if isinstance(built, int):
        return built
    checked, folder = built
    tests = checked.spec.tests
    if not tests:
        raise CommandError("no-tests", f"{checked.document.shown} has no tests", "add some under 'tests:'")
    check_environment(folder)
    port = free_port()
    command = checked.backend.command(sys.executable, "127.0.0.1", port)
    with tempfile.TemporaryFile() as log, running(command, folder, log) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_healthy(process, url, START_TIMEOUT_S)
            key = api_key(checked.spec)
            outcomes = [_tried(test, number, url, process, key) for number, test in enumerate(tests, 1)]
        except CommandError:
            sys.stderr.write(tail(log))
            raise
        if any(outcome.faults and outcome.is_logged for outcome in outcomes):
            sys.stderr.write(tail(log))
    failed = sum(bool(outcome.faults) for outcome in outcomes)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return FINDINGS if failed else OK


def _tried(test: TestCase, number: int, url: str, process: Popen[bytes], key: str | None) -> Outcome:
    """Ask and judge. Raises CommandError if the service ended instead of answering."""
    wanted = test.expect
    begin = time.monotonic()
    answer = ask(f"{url}/predict", test.predict, timeout_s=(wanted.max_latency_s or 600) + 60, key=key)
    latency_s = time.monotonic() - begin
    if answer is None and process.poll() is not None:
        message = f"the service ended in its tests, exit code {process.returncode}"
        raise CommandError("service-ended", message, failed=True)
    faults = ("nobody answered",) if answer is None else tuple(_faults(wanted, answer, latency_s))
    outcome = Outcome(test.name or f"test {number}", latency_s, _said(answer), faults, _is_logged(answer))
    print(outcome, flush=True)
    return outcome


def _faults(wanted: Expectation, answer: Answer, latency_s: float) -> list[str]:
    body = answer.body if isinstance(answer.body, dict) else {}
    text = str(body.get("text", ""))
    found = []
    if answer.status != wanted.status:
        found.append(f"status {answer.status}, expected {wanted.status}: {_short(answer.body)}")
    if wanted.contains is not None and wanted.contains not in text:
        found.append(f"the text lacks {wanted.contains!r}: {_short(text)}")
    if wanted.equals is not None and wanted.equals != body.get("text", body.get("outputs")):
        found.append(f"expected {wanted.equals!r}, got {_short(body.get('text', body.get('outputs')))}")
    if wanted.finish_reason is not None and wanted.finish_reason != body.get("finish_reason"):
        found.append(f"finish_reason {body.get('finish_reason')!r}, expected {wanted.finish_reason!r}")
    if wanted.max_latency_s is not None and latency_s > wanted.max_latency_s:
        found.append(f"took {latency_s:.2f} s, at most {wanted.max_latency_s:g} s expected")
    return found


def _said(answer: Answer | None) -> str:
    """The answer in a line: the text, the tensors, or the error."""
    body = answer.body if answer and isinstance(answer.body, dict) else {}
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else body.get("text", body.get("outputs"))
    return "" if said is None else _short(said)


def _is_logged(answer: Answer | None) -> bool:
    body = answer.body if answer and isinstance(answer.body, dict) else {}
    error = body.get("error")
    return isinstance(error, dict) and error.get("code") in _LOGGED


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"


def tail(log: IO[bytes]) -> str:
    """The end of what the service said: why it didn't start, or what its model's code raised."""
    size = log.seek(0, 2)
    log.seek(max(0, size - _LOG_TAIL_BYTES))
    return log.read().decode("utf-8", "replace")
