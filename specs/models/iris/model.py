"""A nearest-centroid classifier of iris flowers: a class of one's own for the runner `python`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


class Iris:
    def load(self, artifacts: Path) -> None:
        self.centroids = np.array(json.loads((artifacts / "centroids.json").read_text()), dtype=np.float32)

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        distances = np.linalg.norm(inputs["flowers"][:, None, :] - self.centroids[None], axis=2)
        return {"species": distances.argmin(axis=1), "distance": distances.min(axis=1)}
