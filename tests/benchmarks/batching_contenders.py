"""What `batching.py` compares: servers of one small ONNX model with batches of their own, each in its own processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

import psutil  # noqa: E402

from mlspec.bench.client import Request  # noqa: E402
from mlspec.serving import free_port, running  # noqa: E402

PEERS = Path(__file__).with_name("batching_peers")
READY_S = 120.0
OURS = "ours"
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: mlp, project: benchmark}
model: {runner: onnx, artifacts: {path: model}, threads: 1}
targets: [{name: here, platform: linux}]
"""
VERSIONS = {"litserve": "0.2.19", "mlserver": "1.7.1"}
"""Of the peers, each in an environment of its own: their requirements exclude each other, or ours."""


@dataclass(frozen=True)
class Server:
    """A running server. `form` is how it is asked: by `x`, by `inputs`, or by version 2 of KServe's protocol (`v2`)."""

    name: str
    url: str
    path: str
    form: str
    process: subprocess.Popen[bytes]

    def request(self, row: Sequence[float]) -> Request:
        """To compute one row."""
        bodies: Mapping[str, Any] = {
            "x": {"x": [row]},
            "inputs": {"inputs": {"x": [row]}},
            "v2": {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]},
        }
        return Request(self.path, json.dumps(bodies[self.form]).encode(), (("Content-Type", "application/json"),))

    def tree(self) -> list[psutil.Process]:
        """All its processes."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_s(self) -> float:
        """What its processes have used by now."""
        return float(sum(sum(one.cpu_times()[:2]) for one in self.tree()))

    @contextmanager
    def alone(self, others: Sequence[Server]) -> Iterator[None]:
        """The other servers stand still meanwhile: some look for work all the time."""
        processes = [one for other in others if other is not self for one in other.tree()]
        for one in processes:
            one.suspend()
        try:
            yield
        finally:
            for one in processes:
                one.resume()


def python_with(peer: str, onnxruntime: str, cache: Path) -> Path:
    """The Python of an environment that has the peer and this onnxruntime; made at the first call, by pip."""
    folder = cache / f"{peer}-{VERSIONS[peer]}-onnxruntime-{onnxruntime}"
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        wanted = [f"{peer}=={VERSIONS[peer]}", f"onnxruntime=={onnxruntime}"]
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
        (folder / "made").touch()
    return python


@contextmanager
def ours(model: Path, folder: Path) -> Iterator[Server]:
    """The bundle of a spec that says nothing of batches."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / model.name).write_bytes(model.read_bytes())
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (folder / "mlp.yaml").write_text(SPEC)
    build = [sys.executable, "-m", "mlspec", "build", "mlp.yaml"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=True)
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port"]
    with _served(OURS, command, folder / done.stdout.strip(), "/predict", "inputs") as server:
        yield server


@contextmanager
def bento(model: Path, folder: Path, service: str) -> Iterator[Server]:
    """A service of BentoML by hand: `Plain`, or `Batching` with its own batches."""
    folder.mkdir(parents=True)
    (folder / "bento.py").write_text((PEERS / "bento.py").read_text(encoding="utf-8"))
    command = [sys.executable, "-m", "bentoml", "serve", f"bento:{service}", "--host", "127.0.0.1", "--port"]
    with _served(f"BentoML, {service.lower()}", command, folder, "/predict", "x", MODEL=str(model)) as server:
        yield server


@contextmanager
def litserve(model: Path, folder: Path, python: Path, rows: int, wait_s: float) -> Iterator[Server]:
    """LitServe: one process for HTTP, one for the model."""
    folder.mkdir(parents=True)
    command = [str(python), str(PEERS / "lit.py"), str(model), str(rows), str(wait_s)]
    with _served(f"LitServe, {1e3 * wait_s:g} ms", command, folder, "/predict", "x") as server:
        yield server


@contextmanager
def mlserver(model: Path, folder: Path, python: Path, rows: int, wait_s: float) -> Iterator[Server]:
    """MLServer without a pool of workers: one process."""
    port, own = free_port(), folder / "mlp"
    own.mkdir(parents=True)
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    of_model = {"name": "mlp", "implementation": "ml.Mlp", "max_batch_size": rows, "max_batch_time": wait_s}
    (own / "model-settings.json").write_text(json.dumps(of_model))
    command = [str(python.with_name("mlserver")), "start", "."]
    variables = {"MODEL": str(model), "PYTHONPATH": str(PEERS)}
    with _served(
        f"MLServer, {1e3 * wait_s:g} ms", command, folder, "/v2/models/mlp/infer", "v2", port, **variables
    ) as server:
        yield server


@contextmanager
def _served(
    name: str, command: Sequence[str], folder: Path, path: str, form: str, port: int | None = None, **variables: str
) -> Iterator[Server]:
    # Without the compiled files that Python keeps some contender would compile anew at each start.
    compiled = ["env", "-u", "PYTHONDONTWRITEBYTECODE", *(f"{key}={value}" for key, value in variables.items())]
    at = port or free_port()
    whole = [*compiled, *command, *([] if port else [str(at)])]
    with (folder / "server.log").open("w+b") as log, running(whole, folder, log) as process:
        server = Server(name, f"http://127.0.0.1:{at}", path, form, process)
        _wait_until_ready(server, folder / "server.log")
        yield server


def _wait_until_ready(server: Server, log: Path) -> None:
    from mlspec.bench.client import run

    end = time.monotonic() + READY_S
    while time.monotonic() < end and server.process.poll() is None:
        if run(server.url, [server.request([0.0] * 64)], 1)[0].status == 200:
            return
        time.sleep(0.2)
    raise RuntimeError(f"{server.name} did not start: {log.read_text(errors='replace')[-2000:]}")


def scores_of(server: Server, row: Sequence[float]) -> list[float]:
    """What it answers for one row. Raises OSError if it doesn't answer with 200."""
    request = server.request(row)
    asked = urllib.request.Request(server.url + request.path, request.body, dict(request.headers))
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
        told = json.loads(answer.read())
    if server.form == "v2":
        return list(told["outputs"][0]["data"])
    scores = told if isinstance(told, list) else told.get("outputs", told)["scores"]
    return list(scores[0])


def cache_folder() -> Path:
    """Where the peers' environments are kept: `MLSPEC_TEST_CACHE`, else a folder in the user's cache."""
    return Path(os.environ.get("MLSPEC_TEST_CACHE") or Path.home() / ".cache" / "mlspec-tests") / "peers"
