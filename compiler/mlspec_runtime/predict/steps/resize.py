"""Images of any size to the model's, by Pillow: as those were that most models were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.step import Arrays, Place, read

MAX_BYTES = 268_435_456
"""Of all resized images of one request: a small body can hold very many images of one pixel."""


@dataclass(frozen=True)
class Settings:
    input: str
    height: int
    width: int
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    method: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bilinear"
    fill: float = 0.0


class Resize:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)

    def load(self, place: Place) -> None:
        # Where it isn't installed, the service shouldn't start.
        import PIL.Image  # noqa: F401

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        name, images = self._settings.input, arrays[self._settings.input]
        out = np.empty(self._shape(images), dtype=images.dtype)
        out.fill(self._settings.fill)
        for row, image in zip(out, images, strict=True):
            self._put(image, row)
        return {**arrays, name: out}

    def _shape(self, images: Array) -> tuple[int, ...]:
        own, field = self._settings, f"inputs.{self._settings.input}"
        if 0 in images.shape[1:3]:
            raise ServiceError("invalid_request", f"{field}: an image has no pixels", 422, field=field)
        shape = (images.shape[0], own.height, own.width, *images.shape[3:])
        most = MAX_BYTES // max(1, int(np.prod(shape[1:])) * images.dtype.itemsize)
        if shape[0] > most:
            message = f"{field}: {shape[0]} images; send {most} in one request at most"
            raise ServiceError("invalid_request", message, 422, field=field)
        return shape

    def _put(self, image: Array, into: Array) -> None:
        """One image [height, width(, channels)] into its place."""
        own, (height, width) = self._settings, image.shape[:2]
        if own.fit == "stretch":
            into[...] = self._resized(image, own.height, own.width)
            return
        scales = (own.height / height, own.width / width)
        scale = max(scales) if own.fit == "crop" else min(scales)
        sides = (max(1, round(height * scale)), max(1, round(width * scale)))
        if own.fit == "crop":
            # Only what is seen of it is resized: a very long image would become a huge one.
            into[...] = self._cropped(image, own.height / scale, own.width / scale)
        else:
            top, left = (own.height - sides[0]) // 2, (own.width - sides[1]) // 2
            into[top : top + sides[0], left : left + sides[1]] = self._resized(image, *sides)

    def _cropped(self, image: Array, height: float, width: float) -> Array:
        """The middle part of this size, resized."""
        top, left = (image.shape[0] - height) / 2, (image.shape[1] - width) / 2
        box = (max(0.0, left), max(0.0, top), min(image.shape[1], left + width), min(image.shape[0], top + height))
        return self._resized(image, self._settings.height, self._settings.width, box)

    def _resized(
        self, image: Array, height: int, width: int, box: tuple[float, float, float, float] | None = None
    ) -> Array:
        from PIL import Image

        method = Image.Resampling[self._settings.method.upper()]
        if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3):
            return np.asarray(Image.fromarray(image).resize((width, height), method, box))
        # Pillow resizes floats, and numbers of channels that it has no name for, one channel at a time.
        channels = image[..., None] if image.ndim == 2 else image
        planes = [channels[..., at] for at in range(channels.shape[2])]
        resized = [
            np.asarray(Image.fromarray(np.ascontiguousarray(p)).resize((width, height), method, box)) for p in planes
        ]
        return np.stack(resized, axis=-1) if image.ndim > 2 else resized[0]
