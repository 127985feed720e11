"""What lies between the two stages of `specs/spots.yaml`."""

from __future__ import annotations

import numpy as np

SIDE = 8


def crops(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is in each box of the image, as a square of 8 by 8."""
    image, boxes = arrays["image"], arrays["boxes"]
    squares = [_square(image[top:bottom, left:right]) for top, left, bottom, right in boxes.tolist()]
    return {"crop": np.array(squares, dtype=np.float32).reshape(-1, SIDE, SIDE)}


def _square(part: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(SIDE) * size // SIDE for size in part.shape)
    return part[np.ix_(rows, columns)]
