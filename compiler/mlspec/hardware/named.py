"""Macs by their products' names: `Mac Studio 2025, M4 Max, 64 GB`, in any order and case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.characters import quoted
from mlspec.hardware.chips import as_sizes, chip_name
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.tables import table
from mlspec.suggest import closest

_MEMORY = re.compile(r"(?<![\w.])(\d{1,5})\s*g(?:i?b)?(?!\w)", re.ASCII)
_NEGATIVE = re.compile(r"(?<!\w)-\d{1,5}\s*g(?:i?b)?(?!\w)", re.ASCII)
_IDENTIFIER = re.compile(r"(?<!\w)[a-z]+\d{1,3},\d{1,3}(?!\w)", re.ASCII)
_CHIP = re.compile(r"(?<!\w)([ma]\d{1,3})(?:\s+(pro|max|ultra)(?!\w))?(?!\w)", re.ASCII)
_WORD = re.compile(r"[\w.]+")
_NOISE = {"apple", "inch", "chip", "with", "and", "ram", "memory", "the"}
_MOST_LISTED = 4


@dataclass(frozen=True)
class NamedMac:
    """What a product's name says: the rows of the table that it fits, all of one name and chip, and the memory.

    `models` is empty where the text names a chip and no product.
    """

    models: tuple[str, ...]
    chip: str | None
    memory_gb: int | None


@dataclass(frozen=True)
class _Wanted:
    text: str
    words: frozenset[str]
    chip: str | None
    memory_gb: int | None
    model: str | None


def find(text: str) -> NamedMac:
    """The Mac that a text names, by its product's name or its model identifier (`Mac16,9`).

    Raises:
        UnknownMachineError: none has this name, or several have.
    """
    wanted = _wanted(text)
    if not wanted.words and wanted.chip and not wanted.model:
        return NamedMac((), wanted.chip, wanted.memory_gb)
    fitting = [model for model, row in _rows().items() if _fits(wanted, model, row)]
    names = {_name(_rows()[model]) for model in fitting}
    if not (wanted.words or wanted.model) or not names:
        raise _unknown(wanted)
    if len(names) > 1:
        raise _several(wanted, sorted(names))
    return NamedMac(tuple(fitting), _rows()[fitting[0]]["chip"], wanted.memory_gb)


def sold_memory(chip: str, model: str | None) -> list[int]:
    """The sizes in GB that the chip is sold with, in this model if one is named; none if the chip isn't known."""
    row = table("machines").get(model, {}) if model else {}
    sizes: list[int] = row.get("memory_gb") or table("chips").get(chip, {}).get("memory_gb", [])
    return sizes


def titles() -> list[str]:
    """All products with their memory, as they are written: `Mac mini 2024, M4, 16 GB`."""
    found: dict[str, None] = {}
    for model, row in _rows().items():
        for memory_gb in sold_memory(row["chip"], model):
            found[f"{_name(row)}, {memory_gb} GB"] = None
    return list(found)


def _rows() -> Mapping[str, Mapping[str, Any]]:
    return {model: row for model, row in table("machines").items() if row["chip"]}


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['product']}, {row['chip'].removeprefix('Apple ')}"


def _wanted(text: str) -> _Wanted:
    model, rest = _identifier(text.lower())
    if negative := _NEGATIVE.search(rest):
        raise _no_memory(text, negative[0])
    rest = re.sub(r"[-,;:/()\"'”“]", " ", rest)
    memory, rest = _cut(_MEMORY, rest)
    if memory and int(memory[1]) == 0:
        raise _no_memory(text, memory[0])
    chip, rest = _cut(_CHIP, rest)
    name = chip_name(chip[0]) if chip else None
    words = frozenset(_WORD.findall(rest)) - _NOISE
    return _Wanted(text, words, name.row if name else None, int(memory[1]) if memory else None, model)


def _identifier(text: str) -> tuple[str | None, str]:
    """A model identifier in the text, if it has one of the table's, and the text without it."""
    match, rest = _cut(_IDENTIFIER, text)
    model = next((model for model in _rows() if match and model.lower() == match[0]), None)
    return (model, rest) if model else (None, text)


def _cut(pattern: re.Pattern[str], text: str) -> tuple[re.Match[str] | None, str]:
    match = pattern.search(text)
    return (match, f"{text[: match.start()]} {text[match.end() :]}") if match else (None, text)


def _fits(wanted: _Wanted, model: str, row: Mapping[str, Any]) -> bool:
    words = set(row["product"].lower().split())
    return wanted.model in (None, model) and wanted.words <= words and wanted.chip in (None, row["chip"])


def _unknown(wanted: _Wanted) -> UnknownMachineError:
    near = closest(wanted.text, titles())
    help = f"did you mean '{near}'? mlspec machine list has all" if near else "mlspec machine list has all"
    return UnknownMachineError(f"no Mac is known as {quoted(wanted.text)}", help)


def _no_memory(text: str, memory: str) -> UnknownMachineError:
    help = "memory is a whole number of GB, at least 1: 64 GB"
    return UnknownMachineError(f"{quoted(text)}: no Mac has {memory.strip().upper()} of memory", help)


def _several(wanted: _Wanted, names: list[str]) -> UnknownMachineError:
    more = ", …" if len(names) > _MOST_LISTED else ""
    help = f"it could be {'; '.join(names[:_MOST_LISTED])}{more}"
    return UnknownMachineError(f"{quoted(wanted.text)} is the name of several Macs", help)


def check_memory(chip: str, model: str | None, memory_bytes: int) -> str | None:
    """A warning where the chip, as far as is known, isn't sold with so much memory."""
    sizes = sold_memory(chip, model)
    if not sizes or memory_bytes in [size * 2**30 for size in sizes]:
        return None
    row = table("machines").get(model) if model else None
    product = f"a {row['product']} with {chip}" if row else chip
    return f"{product} is sold with {as_sizes(sizes)}, as far as is known, not with {memory_bytes / 2**30:g} GB"
