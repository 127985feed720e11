"""A bundle served by a process of its own: started, watched, asked and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import IO, Any

from mlspec.backends import Backend
from mlspec.descendants import descendants, signal_all
from mlspec.errors import CommandError
from mlspec.model.spec import Spec
from mlspec.runners import Runner
from mlspec_runtime.auth import key_problem
from mlspec_runtime.lifeline import LIFELINE_VARIABLE
from mlspec_runtime.plan import load_plan

STOP_TIMEOUT_S = 20
"""For a service that has nothing to do; what it has accepted may take as long again as its plan says."""
HURRIED_TIMEOUT_S = 10
"""After a second Ctrl-C: for the errors of those who are not done, and the end."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_S = 0.1
_PASSING = ("model_loading", "engine_stuck")
"""Codes of a service that may be healthy in a while (a slow computer's first token takes its time)."""

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past any proxy: the service is on this computer."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: `body` is its JSON, or its text where it is none."""

    status: int
    body: Any


def check_installed(backend: Backend, runner: Runner, model: Any, bundle: Path) -> None:
    """Raises CommandError if this Python lacks what the bundle imports."""
    missing = [name for name in (*backend.modules, *runner.modules(model)) if find_spec(name) is None]
    if missing:
        help = f"{sys.executable} -m pip install -r {bundle / 'requirements.txt'}"
        raise CommandError("not-installed", f"serving needs {', '.join(missing)}, not installed here", help)


def check_environment(bundle: Path) -> None:
    """Raises CommandError if a variable that the bundle's service needs isn't set here, or holds no good key. It is
    what the service checks itself, told before anything is started.
    """
    plan = load_plan(bundle)
    names = [name for name in plan.environment.required if not os.environ.get(name)]
    problem = f"not set in the environment: {', '.join(names)}" if names else key_problem(plan.auth, os.environ)
    if problem:
        raise CommandError("environment-missing", problem, "set it and start again" if names else "")


def address_of(host: str) -> str:
    """The IP address of a host's name, which is what BentoML takes.

    Raises:
        CommandError: there is none.
    """
    try:
        return str(socket.getaddrinfo(host or "localhost", None, type=socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError) as problem:
        help = "give an address of this computer, as 127.0.0.1"
        raise CommandError("no-such-host", f"there is no host '{host}'", help) from problem


def check_port(address: str, port: int) -> None:
    """Raises CommandError if something listens there already: BentoML would start over and over."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as problem:
            message = f"can't listen at {address}, port {port}: {(problem.strerror or str(problem)).lower()}"
            help = "give another with --port, or --host"
            raise CommandError("port-taken", message, help, failed=True) from problem


def url_of(address: str, port: int) -> str:
    """The URL of a service; an IPv6 address stands in brackets."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def free_port() -> int:
    """A port of the loopback interface that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str],
    bundle: Path,
    output: IO[bytes] | None = None,
    *,
    drain_s: float = 0,
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """The serving process, in a session of its own so that Ctrl-C reaches it once, by us; stopped at the end, for which
    it has `drain_s` more than a service that has nothing to do. It inherits `descriptors`. A service ends by itself if
    we are killed.

    SIGTERM, and the SIGHUP of a terminal that closes, end the block as Ctrl-C does: by KeyboardInterrupt.
    """
    environment = {**os.environ, "BENTOML_DO_NOT_TRACK": "true"}
    # The command line's own setting: a service may have plugins.
    environment.pop("PYDANTIC_DISABLE_PLUGINS", None)
    with _interrupted_by(*_ENDING), _lifeline() as held:
        process = subprocess.Popen(  # noqa: S603 - an argument list of our own
            command,
            cwd=bundle,
            env={**environment, LIFELINE_VARIABLE: str(held)},
            start_new_session=True,
            stdout=output,
            stderr=output,
            pass_fds=(*descriptors, held),
        )
        try:
            yield process
        finally:
            stop(process, STOP_TIMEOUT_S + drain_s)


@contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe for the service to read; ours ends with the block, or with us."""
    held, kept = os.pipe()
    try:
        yield held
    finally:
        os.close(held)
        os.close(kept)


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """These signals raise KeyboardInterrupt, SIGINT also where a shell has it ignored (jobs in the background)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(process: subprocess.Popen[bytes], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """SIGTERM, and after a bounded wait SIGKILL: no worker stays behind. Ctrl-C meanwhile hurries what serves, another
    one kills it.

    Raises:
        KeyboardInterrupt: there was a Ctrl-C; the service has ended.
    """
    try:
        if process.poll() is None:
            process.terminate()
            _wait(process, timeout_s)
    except KeyboardInterrupt:
        _hurry(process)
        raise
    finally:
        _kill(process)


def _hurry(process: subprocess.Popen[bytes]) -> None:
    """A worker that was told to end takes SIGINT to wait no longer; BentoML doesn't pass a second signal on."""
    sys.stderr.write(f"hurrying: what isn't done fails, and within {HURRIED_TIMEOUT_S:g} s the service is killed\n")
    signal_all(descendants(process.pid), signal.SIGINT)
    _wait(process, HURRIED_TIMEOUT_S)


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"the service didn't end within {timeout_s:g} s: it is killed\n")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """All that it has started with it. Its workers have sessions of their own, and are found only while it lives."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        workers = descendants(process.pid) if process.poll() is None else []
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        signal_all(workers, signal.SIGKILL)
        process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, timeout_s: float) -> None:
    """Return when `/health` answers 200.

    Raises:
        CommandError: the process ended, the model failed to load, or the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            message = f"the service ended at its start, exit code {process.returncode}"
            raise CommandError("service-ended", message, failed=True)
        answer = ask(f"{url}/health", timeout_s=max(1.0, deadline - time.monotonic()))
        if answer is not None and answer.status == 200:
            return
        if answer is not None and _is_final(answer):
            raise CommandError("service-unhealthy", f"the service can't answer: {_message(answer)}", failed=True)
        time.sleep(_POLL_S)
    raise CommandError("service-unhealthy", f"the service wasn't healthy within {timeout_s:.0f} s", failed=True)


def api_key(spec: Spec) -> str | None:
    """The key that this computer's environment has for the service; None if it asks for none, or none is set."""
    auth = spec.service.auth
    keys = os.environ.get(auth.api_key_env, "").split(",") if auth else []
    return next((key.strip() for key in keys if key.strip()), None)


def ask(
    url: str, body: Mapping[str, Any] | None = None, timeout_s: float = 60, *, key: str | None = None
) -> Answer | None:
    """GET, or POST with a JSON body; None if nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own http URL
    try:
        with _DIRECT.open(request, timeout=timeout_s) as answer:
            return Answer(answer.status, _decoded(answer.read()))
    except urllib.error.HTTPError as answer:
        return Answer(answer.code, _decoded(answer.read()))
    except (OSError, HTTPException):
        return None


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def _is_final(answer: Answer) -> bool:
    """What the service says of itself that waiting won't mend."""
    error = answer.body.get("error") if isinstance(answer.body, dict) else None
    return isinstance(error, dict) and error.get("code") not in _PASSING


def _message(answer: Answer) -> str:
    error = answer.body.get("error", {}) if isinstance(answer.body, dict) else {}
    return str(error.get("message") or answer.body)
