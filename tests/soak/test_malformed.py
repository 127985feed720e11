"""10,000 malformed requests to a real service of tensors: refused each, and the memory stays as it is.

`MLSPEC_SOAK_MALFORMED` is how many, 10,000 if not set.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from e2e.operating import BENTOML, Operated, operated
from runtime.malformed import INPUTS, good, malformed

pytestmark = pytest.mark.soak
pytest.importorskip("PIL", reason="images need Pillow")
pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")

COUNT = int(os.environ.get("MLSPEC_SOAK_MALFORMED", "10000"))
WARM_UP = 1000
MIB = 1 << 20
FLAT_BYTES = 24 * MIB
"""Of growth after the warm-up: what an allocator keeps. Ten kilobytes kept of each request would be four times that."""
MODEL = """
class Model:
    def predict(self, inputs):
        return {"rows": inputs["x"][:, 0]}
"""
NAMES = list(INPUTS)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Operated]:
    (tmp_path / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (tmp_path / "model.py").write_text(MODEL)
    model = {"runner": "python", "module": "model.py", "class": "Model", "inputs": list(INPUTS.values())}
    spec = {
        "apiVersion": "mlspec/v1",
        "kind": "ModelService",
        "metadata": {"name": "malformed", "project": "tests"},
        "model": {**model, "outputs": [{"name": "rows", "shape": ["batch"]}]},
        "service": {"limits": {"max_body_bytes": 4 << 20}},
        "targets": [{"name": "here", "platform": "linux"}],
    }
    (tmp_path / "tensors.yaml").write_text(yaml.safe_dump(spec))
    command = [sys.executable, "-m", "mlspec", "build", "tensors.yaml"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    with operated(BENTOML, tmp_path / built, tmp_path / "log") as running:
        yield running


def ask(client: httpx.Client, count: int, seed: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for bad in malformed(NAMES, count, seed):
        response = client.post("/predict", content=bad.content, headers={"Content-Type": bad.media_type})
        assert 400 <= response.status_code < 500, (bad.what, response.text)
        statuses[response.status_code] += 1
    return statuses


def test_malformed_requests_leave_nothing_behind(service: Operated) -> None:
    ask(service.client, min(WARM_UP, COUNT), seed=1)
    before = service.worker.memory_info().rss
    statuses = ask(service.client, COUNT, seed=2)
    grown = service.worker.memory_info().rss - before
    print(f"{COUNT} malformed requests: {dict(statuses)}; memory {before / MIB:.0f} MiB, grew by {grown / MIB:.1f} MiB")
    assert grown < FLAT_BYTES
    assert service.client.post("/predict", json=good(NAMES)).status_code == 200
    assert "Traceback" not in service.log.read_text(errors="replace")
