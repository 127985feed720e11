"""Requests of tensors over HTTP: all forms, the documents' examples, and 300 that are malformed."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec_runtime.request_info import RequestInfo
from runtime.bundles import limits
from runtime.malformed import INPUTS, good, malformed
from runtime.services import Service, running, wait_until
from runtime.test_tensor_encodings import npy

CODE = """
    import numpy as np

    class Model:
        def predict(self, inputs):
            first = next(iter(inputs.values()))
            rows = len(first)
            scores = np.tile(np.array([0.25, 0.75], np.float32), (rows, 1))
            classes, told = np.arange(rows), np.array(["a"] * rows)
            return {"scores": scores, "classes": classes, "rest": np.zeros(rows), "told": told}
"""
OUTPUTS = [
    {"name": "scores", "dtype": "float32", "shape": ["batch", 2], "labels": ["cat", "dog"]},
    {"name": "classes", "dtype": "int64", "shape": ["batch"], "labels": ["cat", "dog"]},
    {"name": "rest", "dtype": "float32", "shape": ["batch"]},
    {"name": "told", "dtype": "string", "shape": ["batch"]},
]
WITHOUT_LIBRARIES = ("x", "ids", "text", "table")


@asynccontextmanager
async def service_of(bundle: Path, names: Sequence[str], **more: Any) -> AsyncIterator[Service]:
    """The runner `python` with these of the inputs."""
    user = bundle / "user"
    user.mkdir()
    (user / "model.py").write_text(textwrap.dedent(CODE))
    signature = {"inputs": [INPUTS[name] for name in names], "outputs": OUTPUTS}
    settings = {"model": {"module": "user/model.py", "class": "Model"}, **signature, "requests": signature}
    runner = {"name": "python", "module": "mlspec.runners.python.runtime", "settings": settings}
    async with running(bundle, runner=runner, task="predict", limits=limits(max_body_bytes=4 << 20), **more) as service:
        yield service


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def post(service: Service, content: bytes, media_type: str = "application/json") -> Any:
    return await service.client.post("/predict", content=content, headers={"Content-Type": media_type})


def test_answers_have_labels(tmp_path: Path) -> None:
    async def check() -> None:
        async with service_of(tmp_path, ["x"]) as service:
            body = (await service.client.post("/predict", json=good(["x"], rows=3))).json()
            assert body["labels"] == {"scores": ["dog"] * 3, "classes": ["cat", "dog", None]}
            assert body["outputs"]["classes"] == [0, 1, 2]

    go(check())


def test_answers_as_npy(tmp_path: Path) -> None:
    async def check() -> None:
        async with service_of(tmp_path, ["x"]) as service:
            asked = {**good(["x"], rows=2), "encoding": "npy"}
            outputs = (await service.client.post("/predict", json=asked)).json()["outputs"]
            content = base64.b64decode(outputs["scores"]["npy"])
            scores = np.load(io.BytesIO(content), allow_pickle=False)
            assert (scores.dtype, scores.tolist()) == (np.float32, [[0.25, 0.75]] * 2)
            assert outputs["told"] == ["a", "a"]

    go(check())


@pytest.mark.parametrize(
    ("name", "media_type", "content", "status", "field"),
    [
        ("x", "application/x-npy", npy(np.zeros((2, 4))), 200, None),
        ("x", "Application/X-NPY; charset=binary", npy(np.zeros((2, 4))), 200, None),
        ("x", "application/x-npy", npy(np.zeros((2, 5))), 422, "inputs.x"),
        ("x", "text/csv", b"a,b\n1,2\n", 415, None),
        ("x", "image/png", b"", 415, None),
        ("table", "text/csv", b"b,a\n1,2\n", 200, None),
        ("table", "text/csv; charset=utf-8", b"b,a\n1,x\n", 422, "inputs.table.0.a"),
        ("table", "application/vnd.apache.parquet", b"", 415, None),
    ],
)
def test_bodies_that_are_files(
    tmp_path: Path, name: str, media_type: str, content: bytes, status: int, field: str | None, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    async def check() -> None:
        async with service_of(tmp_path, [name]) as service:
            response = await post(service, content, media_type)
            assert response.status_code == status, response.text
            if status != 200:
                assert response.json()["error"].get("field") == field
            if (name, media_type) == ("x", "text/csv"):
                assert "application/x-npy" in response.json()["error"]["message"]

    go(check())


def test_without_pyarrow_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    async def check() -> None:
        async with service_of(tmp_path, ["table"]) as service:
            response = await service.client.post("/predict", json={"inputs": {"table": {"parquet": "UEFSMQ=="}}})
            assert response.status_code == 415
            assert "send CSV or JSON" in response.json()["error"]["message"]

    go(check())


def test_with_several_inputs_no_file_is_a_request(tmp_path: Path) -> None:
    async def check() -> None:
        async with service_of(tmp_path, ["x", "ids"]) as service:
            assert (await post(service, npy(np.zeros((1, 4))), "application/x-npy")).status_code == 415
            body = (await service.client.get("/docs.json")).json()["paths"]["/predict"]["post"]["requestBody"]
            assert list(body["content"]) == ["application/json"]

    go(check())


def test_images_without_pillow_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlspec_runtime.predict.decoding import images

    monkeypatch.setattr(images, "find_spec", lambda name: None)

    async def check() -> None:
        async with service_of(tmp_path, ["image"], wait=False) as service:
            wait_until(lambda: "not ready" in caplog.text)
            health = await service.client.get("/health")
            assert health.status_code == 503
            assert "Pillow isn't installed" in health.json()["error"]["message"]

    go(check())


@pytest.mark.parametrize("names", [["x"], ["table"], ["x", "ids", "text"]])
def test_the_documents_examples_work(tmp_path: Path, names: list[str]) -> None:
    async def check() -> None:
        async with service_of(tmp_path, names) as service:
            document = (await service.client.get("/docs.json")).json()
            content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
            for example in content["application/json"]["examples"].values():
                assert (await service.client.post("/predict", json=example["value"])).status_code == 200
            shown = document["components"]["schemas"]["Inputs"]["properties"]
            body = {"inputs": {name: shown[name]["examples"][0] for name in names}}
            assert (await service.client.post("/predict", json=body)).status_code == 200
            if names == ["table"]:
                assert (await post(service, content["text/csv"]["example"].encode(), "text/csv")).status_code == 200
                assert "application/vnd.apache.parquet" in content

    go(check())


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"{", 400, "is not JSON"),
        (b'{"inputs": {"x": [[1,2,3,4]]}, }', 400, "is not JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"inputs": {"x": [[' + b"1" * 5000 + b",2,3,4]]}}", 400, "digits"),
        (b'\xff{"inputs": {}}', 400, "is not UTF-8 at byte 0"),
        (b'{"inputs": {"x": [[NaN,2,3,4]]}}', 422, "infinite, none"),
        (b'{"inputs": {"x": [["\\ud800",2,3,4]]}}', 422, "another type"),
        (b"", 422, "the body is empty"),
    ],
)
def test_faults_of_json_are_told_as_everywhere(tmp_path: Path, content: bytes, status: int, told: str) -> None:
    async def check() -> None:
        async with service_of(tmp_path, ["x"]) as service:
            response = await post(service, content)
            assert response.status_code == status
            assert told in response.json()["error"]["message"]

    go(check())


def test_malformed_requests_are_refused_and_nothing_breaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with service_of(tmp_path, WITHOUT_LIBRARIES) as service:
            statuses: Counter[int] = Counter()
            for bad in malformed(WITHOUT_LIBRARIES, 300):
                response = await post(service, bad.content, bad.media_type)
                statuses[response.status_code] += 1
                assert 400 <= response.status_code < 500, (bad.what, response.text)
                assert json.loads(response.text)["error"]["message"]
            assert statuses[422] > 200
            assert (await service.client.post("/predict", json=good(WITHOUT_LIBRARIES))).status_code == 200

    go(check())
    assert "Traceback" not in caplog.text


def _kept() -> int:
    """Requests that something holds; the loops of other tests may hold some of theirs."""
    gc.collect()
    return sum(isinstance(kept, RequestInfo) for kept in gc.get_objects())


def test_what_was_asked_is_not_kept_by_timers(tmp_path: Path) -> None:
    """BentoML's timers run on after an answer; among many such, asyncio keeps those that were cancelled, too."""

    async def check() -> None:
        async with service_of(tmp_path, ["x"]) as service:
            timers = [asyncio.get_running_loop().call_later(600, print) for _ in range(2000)]
            before = _kept()
            for number in range(200):
                body = good(["x"]) if number % 2 else {"inputs": {"x": number}}
                await service.client.post("/predict", json=body)
            assert _kept() - before < 10
            for timer in timers:
                timer.cancel()

    go(check())
