"""The image of specs/lora.yaml, run: it answers, without rights, within bounds, and stops when told.

`MLSPEC_CONTAINER_TESTS=off` leaves the tests of this folder out; everywhere else a machine that can't run them fails
them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container.conftest import Measure
from container.engine import Engine
from container.service import STOP_TIMEOUT_S, Service, started
from mlspec.serving import ask, free_port

pytestmark = pytest.mark.container

USER_ID = "10001"
MAX_MEMORY_BYTES = 500_000_000
"""Measured are 180 MB."""


@pytest.fixture(scope="module")
def service(containers: Engine, image: str, models: Path, measure: Measure) -> Iterator[Service]:
    """The image on the host's network, so that the tests reach it: at loopback alone, at a free port."""
    port = free_port()
    options = ["--network", "host", "--env", "HOST=127.0.0.1", "--env", f"PORT={port}"]
    began_at = time.monotonic()
    with started(containers, image, *options, "--volume", f"{models}:/models:ro", port=port) as made:
        made.wait("is ready")
        measure(f"ready {time.monotonic() - began_at:.1f} s after its start")
        yield made


def predict(service: Service, **body: Any) -> dict[str, Any]:
    answer = ask(f"http://127.0.0.1:{service.port}/predict", body)
    assert answer is not None
    assert answer.status == 200, answer.body
    return dict(answer.body)


def test_the_model_answers_with_its_adapter(service: Service) -> None:
    answer = predict(service, prompt="Where is my order?")
    assert answer["adapter"] == "support"
    assert answer["text"] == "Thank you for asking! Your order is on its way and arrives within two days."
    assert answer["finish_reason"] == "stop"
    assert predict(service, prompt="Where is my order?", adapter="base")["text"] != answer["text"]


def test_the_health_check_passes(service: Service) -> None:
    assert service.check_health()
    # Nothing listens there: a check that asks a port of its own choice would be about some other server.
    assert service.run("env", f"PORT={free_port()}", *health_command(service)).returncode != 0


def health_command(service: Service) -> list[str]:
    found = service.containers.podman("inspect", "--format", "{{json .Config.Healthcheck.Test}}", service.name)
    kind, *command = json.loads(found)
    assert kind == "CMD"
    return list(command)


def test_it_runs_without_rights(service: Service) -> None:
    process = Path("/proc", str(service.state()["Pid"]), "status").read_text()
    assert re.search(rf"^Uid:\t{USER_ID}\t{USER_ID}\t{USER_ID}\t{USER_ID}$", process, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", process, re.MULTILINE)
    # The server itself, not a shell around it, or the signal to stop would not reach it.
    assert service.run("cat", "/proc/1/comm").stdout == "bentoml\n"
    assert service.run("touch", "/models/x").returncode != 0


def test_it_needs_little_memory(service: Service, measure: Measure) -> None:
    predict(service, prompt="Where is my order?")
    found = service.containers.podman("stats", "--no-stream", "--format", "{{.MemUsageBytes}}", service.name)
    number, unit = re.fullmatch(r"([\d.]+)(MiB|GiB) / .*", found.strip()).groups()  # type: ignore[union-attr]
    memory_bytes = float(number) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit]
    measure(f"{memory_bytes / 1e6:.0f} MB of memory")
    assert memory_bytes < MAX_MEMORY_BYTES
    assert not service.state()["OOMKilled"]


def test_it_stops_when_told(service: Service, measure: Measure) -> None:
    """The last that this container does."""
    stop_s = service.stop()
    measure(f"stopped in {stop_s:.1f} s")
    assert stop_s < STOP_TIMEOUT_S
    assert service.state()["ExitCode"] == 0, service.logs()


def test_by_itself_it_listens_everywhere_and_says_what_is_missing(containers: Engine, image: str) -> None:
    """Without models, in a network of its own, where all interfaces are the container's."""
    with started(containers, image, "--network", "none") as service:
        service.wait("not ready")
        assert not service.check_health()
        assert "model 'base'" in service.logs()
        sockets = service.run("cat", "/proc/net/tcp").stdout
        assert f" 00000000:{3000:04X} 00000000:0000 0A " in sockets
        assert service.stop() < STOP_TIMEOUT_S
        assert service.state()["ExitCode"] == 0, service.logs()
