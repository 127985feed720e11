"""Whether an array that there is can be one that is wanted, as far as their declarations tell."""

from __future__ import annotations

from mlspec.model.signature import Tensor


def misfit(given: Tensor, wanted: Tensor, *, strict: bool = False) -> str:
    """Why an array can't be what is wanted, to go on from its name; empty if it can.

    A dimension that has a name may turn out to be the size that is wanted; `strict`: it has to be for certain.
    """
    if given.dtype != wanted.dtype:
        return f"is {given}; wanted is {wanted}"
    if len(given.shape) != len(wanted.shape):
        return f"is {given}, of {len(given.shape)} dimensions; wanted is {wanted}"
    for at, (has, wants) in enumerate(zip(given.shape, wanted.shape, strict=True)):
        uncertain = strict and isinstance(has, str)
        if isinstance(wants, int) and has != wants and (isinstance(has, int) or uncertain):
            return f"is {given}; wanted is {wanted}, whose dimension {at} is {wants}"
    return ""
