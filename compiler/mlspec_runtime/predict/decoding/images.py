"""Image files as arrays: what a header says is held against the declared shape before a pixel is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.checking import check_shape
from mlspec_runtime.predict.decoding.encoded import from_base64, only_key
from mlspec_runtime.predict.decoding.image_headers import FORMATS, check_content, image_size
from mlspec_runtime.predict.signature import Array, BadTensorError, ImageFile, TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

MEDIA_TYPES = tuple(f"image/{name}" for name in FORMATS)
_MODES = {"rgb": "RGB", "gray": "L"}
Size = tuple[int, int]
"""Width and height, as image files say it."""


def one(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`{"image": base64}`: a single row, or all of an input without a batch's dimension."""
    content = from_base64(only_key(value, "image"), "image")
    return _decoded([content], spec, sizes, [("image",)])


def file(content: bytes, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """A body that is an image."""
    return _decoded([content], spec, sizes, [()])


def many(values: Sequence[Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """A list of `{"image": base64}`: rows."""
    if not _has_rows(spec):
        raise BadTensorError(f"wants {spec}: one image, no list of them")
    return _decoded([_content(value, row) for row, value in enumerate(values)], spec, sizes, _places(len(values)))


def _places(count: int) -> list[tuple[int | str, ...]]:
    return [(row,) for row in range(count)]


def _content(value: Any, row: int) -> bytes:
    if not isinstance(value, dict) or "image" not in value:
        raise BadTensorError('wants {"image": base64} in each place of the list', (row,))
    try:
        return from_base64(only_key(value, "image"), "image")
    except BadTensorError as fault:
        raise BadTensorError(str(fault), (row, *fault.path)) from None


def _declared(spec: TensorSpec) -> ImageFile:
    assert spec.image is not None  # noqa: S101 - only such inputs have these encodings
    return spec.image


def _pixel_shape(size: Size, image: ImageFile) -> tuple[int, ...]:
    (width, height), channels = size, 3 if image.mode == "rgb" else 1
    shapes = {
        "channels_first": (channels, height, width),
        "channels_last": (height, width, channels),
        "none": (height, width),
    }
    return shapes[image.layout]


def _has_rows(spec: TensorSpec) -> bool:
    return len(spec.shape) > len(_pixel_shape((1, 1), _declared(spec)))


def _decoded(
    contents: Sequence[bytes], spec: TensorSpec, sizes: dict[str, int], places: Sequence[tuple[int | str, ...]]
) -> Array:
    """All sizes are checked before the first is decoded: memory is taken for what the declared shape allows alone."""
    size = _common_size(contents, spec, sizes, places)
    rows = np.empty((len(contents), *_pixel_shape(size, _declared(spec))), dtype=spec.numpy_dtype)
    for row, (content, place) in enumerate(zip(contents, places, strict=True)):
        try:
            rows[row] = _scaled(_pixels(content, size, _declared(spec)), spec)
        except BadTensorError as fault:
            raise BadTensorError(str(fault), place) from None
    return rows if _has_rows(spec) else rows[0]


def _common_size(
    contents: Sequence[bytes], spec: TensorSpec, sizes: dict[str, int], places: Sequence[tuple[int | str, ...]]
) -> Size:
    common: Size | None = None
    most = _declared(spec).max_pixels
    for content, place in zip(contents, places, strict=True):
        try:
            size = image_size(content)
            common = common or size
            _check_size(size, common, spec, sizes, len(contents))
        except BadTensorError as fault:
            raise BadTensorError(str(fault), place) from None
    assert common is not None  # noqa: S101 - an empty list is no list of images
    if common[0] * common[1] * len(contents) > most:
        raise BadTensorError(f"takes images of {most} pixels together, at most")
    return common


def _check_size(size: Size, common: Size, spec: TensorSpec, sizes: dict[str, int], count: int) -> None:
    if size != common:
        told = f"is {size[0]} x {size[1]} pixels, where the first image is {common[0]} x {common[1]}"
        raise BadTensorError(f"{told}: those of one request have one size")
    if size[0] * size[1] > _declared(spec).max_pixels:
        raise BadTensorError(f"has more than {_declared(spec).max_pixels} pixels")
    shape = _pixel_shape(size, _declared(spec))
    check_shape((count, *shape) if _has_rows(spec) else shape, spec, dict(sizes))


def _pixels(content: bytes, size: Size, declared: ImageFile) -> Array:
    """The pixels, 0 to 255, with channels as the layout has them."""
    check_content(content, size)
    try:
        opened = _opened(content)
        if opened.size != size:
            raise BadTensorError("says two sizes of itself")
        array = np.asarray(_converted(opened, _MODES[declared.mode]))
    except (BadTensorError, MemoryError):
        raise
    # Pillow's decoders raise nearly anything for files that are broken.
    except Exception:  # noqa: BLE001
        raise BadTensorError("is an image file that is cut or broken") from None
    if declared.layout == "none":
        return array
    with_channels = array if array.ndim == 3 else array[:, :, np.newaxis]
    return with_channels.transpose(2, 0, 1) if declared.layout == "channels_first" else with_channels


def _opened(content: bytes) -> Image:
    """By the decoder itself: `Image.open` would try the others, and has a limit of its own that warns."""
    from io import BytesIO

    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    decoders = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
    name = next(name for name, magic in FORMATS.items() if magic.match(content))
    opened: Image = decoders[name](BytesIO(content))
    opened.load()
    return opened


def _converted(opened: Image, mode: str) -> Image:
    """In 8 bits a channel. What is transparent is as opaque as the rest."""
    opened.info.pop("transparency", None)
    if opened.mode.startswith("I"):
        from PIL.Image import fromarray

        return fromarray((np.asarray(opened) >> 8).astype(np.uint8)).convert(mode)
    return opened.convert(mode)


def _scaled(pixels: Array, spec: TensorSpec) -> Array:
    """Divided; what isn't whole then must not become so unseen."""
    divide_by = _declared(spec).divide_by
    if divide_by == 1:
        divided: Array = pixels
    elif spec.numpy_dtype.kind == "f":
        return np.divide(pixels, divide_by, dtype=np.float64 if spec.dtype == "float64" else np.float32)
    else:
        divided = pixels / divide_by
    if spec.numpy_dtype.kind != "f" and not np.array_equal(divided.astype(spec.numpy_dtype), divided):
        raise BadTensorError(f"wants {spec}, and has numbers that do not fit")
    return divided


def check_library() -> None:
    """That Pillow is there. Raises ServiceError (503)."""
    if find_spec("PIL") is None:
        message = "an input takes images, and Pillow isn't installed: pip install the bundle's requirements.txt"
        raise ServiceError("load_failed", message, 503)
