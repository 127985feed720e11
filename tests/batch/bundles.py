"""Bundles and inputs for the tests of batches: a class of a user's own that writes down what it computes."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec_runtime.batch.events import Events
from mlspec_runtime.batch.job import BatchJob
from mlspec_runtime.batch.running import run
from mlspec_runtime.batch.work import Summary
from runtime.bundles import runtime_block, write_plan

DOUBLING = """
    from pathlib import Path
    import numpy as np

    class Model:
        def predict(self, inputs):
            x = inputs["x"]
            with (Path(__file__).parents[1] / "computed").open("a") as log:
                log.write("".join(f"{int(number)}\\n" for number in x))
            if (x == 7).any():
                raise ValueError("seven is too much")
            return {"y": x * 2, "pair": np.stack([x, -x], axis=1)}
"""
X: dict[str, Any] = {"name": "x", "dtype": "float32", "shape": ["batch"]}
Y: dict[str, Any] = {"name": "y", "dtype": "float32", "shape": ["batch"]}
PAIR: dict[str, Any] = {"name": "pair", "dtype": "float32", "shape": ["batch", 2]}


def bundle(
    folder: Path,
    code: str = DOUBLING,
    inputs: Sequence[Mapping[str, Any]] = (X,),
    outputs: Sequence[Mapping[str, Any]] = (Y, PAIR),
    **changes: Any,
) -> Path:
    """A bundle of the runner `python` with this class."""
    user = folder / "user"
    user.mkdir(parents=True)
    module = f"batch_{abs(hash(str(folder)))}.py"
    (user / module).write_text(textwrap.dedent(code))
    own = {"module": f"user/{module}", "class": "Model", "artifacts": False}
    signature = {"inputs": [dict(one) for one in inputs], "outputs": [dict(one) for one in outputs]}
    settings = {"model": own, **signature, "requests": signature}
    runner = {"name": "python", "module": "mlspec.runners.python.runtime", "settings": settings}
    write_plan(folder, runtime_block(**{"runner": runner, "task": "predict", **changes}))
    return folder


def job(folder: Path, source: str | Path, output: str = "out.jsonl", **changes: Any) -> BatchJob:
    """From a file of the folder to another one in it."""
    place = folder / output
    return BatchJob(folder / source, place, place.with_name(f"{place.name}.failed.jsonl"), **changes)


def done(asked: BatchJob, place: Path) -> Summary:
    """Run a batch in this process."""
    return run(asked, place, Events(None))


def numbers(path: Path, values: Sequence[Any]) -> Path:
    """JSON lines with a column `x`."""
    path.write_text("".join(json.dumps({"x": value, "id": f"n{at}"}) + "\n" for at, value in enumerate(values)))
    return path


def records(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def computed(place: Path) -> list[int]:
    """The numbers that the class has seen, in order."""
    path = place / "computed"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []
