"""Which arrays a package takes at once: checked before Core ML, which names no input, and cut into parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array

if TYPE_CHECKING:
    from .runtime import Limit


def parts(inputs: Mapping[str, Array], limits: Mapping[str, Limit]) -> Iterator[dict[str, Array]]:
    """The inputs in parts that the package takes: cut along the first dimension where that may only be so long.

    Raises ServiceError if an array can't be taken however it is cut.
    """
    most = min((limit.ranges[0][1] or _ANY for limit in limits.values() if _is_cut(limit)), default=_ANY)
    rows = max((len(inputs[name]) for name, limit in limits.items() if _is_cut(limit)), default=1)
    for start in range(0, max(rows, 1), most):
        part = {n: a[start : start + most] if n in limits and _is_cut(limits[n]) else a for n, a in inputs.items()}
        for name, limit in limits.items():
            _check(name, part[name], limit)
        yield part


_ANY = 2**31


def _is_cut(limit: Limit) -> bool:
    return bool(limit.ranges) and limit.ranges[0][0] != limit.ranges[0][1]


def _check(name: str, array: Array, limit: Limit) -> None:
    fits = not limit.shapes or array.shape in limit.shapes
    for size, (least, most) in zip(array.shape, limit.ranges, strict=bool(limit.ranges)):
        fits = fits and least <= size <= (most or _ANY)
    if not fits:
        allowed = " or ".join(str(list(shape)) for shape in limit.shapes) or _told(limit)
        message = f"inputs.{name}: the model takes {allowed}, this is {list(array.shape)}"
        raise ServiceError("invalid_request", message, 422, field=f"inputs.{name}")


def _told(limit: Limit) -> str:
    sizes = (str(least) if least == most else f"{least} to {most or 'any'}" for least, most in limit.ranges)
    return f"[{', '.join(sizes)}]"
