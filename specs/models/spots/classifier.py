"""The second stage of `specs/spots.yaml`: which shape a spot has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


class Classifier:
    def load(self, artifacts: Path) -> None:
        self.patterns = np.array(json.loads((artifacts / "patterns.json").read_text()), dtype=np.float32)

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        differences = np.abs(inputs["crop"][:, None] - self.patterns[None])
        return {"logits": -differences.sum(axis=(2, 3))}
