"""JSON from clients that goes on into chat templates, grammars and keys of caches, each with limits of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator

MOST_LEVELS = 100
"""Of objects and lists in each other: what templates and the compiler of grammars go through by recursion."""


def check_json(value: Any) -> Any:
    """The value. Raises ValueError, without its texts, if it has too many levels, half a surrogate pair or a number
    that JSON doesn't have.
    """
    levels, values = 0, [value]
    while values:
        for one in values:
            _check_leaf(one)
        holders = [one for one in values if isinstance(one, dict | list)]
        levels += bool(holders)
        if levels > MOST_LEVELS:
            raise ValueError(f"nested too deeply: {MOST_LEVELS} levels are allowed")
        values = [inner for holder in holders for inner in _inside(holder)]
    return value


def read_object(text: str) -> dict[str, Any]:
    """The JSON object in a text. Raises ValueError, as `check_json`."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested too deeply: {MOST_LEVELS} levels are allowed") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("it must be the text of a JSON object")
    check_json(value)
    return value


def _inside(holder: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return [*holder.keys(), *holder.values()] if isinstance(holder, dict) else holder


def _check_leaf(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("it has a number that JSON doesn't have")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in _beyond_ascii(value)):
        raise ValueError("it has half a surrogate pair")


def _beyond_ascii(text: str) -> str:
    return "" if text.isascii() else text


JsonObject = Annotated[dict[str, Any], AfterValidator(check_json)]
"""A JSON object within these limits."""
