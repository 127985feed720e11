"""A heat wave over a real service: the tools of macOS are played by scripts, all else is what runs on a Mac."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.conftest import served
from projects import example

pytestmark = pytest.mark.e2e

CLIENTS = 12
ENDLESS = {"prompt": "Tick forever.", "adapter": "base", "max_tokens": 48}
GOVERNOR = {
    "reader": "macos",
    "cooling": "laptop",
    "poll_s": 0.2,
    "recover_s": 1.5,
    # The test's computer has other work to do, too.
    "slowdown": 0.01,
    "retry_after_s": 2.0,
}
POWER = "System-wide power settings:\nCurrently in use:\n lowpowermode         0\n displaysleep         10\n"
BATTERY = (
    "Now drawing from 'AC Power'\n -InternalBattery-0 (id=22806627)\t92%; charging; 0:44 remaining present: true\n"
)
NOTIFYUTIL = """#!/bin/sh
[ "$*" = "-g com.apple.system.thermalpressurelevel" ] || exit 64
echo "com.apple.system.thermalpressurelevel $(cat "$(dirname "$0")/level")"
"""
PMSET = """#!/bin/sh
case "$*" in
  "-g") cat "$(dirname "$0")/power" ;;
  "-g batt") cat "$(dirname "$0")/battery" ;;
  *) exit 64 ;;
esac
"""


class Mac:
    """A folder with the two tools, and what they print."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name, script in (("notifyutil", NOTIFYUTIL), ("pmset", PMSET)):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        self.set("power", POWER)
        self.set("battery", BATTERY)
        self.set("level", "0")

    def set(self, name: str, text: str) -> None:
        """Exchange the text in one go: a tool may be reading it."""
        (self.folder / "new").write_text(text)
        (self.folder / "new").replace(self.folder / name)


@pytest.fixture(scope="module")
def mac(tmp_path_factory: pytest.TempPathFactory) -> Mac:
    return Mac(tmp_path_factory.mktemp("mac") / "bin")


@pytest.fixture(scope="module")
def url(mac: Mac, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("heat")
    bundle = governed_bundle(example(folder / "project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{mac.folder}{os.pathsep}{os.environ['PATH']}")
        command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
        with served(command, bundle, folder / "served.log") as running:
            yield running


def governed_bundle(project: Path) -> Path:
    """The example's bundle for Linux with the governor of a Mac, and quicker than one."""
    command = [sys.executable, "-m", "mlspec", "build", "specs/lora.yaml", "--target", "linux"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    bundle = project / done.stdout.strip()
    plan = json.loads((bundle / "plan.json").read_text())
    plan["runtime"]["governor"] = GOVERNOR
    plan["runtime"]["limits"]["concurrency"] = 8
    # All clients ask the same, and shall all be computed.
    plan["runtime"]["response_cache"]["store"] = "off"
    plan["runtime"]["runner"]["settings"]["prefill_step"] = 512
    (bundle / "plan.json").write_text(json.dumps(plan))
    return bundle


class Load:
    """Clients that ask without a pause, and keep what they get."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS)
        self.answers: list[httpx.Response] = []
        self._clients = [self._pool.submit(self._ask_on) for _ in range(CLIENTS)]

    def _ask_on(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while not self._over.is_set():
                answer = client.post("/predict", json=ENDLESS)
                self.answers.append(answer)
                if answer.status_code != 200:
                    time.sleep(0.05)

    def end(self) -> list[httpx.Response]:
        """All answers; raises what a client met."""
        self._over.set()
        for client in self._clients:
            client.result(60)
        self._pool.shutdown()
        return self.answers


def heat(url: str) -> dict[str, Any]:
    health = httpx.get(f"{url}/health", timeout=30, trust_env=False)
    assert health.status_code == 200
    found: dict[str, Any] = health.json()
    return {**found["heat"], "running": found["running"]}


def wait_for(url: str, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 30) -> list[dict[str, Any]]:
    """What /health tells until the condition holds."""
    seen: list[dict[str, Any]] = []
    deadline = time.monotonic() + timeout_s
    while not seen or not condition(seen[-1]):
        assert time.monotonic() < deadline, seen[-1]
        seen.append(heat(url))
        time.sleep(0.03)
    return seen


def metrics(url: str) -> dict[str, float]:
    lines = httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("mlspec_"))
    return {name: float(value) for name, value in pairs}


def test_a_heat_wave_under_load(url: str, mac: Mac) -> None:
    alone = httpx.post(f"{url}/predict", json=ENDLESS, timeout=60, trust_env=False).json()["tokens"]
    load = Load(url)
    try:
        wait_for(url, lambda now: now["running"] == 8 and now["concurrency"] == 8)
        mac.set("level", "2")
        wait_for(url, lambda now: now["concurrency"] == 2 and now["prefill_step"] == 256)
        wait_for(url, lambda now: now["running"] <= 2)
        mac.set("level", "3")
        wait_for(url, lambda now: now["shed"] and now["running"] == 0)
        assert metrics(url)["mlspec_thermal_level"] == 3
        mac.set("level", "0")
        seen = wait_for(url, lambda now: now["concurrency"] == 8 and now["running"] == 8)
        # Five steps up, each after a second and a half of calm, and never one down again.
        admitted = [0 if now["shed"] else now["concurrency"] for now in seen]
        assert [now for now, _ in itertools.groupby(admitted)] == [0, 2, 4, 8]
    finally:
        answers = load.end()
    good = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(good) > 30
    assert {tuple(answer.json()["tokens"]) for answer in good} == {tuple(alone)}
    assert refused
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["code"] == "too_hot"
    counted = metrics(url)
    assert counted['mlspec_errors_total{code="too_hot",endpoint="predict"}'] == len(refused)
    assert counted["mlspec_admitted_concurrency"] == 8
    assert counted["mlspec_low_power"] == counted["mlspec_thermal_level"] == 0
    assert counted['mlspec_memory_bytes{kind="active"}'] > 1_000_000


def test_power_is_read_too(url: str, mac: Mac) -> None:
    mac.set("power", POWER.replace("mode         0", "mode         1"))
    (now,) = wait_for(url, lambda now: now["low_power"] is True and now["concurrency"] == 4)[-1:]
    assert (now["level"], now["reason"]) == ("nominal", "low-power mode")
    mac.set("power", POWER)
    mac.set("battery", BATTERY.replace("AC Power", "Battery Power"))
    (now,) = wait_for(url, lambda now: now["on_battery"] is True)[-1:]
    assert (now["concurrency"], now["reason"]) == (4, "on battery")
    mac.set("battery", BATTERY)
    wait_for(url, lambda now: now["concurrency"] == 8)


def test_a_tool_that_breaks_down_leaves_the_service_as_it_is(url: str, mac: Mac) -> None:
    (mac.folder / "notifyutil").rename(mac.folder / "gone")
    try:
        (now,) = wait_for(url, lambda now: now["level"] == "unavailable")[-1:]
        assert (now["concurrency"], now["shed"], now["low_power"]) == (8, False, False)
        answer = httpx.post(f"{url}/predict", json=ENDLESS, timeout=60, trust_env=False)
        assert answer.status_code == 200
    finally:
        (mac.folder / "gone").rename(mac.folder / "notifyutil")
    wait_for(url, lambda now: now["level"] == "nominal")
