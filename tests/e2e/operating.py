"""Services of the tiny model that are run, disturbed and ended as an operator's are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlspec.serving import free_port, running
from projects import example

TESTS = Path(__file__).parents[1]
BENTOML = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
WORKER = "_bentoml_impl.worker.service"


def tiny_bundle(folder: Path, change: Callable[[dict[str, Any]], None] = lambda runtime: None) -> Path:
    """The bundle of the example for Linux, with its plan's block `runtime` changed."""
    project = example(folder / "project")
    command = [sys.executable, "-m", "mlspec", "build", "specs/lora.yaml", "--target", "linux"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    bundle = project / done.stdout.strip()
    plan = json.loads((bundle / "plan.json").read_text())
    change(plan["runtime"])
    (bundle / "plan.json").write_text(json.dumps(plan))
    return bundle


def of_tests(module: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    """Another runner, one of `tests/runtime`, in the bundle."""

    def change(runtime: dict[str, Any]) -> None:
        runtime["runner"] = {"name": module, "module": f"runtime.{module}", "settings": settings}
        runtime["endpoints"] = ["predict", "stream"]

    return change


@dataclass
class Operated:
    """A running service: its process (the one that starts others), and a client."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path

    @property
    def worker(self) -> psutil.Process:
        """The process that serves now."""
        workers = [child for child in psutil.Process(self.process.pid).children(recursive=True) if _serves(child)]
        assert len(workers) == 1
        return workers[0]

    def status(self, path: str) -> int | None:
        """The HTTP status; None where nobody answers."""
        try:
            return self.client.get(path, timeout=5).status_code
        except httpx.TransportError:
            return None

    def code(self) -> str | None:
        """What /health has as its error's code."""
        try:
            error = self.client.get("/health", timeout=20).json().get("error")
        except httpx.TransportError:
            return None
        return error["code"] if error else None

    def series(self, name: str) -> float | None:
        """The value of a series, its labels with it; None where it isn't, or nobody answers."""
        try:
            lines = self.client.get("/metrics").text.splitlines()
        except httpx.TransportError:
            return None
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + " ")), None)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def _serves(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and WORKER in process.cmdline()
    except psutil.NoSuchProcess:
        return False


@contextmanager
def operated(command: list[str], folder: Path, log: Path, **environment: str) -> Iterator[Operated]:
    """The service that a command serves, once it is ready."""
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, log.open("w+b") as output:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        for name, value in environment.items():
            patch.setenv(name, value)
        with (
            running([*command, "--port", str(port)], folder, output) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
        ):
            service = Operated(process, client, log)
            until(lambda: service.status("/readyz") == 200, 300, log)
            yield service


def until(condition: Callable[[], bool], timeout_s: float, log: Path) -> float:
    """Poll until it holds; the seconds that it took. AssertionError, with the log, past the time."""
    began_at = time.monotonic()
    while not condition():
        assert time.monotonic() - began_at < timeout_s, log.read_text(errors="replace")
        time.sleep(0.1)
    return time.monotonic() - began_at
