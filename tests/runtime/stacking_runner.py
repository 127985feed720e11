"""A runner of tensors for the tests: doubles what it gets, and writes down how it was asked.

Of a row that begins with -1 it raises, with -2 it gives an infinite number, with -3 it ends the thread's life, with -4
it tells the client what is wrong. It computes nothing before `GATES` opens for its bundle.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext

GATES: dict[Path, threading.Event] = defaultdict(threading.Event)
CALLS: dict[Path, list[tuple[int, ...]]] = defaultdict(list)
"""The shapes of what was computed, call by call."""


class Doubling:
    def __init__(self, context: ModelContext) -> None:
        self._bundle = context.bundle

    def load(self, models: Mapping[str, Path]) -> None:
        return

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return {"y": self._doubled(inputs["x"])}

    def _doubled(self, x: Array) -> Array:
        GATES[self._bundle].wait(30)
        CALLS[self._bundle].append(x.shape)
        first = x.reshape(len(x), -1)[:, 0] if x.size else x
        if (first == -1).any():
            raise ValueError("secret detail")
        if (first == -3).any():
            raise SystemExit(3)
        if (first == -4).any():
            raise ServiceError("too_dark", "the image is too dark; take one with more light", 422)
        doubled: Array = np.where(x == -2, np.inf, 2 * x).astype(np.float32)
        return doubled

    def health(self) -> None:
        return

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        CALLS[self._bundle].append(())


class ManyDoubling(Doubling):
    """Takes several requests as they are."""

    def predict_batch(self, requests: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array] | Exception]:
        GATES[self._bundle].wait(30)
        CALLS[self._bundle].append(tuple(request["x"].shape[0] for request in requests))
        return [self._one(request) for request in requests]

    def _one(self, request: Mapping[str, Array]) -> Mapping[str, Array] | Exception:
        if (request["x"] == -1).any():
            return ValueError("secret detail")
        if (request["x"] == -3).any():
            raise SystemExit(3)
        return {"y": 2 * request["x"]}


def create_model(context: ModelContext) -> Doubling:
    return ManyDoubling(context) if context.settings.get("many") else Doubling(context)


def create(context: RunnerContext) -> Runner:
    return tensor_runner(context, create_model)
