"""The runner `python`, with classes as users write them, over HTTP."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import Stats, Vitals
from runtime.bundles import limits
from runtime.services import Service, running, wait_until

USER_CLASS = """
    import threading, time
    import numpy as np
    import beside

    class Model:
        def __init__(self):
            self.thread = threading.get_ident()

        def load(self, artifacts):
            assert threading.get_ident() == self.thread
            self.factor = float((artifacts / "factor.txt").read_text()) if artifacts else 2.0

        def health(self):
            if beside.SICK:
                raise RuntimeError("secret sickness")

        def predict(self, inputs):
            assert threading.get_ident() == self.thread
            x, mode = inputs["x"], int(inputs["mode"])
            assert x.dtype == np.float32
            if mode == 1:
                raise ValueError("secret detail")
            if mode == 2:
                raise SystemExit(3)
            if mode == 3:
                return {"y": x[:, :1], "z": 1}
            if mode == 4:
                return {"y": x[:-1] * self.factor}
            if mode == 5:
                return {"y": x / 0}
            if mode == 6:
                return [x]
            if mode == 8:
                raise KeyboardInterrupt
            if mode == 7:
                time.sleep(0.4)
            return {"y": (x * self.factor).astype(np.float64)}
"""


@asynccontextmanager
async def serving(bundle: Path, code: str = USER_CLASS, **changes: Any) -> AsyncIterator[Service]:
    user = bundle / "user" / "deep"
    user.mkdir(parents=True)
    module = f"model_{abs(hash(str(bundle)))}.py"
    (user / module).write_text(textwrap.dedent(code))
    (user / "beside.py").write_text("SICK = False\n")
    own = {"module": f"user/deep/{module}", "class": "Model", "artifacts": False}
    inputs = [
        {"name": "x", "dtype": "float32", "shape": ["batch", 2]},
        {"name": "mode", "dtype": "int8", "shape": []},
    ]
    signature = {"inputs": inputs, "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 2]}]}
    batching = changes.pop("batching", {})
    settings = {"model": own, **signature, "requests": signature, "batching": batching}
    runner = {"name": "python", "module": "mlspec.runners.python.runtime", "settings": settings}
    async with running(bundle, **{"runner": runner, "task": "predict", **changes}) as service:
        yield service


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def ask(service: Service, x: Any, mode: int = 0) -> httpx.Response:
    return await service.client.post("/predict", json={"inputs": {"x": x, "mode": mode}})


def test_it_predicts(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            response = await ask(service, [[1, 2], [3, 4.5]])
            assert response.status_code == 200
            body = response.json()
            assert body["outputs"] == {"y": [[2.0, 4.0], [6.0, 9.0]]}
            assert body["timings"]["total_s"] >= body["timings"]["queue_s"] >= 0
            assert body["request_id"] == response.headers["x-request-id"]
            both = await asyncio.gather(*(ask(service, [[n, n]]) for n in range(20)))
            assert [r.json()["outputs"]["y"][0][0] for r in both] == [2.0 * n for n in range(20)]

    go(check())


def test_artifacts_are_given_to_load(tmp_path: Path) -> None:
    from runtime.bundles import planned_model

    folder = tmp_path / "models" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "factor.txt").write_text("10")

    async def check() -> None:
        async with serving(tmp_path, models=[planned_model("artifacts", folder)]) as service:
            assert (await ask(service, [[1, 2]])).json()["outputs"]["y"] == [[10.0, 20.0]]

    go(check())


@pytest.mark.parametrize(
    ("x", "field", "told"),
    [
        ([[1, 2, 3]], "inputs.x", "has the shape [1, 3]"),
        ([["a", "b"]], "inputs.x.0.0", "another type"),
        ([[1, 2], [3]], "inputs.x", "different lengths"),
        (None, "inputs.x", "another type"),
    ],
)
def test_a_wrong_input_is_the_clients_fault(tmp_path: Path, x: Any, field: str, told: str) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            response = await ask(service, x)
            error = response.json()["error"]
            assert (response.status_code, error["code"], error["field"]) == (422, "invalid_request", field)
            assert told in error["message"]

    go(check())


def test_missing_and_unknown_inputs(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            response = await service.client.post("/predict", json={"inputs": {"X": [[1, 2]], "mode": 0}})
            error = response.json()["error"]
            assert (response.status_code, error["field"]) == (422, "inputs.x")
            assert "inputs.X" in error["message"]

    go(check())


@pytest.mark.parametrize(
    ("mode", "code", "told"),
    [
        (1, "model_error", "log"),
        (2, "model_error", "log"),
        (8, "model_error", "log"),
        (3, "bad_output", "predict must give a dict with y; it gave ['y', 'z']"),
        (4, "bad_output", "where batch is 2"),
        (5, "bad_output", "infinite"),
        (6, "bad_output", "it gave list"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_faults_of_the_users_code(
    tmp_path: Path, mode: int, code: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            response = await ask(service, [[1, 2], [3, 4]], mode)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (500, code)
            assert told in error["message"]
            assert "secret" not in response.text
            assert error["request_id"] in caplog.text
            assert (await ask(service, [[1, 2]])).status_code == 200

    go(check())


MANY = """
    import threading
    import numpy as np

    GO_ON = threading.Event()
    CALLS = []

    class Model:
        def predict_batch(self, requests):
            CALLS.append(len(requests))
            if any(int(inputs["mode"]) == 9 for inputs in requests):
                GO_ON.wait(30)
            return [ValueError("secret") if int(inputs["mode"]) == 1 else {"y": inputs["x"] * 3} for inputs in requests]
