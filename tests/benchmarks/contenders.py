"""What the benchmarks of the language-model service compare: servers of one model, each in processes of its own, with
the same BLAS, the same number of its threads and the same float32 weights.
"""

from __future__ import annotations

import json
import py_compile
import subprocess
import sys
import time
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
from mlspec.serving import ask, free_port, running  # noqa: E402
from models.blas import LIBRARY  # noqa: E402

OURS = "ours"
KERNELS = "OPENBLAS_CORETYPE"
READY_S = 300.0
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: NAME, project: benchmark}
model:
  runner: mlx-lm
  base: {root: models, path: BASE}
  prompt_cache_mb: PREFIXES
MOREservice:
  endpoints: [ENDPOINTS]
  concurrency: PLACES
  response_cache: {store: CACHE}
  limits: {timeout_s: 600}
targets: [{name: here, platform: linux}]
"""


@dataclass(frozen=True)
class Contender:
    """A running server of one model. `path` streams; `is_openai` says in which form it is asked."""

    name: str
    url: str
    path: str
    is_openai: bool
    process: subprocess.Popen[bytes]

    def request(self, prompt: str, max_tokens: int) -> Request:
        """To stream an answer of so many tokens at most."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
        body["temperature"] = 0.0
        if self.is_openai:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Request(self.path, json.dumps(body).encode(), (("Content-Type", "application/json"),))

    def cpu_s(self) -> float:
        """What its processes have used by now."""
        parent = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
        return sum(time.user + time.system for time in times)


def in_environment(threads: int, kernels: str = "", more: Mapping[str, str] | None = None) -> list[str]:
    """The beginning of a command: what is the same for every contender. Without `kernels` each has those that OpenBLAS
    chooses, but that ours helps it choose.
    """
    same = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OPENBLAS_NUM_THREADS": str(threads)}
    if kernels:
        same[KERNELS] = kernels
    # Without it Python keeps no compiled files, and some contender would compile anew at each start.
    compiled = ["-u", "PYTHONDONTWRITEBYTECODE"]
    return ["env", *compiled, *(f"{name}={value}" for name, value in {**same, **(more or {})}.items())]


@contextmanager
def ours(
    base: Path,
    folder: Path,
    *,
    threads: int,
    places: int = 16,
    prefixes_mb: int = 0,
    openai: bool = False,
    cache: str = "off",
    more: str = "",
    kernels: str = "",
) -> Iterator[Contender]:
    """The bundle that the compiler builds of a spec, served by BentoML. `more` are lines of its `model`."""
    bundle = build(base, folder, places=places, prefixes_mb=prefixes_mb, openai=openai, cache=cache, more=more)
    path = "/v1/chat/completions" if openai else "/predict/stream"
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(OURS, command, bundle, path, openai, (threads, kernels)) as contender:
        yield contender


def build(base: Path, folder: Path, *, places: int, prefixes_mb: int, openai: bool, cache: str, more: str = "") -> Path:
    """Build a bundle below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    parts = {"NAME": "model", "BASE": base.name, "PREFIXES": str(prefixes_mb), "PLACES": str(places), "CACHE": cache}
    parts["MORE"] = more
    parts["ENDPOINTS"] = "chat" if openai else "predict, stream"
    spec = SPEC
    for name, value in parts.items():
        spec = spec.replace(name, value)
    (folder / "model.yaml").write_text(spec)
    command = [sys.executable, "-m", "mlspec", "build", "model.yaml", "--root", f"models={base.parent}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    bundle = folder / done.stdout.strip()
    for path in bundle.rglob("*.py"):
        py_compile.compile(str(path), doraise=True)
    return bundle


@contextmanager
def mlx_server(base: Path, folder: Path, *, threads: int, kernels: str = "") -> Iterator[Contender]:
    """`mlx_lm.server` as it comes, with OpenBLAS loaded before MLX."""
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(base), "--host", "127.0.0.1"]
    folder.mkdir(parents=True, exist_ok=True)
    with served("mlx_lm.server", command, folder, "/v1/chat/completions", True, (threads, kernels)) as contender:
        yield contender


@contextmanager
def served(
    name: str, command: list[str], folder: Path, path: str, openai: bool, blas: tuple[int, str], health: str = "/health"
) -> Iterator[Contender]:
    """A server, once `health` answers 200. `blas`: threads and kernels."""
    port = free_port()
    # Ours loads OpenBLAS itself.
    preloaded = {} if name == OURS else {"LD_PRELOAD": LIBRARY}
    command = [*in_environment(*blas, preloaded), *command, "--port", str(port)]
    with (folder / f"{name}.log").open("w+b") as log, running(command, folder, log) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url + health, folder / f"{name}.log")
        yield Contender(name, url, path, openai, process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        answer = ask(url, timeout_s=READY_S)
        if answer is not None and answer.status == 200:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{log.stem} did not start: {log.read_text(errors='replace')[-2000:]}")


def bare(
    base: Path, what: str, prompts: Sequence[str], max_tokens: int, rows: int, threads: int, kernels: str = ""
) -> dict[str, Any]:
    """What `bare.py` prints: mlx_lm without a server, in a process of its own that ends before this returns."""
    script = Path(__file__).with_name("bare.py")
    command = [*in_environment(threads, kernels, {"LD_PRELOAD": LIBRARY}), sys.executable, str(script), str(base), what]
    asked = json.dumps({"prompts": list(prompts), "max_tokens": max_tokens, "rows": rows})
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.name} {what} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def plain(base: Path, folder: Path, *, threads: int, kernels: str = "") -> Iterator[Contender]:
    """A service as one writes it by hand: BentoML, load, a lock, `stream_generate`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.py").write_text(Path(__file__).with_name("plain_bento.py").read_text(encoding="utf-8"))
    (folder / "model.txt").write_text(str(base))
    command = [sys.executable, "-m", "bentoml", "serve", "service:Plain", "--host", "127.0.0.1"]
    with served(
        "plain BentoML", command, folder, "/generate", False, (threads, kernels), health="/readyz"
    ) as contender:
        yield contender
