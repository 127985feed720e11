"""How faults of a field are told."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator


def one_fault(told: str) -> WrapValidator:
    """Makes all that is wrong in a field one fault of the field itself: no key of the client's and no member of a union
    is in its path.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(told) from None

    return WrapValidator(check)
