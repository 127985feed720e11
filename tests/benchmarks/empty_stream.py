"""Two streams through BentoML and FastAPI without a model, each piece after so much rest: one of pieces that are always
the same, and one of tokens that the service's engine counts.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

import mlspec_runtime  # noqa: E402
from benchmarks.contenders import Contender, served  # noqa: E402
from mlspec.bench.client import Request  # noqa: E402
from runtime.bundles import limits, runtime_block, write_plan  # noqa: E402

STEP_S = 0.01
EMPTY = f"""\
import asyncio, bentoml
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import StreamingResponse

app = FastAPI()

@app.post("/predict/stream")
async def stream(request: Request) -> StreamingResponse:
    count = (await request.json())["count"]

    async def pieces():
        for _ in range(count):
            await asyncio.sleep({STEP_S})
            yield b'event: token\\ndata: {{"text":"12 ","tokens":[12]}}\\n\\n'
        yield b'event: done\\ndata: {{}}\\n\\n'

    return StreamingResponse(pieces(), media_type="text/event-stream")

@bentoml.asgi_app(app, path="/")
@bentoml.service(workers=1, logging={{"access": {{"enabled": False}}}})
class Service:
    pass
"""
TOKENS = """\
from pathlib import Path
import bentoml
from mlspec_runtime.bento import BundleService, open_bundle

BUNDLE = open_bundle(Path(__file__).parent)

@bentoml.asgi_app(BUNDLE.app, path="/")
@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Service(BundleService):
    bundle = BUNDLE
"""
RUNNER = f"import counting_runner\n\ncounting_runner.STEP_S = {STEP_S}\ncreate = counting_runner.create\n"


class Counted(Contender):
    """It is asked how many pieces it shall send, whatever the prompt."""

    def request(self, prompt: str, max_tokens: int) -> Request:
        body = json.dumps({"start": 1, "count": max_tokens}).encode()
        return replace(super().request(prompt, max_tokens), body=body)


@contextmanager
def empty_stream(folder: Path, **blas: Any) -> Iterator[Contender]:
    """Pieces that are always the same."""
    folder.mkdir(parents=True)
    (folder / "service.py").write_text(EMPTY, encoding="utf-8")
    with _counted("empty stream", folder, "/readyz", **blas) as contender:
        yield contender


@contextmanager
def of_tokens(folder: Path, **blas: Any) -> Iterator[Contender]:
    """Tokens that the engine counts, in a bundle made by hand."""
    write_plan(folder, runtime_block(runner={"name": "counting", "module": "slow_runner"}, limits=limits(queue=64)))
    shutil.copytree(Path(mlspec_runtime.__file__).parent, folder / "mlspec_runtime")
    shutil.copy(TESTS / "runtime" / "counting_runner.py", folder)
    (folder / "slow_runner.py").write_text(RUNNER, encoding="utf-8")
    (folder / "service.py").write_text(TOKENS, encoding="utf-8")
    with _counted("stream of tokens", folder, "/health", **blas) as contender:
        yield contender


@contextmanager
def _counted(name: str, folder: Path, health: str, *, threads: int, kernels: str) -> Iterator[Contender]:
    command = [sys.executable, "-m", "bentoml", "serve", "service:Service", "--host", "127.0.0.1"]
    with served(name, command, folder, "/predict/stream", False, (threads, kernels), health=health) as one:
        yield Counted(**vars(one))
