"""A running container: asked, watched and stopped."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from container.engine import Engine

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 10
"""What `docker stop` waits by itself before it kills."""
MEMORY_LIMIT = "768m"


@dataclass(frozen=True)
class Service:
    """A running container, and where it listens."""

    containers: Engine
    name: str
    port: int

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.containers.podman("inspect", "--format", "{{json .State}}", self.name)))

    def check_health(self) -> bool:
        """Run the image's health check."""
        return self.containers.attempt("healthcheck", "run", self.name).returncode == 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in the container."""
        return self.containers.attempt("exec", self.name, *command)

    def logs(self) -> str:
        done = self.containers.attempt("logs", self.name)
        return done.stdout + done.stderr

    def wait(self, told: str) -> None:
        """Until the log has this."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while told not in self.logs():
            assert self.state()["Running"], self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)

    def stop(self) -> float:
        """As `docker stop` does; the seconds that it took."""
        began_at = time.monotonic()
        self.containers.podman("stop", "--time", str(STOP_TIMEOUT_S), self.name)
        return time.monotonic() - began_at


@contextmanager
def started(containers: Engine, image: str, *options: str, port: int = 3000) -> Iterator[Service]:
    """A container without rights and with nothing to write to but /tmp."""
    bounds = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    bounds += ["--memory", MEMORY_LIMIT, "--memory-swap", MEMORY_LIMIT]
    name = containers.podman("run", "--detach", *bounds, *options, image).split()[-1]
    try:
        yield Service(containers, name, port)
    finally:
        containers.podman("rm", "--force", "--time", "1", name)
