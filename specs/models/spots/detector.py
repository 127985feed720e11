"""The first stage of `specs/spots.yaml`: where an image has bright spots."""

from __future__ import annotations

import numpy as np


class Detector:
    """Rows and columns that are dark all along part an image into blocks: good enough for spots that keep apart."""

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        bright = inputs["image"] > 0.5
        boxes = [box for rows in _runs(bright.any(axis=1)) for box in _boxes(bright, rows)]
        return {"boxes": np.array(boxes, dtype=np.int64).reshape(-1, 4)}


def _boxes(bright: np.ndarray, rows: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Top, left, bottom and right of the spots in a strip of the image."""
    top, bottom = rows
    return [(top, left, bottom, right) for left, right in _runs(bright[top:bottom].any(axis=0))]


def _runs(line: np.ndarray) -> list[tuple[int, int]]:
    """Where a line of true and false is true: starts and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
