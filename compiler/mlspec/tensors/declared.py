"""Whether declared tensors make sense: what a request could never fulfil, or an answer never have, is found here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.signature import Image, Tensor
from mlspec.runners import Faults

_CHANNELS = {"rgb": 3, "gray": 1}


class Fault(NamedTuple):
    """What is wrong, where in the tensor, and what to do."""

    pointer: Pointer
    message: str
    help: str


def are_sound(inputs: Sequence[Tensor], outputs: Sequence[Tensor], faults: Faults) -> bool:
    """Whether nothing is wrong; else it was reported, at `inputs` and `outputs` of the block that `faults` is for."""
    found = [*_of_side("inputs", inputs), *_of_side("outputs", outputs)]
    for fault in found:
        faults.error("bad-tensor", fault.message, fault.pointer, help=fault.help)
    return not found


def _of_side(side: str, tensors: Sequence[Tensor]) -> Iterator[Fault]:
    for at, tensor in enumerate(tensors):
        for fault in (*_range_faults(tensor), *(_input_faults(tensor) if side == "inputs" else _output_faults(tensor))):
            yield fault._replace(pointer=(side, at, *fault.pointer), message=f"{quoted(tensor.name)}: {fault.message}")


def _range_faults(tensor: Tensor) -> Iterator[Fault]:
    least, most = tensor.minimum, tensor.maximum
    if least is not None and most is not None and least > most:
        yield Fault(("minimum",), f"the minimum {least:g} is more than the maximum {most:g}", "exchange them")
    if (least is not None or most is not None) and tensor.dtype in ("string", "bool"):
        key = "minimum" if least is not None else "maximum"
        yield Fault((key,), f"{tensor.dtype} has no range", "leave minimum and maximum out")


def _input_faults(tensor: Tensor) -> Iterator[Fault]:
    if tensor.labels:
        yield Fault(("labels",), "labels are for outputs", "leave them out")
    if tensor.image is not None and tensor.columns:
        yield Fault(("columns",), "an image has no columns", "leave columns or image out")
    elif tensor.image is not None:
        yield from _image_faults(tensor, tensor.image)
    elif tensor.columns:
        yield from _column_faults(tensor)


def _image_faults(tensor: Tensor, image: Image) -> Iterator[Fault]:
    if tensor.dtype in ("string", "bool"):
        yield Fault(("dtype",), f"an image has numbers, and this is {tensor}", "give a number's type, such as uint8")
    elif not tensor.dtype.startswith("float") and not float(image.divide_by).is_integer():
        told = f"divided by {image.divide_by:g}, an image has no whole numbers, and this is {tensor}"
        yield Fault(("image", "divide_by"), told, "take a dtype such as float32, or leave divide_by out")
    if image.layout == "none" and image.mode == "rgb":
        yield Fault(
            ("image", "layout"), "an image of three channels has a place for them", "say mode: gray, or a layout"
        )
        return
    rank = 2 if image.layout == "none" else 3
    if len(tensor.shape) not in (rank, rank + 1):
        wanted = {"channels_first": "channels, height, width", "channels_last": "height, width, channels"}
        told = f"this is {tensor}; with layout {image.layout} an image is [{wanted.get(image.layout, 'height, width')}]"
        yield Fault(("shape",), told, "declare these dimensions, after that of the batch if there is one")
        return
    channels = tensor.shape[{"channels_first": -3, "channels_last": -1, "none": -2}[image.layout]]
    if rank == 3 and isinstance(channels, int) and channels != _CHANNELS[image.mode]:
        told = f"this is {tensor}, with {channels} channels; an image of mode {image.mode} has {_CHANNELS[image.mode]}"
        yield Fault(("image",), told, "correct mode, layout or shape")


def _column_faults(tensor: Tensor) -> Iterator[Fault]:
    if len(tensor.shape) not in (1, 2) or tensor.shape[-1] != len(tensor.columns):
        told = f"this is {tensor}, and has {len(tensor.columns)} columns"
        yield Fault(("columns",), told, "rows of a table are [batch, columns]: name each column, and no other")


def _output_faults(tensor: Tensor) -> Iterator[Fault]:
    if tensor.image is not None or tensor.columns:
        key = "image" if tensor.image is not None else "columns"
        yield Fault((key,), f"{key} is for inputs", "leave it out")
    if not tensor.labels:
        return
    if tensor.dtype in ("string", "bool"):
        yield Fault(("labels",), f"labels are for numbers, and this is {tensor}", "leave them out")
    elif tensor.dtype.startswith("float"):
        last = tensor.shape[-1] if tensor.shape else 1
        if isinstance(last, int) and last != len(tensor.labels):
            told = f"this is {tensor}, of {last} scores, and has {len(tensor.labels)} labels"
            yield Fault(("labels",), told, "give each score's label, in their order")
