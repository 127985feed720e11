"""A process that can't compute any more is replaced: told at once, ended with a code, begun anew with pauses."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.operating import BENTOML, Operated, of_tests, operated, tiny_bundle, until
from runtime.killable_runner import FILE_VARIABLE

pytestmark = pytest.mark.e2e

RED_S = 5
REPLACED_S = 120
"""BentoML looks after its processes every ten seconds; then the model is loaded."""
ENDLESS = {"prompt": "Tick forever.", "adapter": "base", "max_tokens": 48, "temperature": 1.0}
"""Never answered from a cache."""


def predict(service: Operated, **body: Any) -> httpx.Response:
    return service.client.post("/predict", json={"prompt": "Where is my order?", **body})


def killable(runtime: dict[str, Any]) -> None:
    runtime["runner"]["module"] = "runtime.killable_runner"


def test_a_dead_engine_thread_is_told_and_the_process_replaced(tmp_path: Path) -> None:
    kill = tmp_path / "kill"
    bundle = tiny_bundle(tmp_path, killable)
    with operated(BENTOML, bundle, tmp_path / "log", **{FILE_VARIABLE: str(kill)}) as service:
        before, worker = predict(service).json()["text"], service.worker.pid
        with ThreadPoolExecutor(8) as pool:
            # A thread that waits for work takes no exception.
            work = [pool.submit(first_failure, service) for _ in range(8)]
            until(lambda: bool(service.series("mlspec_in_flight")), 30, service.log)
            kill.touch()
            until(lambda: service.status("/health") == service.status("/readyz") == 503, RED_S, service.log)
            failures = [failed for asked in work if (failed := asked.result()) is not None]
        assert service.status("/livez") == 200
        assert service.code() == "engine_dead"
        refused = predict(service)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_dead")
        assert len(failures) == 8
        assert {answer.status_code for answer in failures} == {503}
        assert {answer.json()["error"]["code"] for answer in failures} == {"engine_dead"}
        until(lambda: service.status("/readyz") == 200, REPLACED_S, service.log)
        assert service.worker.pid != worker
        assert predict(service).json()["text"] == before
        assert service.series("mlspec_process_starts_total") == 2
        assert service.series('mlspec_faults_total{code="engine_dead"}') == 1
        assert "exit code 70" in service.log.read_text()


def first_failure(service: Operated) -> httpx.Response | None:
    """Ask on until the service fails; what it says then."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        answer = service.client.post("/predict", json=ENDLESS)
        if answer.status_code != 200:
            return answer
    return None


def test_a_process_that_is_aborted_is_replaced(tmp_path: Path) -> None:
    """As Metal does when memory runs out."""
    with operated(BENTOML, tiny_bundle(tmp_path), tmp_path / "log") as service:
        before, worker = predict(service).json()["text"], service.worker.pid
        os.kill(worker, signal.SIGABRT)
        until(lambda: service.series("mlspec_process_starts_total") == 2, REPLACED_S, service.log)
        until(lambda: service.status("/readyz") == 200, REPLACED_S, service.log)
        assert service.worker.pid != worker
        assert predict(service).json()["text"] == before


def test_a_process_that_serves_another_build_than_the_one_before_says_so(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    with operated(BENTOML, bundle, tmp_path / "log") as service:
        plan = json.loads((bundle / "plan.json").read_text())
        plan["runtime"]["limits"]["max_tokens"] = 8
        (bundle / "plan.json").write_text(json.dumps(plan))
        assert predict(service, max_tokens=9).status_code == 200
        os.kill(service.worker.pid, signal.SIGABRT)
        until(lambda: service.series("mlspec_process_starts_total") == 2, REPLACED_S, service.log)
        until(lambda: service.status("/readyz") == 200, REPLACED_S, service.log)
        assert predict(service, max_tokens=9).status_code == 422
        assert "the bundle was built anew since the process before this one began" in service.log.read_text()


def test_a_process_that_ends_early_again_and_again_pauses_and_says_so(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    bundle = tiny_bundle(tmp_path, of_tests("mortal_runner", abort_at_load=str(mine)))
    with operated(BENTOML, bundle, tmp_path / "log") as service:
        mine.touch()
        with pytest.raises(httpx.TransportError):
            service.client.post("/predict", json={"text": "a", "end": "process"})
        until(lambda: service.code() == "ends_early", REPLACED_S, service.log)
        answer = service.client.get("/health")
        assert "times in a row soon after it had begun" in answer.json()["error"]["message"]
        assert int(answer.headers["Retry-After"]) >= 10
        assert service.status("/livez") == 200
        mine.unlink()
        until(lambda: service.status("/readyz") == 200, REPLACED_S, service.log)
        assert service.client.post("/predict", json={"text": "a b"}).json()["words"] == 2
