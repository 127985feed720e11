"""BentoML by hand: the same model, as it comes and with BentoML's own batches."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime


def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


@bentoml.service(workers=1, traffic={"timeout": 60})
class Plain:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api
    def predict(self, x: list[list[float]]) -> list[list[float]]:
        scores: list[list[float]] = self.session.run(None, {"x": np.asarray(x, dtype=np.float32)})[0].tolist()
        return scores


@bentoml.service(workers=1, traffic={"timeout": 60})
class Batching:
    def __init__(self) -> None:
        self.session = session()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x.astype(np.float32)})[0]