"""


def test_a_class_that_takes_several_requests_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with serving(tmp_path, MANY, batching={"max_rows": 8, "max_wait_s": 0.0}) as service:
            module = sys.modules[f"mlspec_user_model_{abs(hash(str(tmp_path)))}"]
            first = asyncio.create_task(ask(service, [[0, 0]], 9))
            while service.runner.stats() != Stats(waiting=0, running=1):
                await asyncio.sleep(0.002)
            others = [asyncio.create_task(ask(service, [[n, n]] * n, n % 2)) for n in (1, 2, 3, 4)]
            while service.runner.stats() != Stats(waiting=4, running=1):
                await asyncio.sleep(0.002)
            module.GO_ON.set()
            assert (await first).json()["outputs"] == {"y": [[0.0, 0.0]]}
            answers = [await task for task in others]
            assert [answer.status_code for answer in answers] == [500, 200, 500, 200]
            assert answers[3].json()["outputs"] == {"y": [[12.0, 12.0]] * 4}
            assert module.CALLS == [1, 4]
            assert answers[0].json()["error"]["request_id"] in caplog.text
            assert "secret" not in answers[0].text

    go(check())


def test_a_class_without_any_predict_does_not_start(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, "class Model: pass", wait=False) as service:
            wait_until(lambda: "neither predict nor predict_batch" in str(service.model._problem))

    go(check())


def test_past_the_deadline_the_thread_goes_on_and_the_queue_is_cleared(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, limits=limits(timeout_s=0.15)) as service:
            both = await asyncio.gather(ask(service, [[1, 2]], 7), ask(service, [[1, 2]], 7))
            # One was computed, and the other's turn never came.
            assert sorted(r.status_code for r in both) == [503, 504]
            waited = next(r for r in both if r.status_code == 503)
            assert waited.json()["error"]["code"] == "queue_timeout"
            assert waited.headers["Retry-After"] == "10"
            wait_until(lambda: service.runner.stats().running == 0)
            assert service.runner.stats().waiting == 0
            assert (await ask(service, [[1, 2]])).status_code == 200

    go(check())


def test_a_call_that_hangs_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlspec_runtime.predict.engine.STUCK_S", 0.2)
    code = """
        import threading
        GO_ON = threading.Event()

        class Model:
            def predict(self, inputs):
                if int(inputs["mode"]):
                    GO_ON.wait(60)
                return {"y": inputs["x"]}
    """

    async def check() -> None:
        async with serving(tmp_path, code, limits=limits(timeout_s=0.15)) as service:
            assert (await ask(service, [[1, 2]])).status_code == 200
            assert service.model.fault() is None
            assert (await ask(service, [[1, 2]], 1)).status_code == 504
            await asyncio.to_thread(wait_until, lambda: service.model.fault() is not None)
            fault = service.model.fault()
            assert fault is not None
            assert (fault.code, fault.message) == ("engine_stuck", "one call of the model's code took over 0.3 s")
            sys.modules[f"mlspec_user_model_{abs(hash(str(tmp_path)))}"].GO_ON.set()
            await asyncio.to_thread(wait_until, lambda: service.model.fault() is None)
            assert (await ask(service, [[1, 2]])).status_code == 200

    go(check())


def test_throttled_it_has_less_room_to_wait(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, limits=limits(concurrency=4, queue=1)) as service:
            service.runner.throttle(Allowance(concurrency=1))
            slow = [asyncio.create_task(ask(service, [[1, 2]], 7)) for _ in range(2)]
            while service.runner.stats() != Stats(waiting=1, running=1):
                await asyncio.sleep(0.005)
            assert (await ask(service, [[1, 2]])).status_code == 429
            service.runner.throttle(Allowance(concurrency=4))
            assert [(await task).status_code for task in (*slow, asyncio.create_task(ask(service, [[1, 2]])))] == [
                200
            ] * 3
            calls = service.runner.vitals().calls
            assert [(c.most_rows, c.calls, c.rows, c.requests) for c in calls] == [(1, 3, 3, 3)]
            assert service.runner.vitals() == Vitals()

    go(check())


def test_health_asks_the_class(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            assert (await service.client.get("/health")).json()["checked"] == "computed"
            import beside  # type: ignore[import-not-found]

            beside.SICK = True
            try:
                sick = await service.client.get("/health")
            finally:
                beside.SICK = False
            assert sick.status_code == 503
            assert "secret" not in sick.text
            await ask(service, [[1, 2]])
            assert (await service.client.get("/health")).json()["checked"] == "recently"

    go(check())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Other: pass", "has no class Model"),
        ("import nowhere_to_be_found", "the server's log says why"),
        ("raise SystemExit(1)", "the server's log says why"),
        ("class Model:\n    def load(self, artifacts): raise OSError('secret')", "the server's log says why"),
    ],
)
def test_code_that_does_not_load_is_told(
    tmp_path: Path, code: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with serving(tmp_path, code, wait=False) as service:
            wait_until(lambda: "not ready" in caplog.text)
            response = await service.client.get("/health")
            assert response.status_code == 503
            assert reason in response.json()["error"]["message"]
            assert "secret" not in response.text

    go(check())


def test_the_documents_say_types_and_shapes(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            schemas = (await service.client.get("/docs.json")).json()["components"]["schemas"]
            x = schemas["Inputs"]["properties"]["x"]
            lists = x["anyOf"][0]
            assert (lists["type"], lists["items"]["minItems"], x["description"]) == ("array", 2, "float32[batch, 2]")
            assert "y" in schemas["Outputs"]["properties"]

    go(check())
