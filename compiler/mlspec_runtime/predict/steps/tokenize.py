"""Texts to the numbers of their tokens, by a `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.step import Arrays, Place, read

_PADDING = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")
_PARTS = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}


@dataclass(frozen=True)
class Filled:
    """One input of the model."""

    name: str
    dtype: str


@dataclass(frozen=True)
class Where:
    """The file: `path` in the bundle, or in the folder of the model `role`."""

    path: str
    role: str | None = None


@dataclass(frozen=True)
class Settings:
    """`fills` by what the inputs hold: `ids`, `mask`, `types`."""

    input: str
    max_length: int
    truncate: bool
    multiple_of: int
    tokenizer: Where
    pair: str | None = None
    fills: Mapping[str, Filled] = field(default_factory=dict)


class Tokenize:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)
        self._tokenizer: Any = None
        self._pad_id = 0

    def load(self, place: Place) -> None:
        self._tokenizer = tokenizer = _read(_file(self._settings.tokenizer, place))
        self._pad_id = _pad_id(tokenizer)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if self._settings.truncate:
            tokenizer.enable_truncation(self._settings.max_length)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        encodings = self._tokenizer.encode_batch(self._texts(arrays))
        self._check_lengths(encodings)
        length = min(own.max_length, self._rounded(max((len(e) for e in encodings), default=0)))
        made = {filled.name: self._array(encodings, part, filled, length) for part, filled in own.fills.items()}
        return {**arrays, **made}

    def _texts(self, arrays: Arrays) -> list[Any]:
        texts = arrays[self._settings.input].tolist()
        return (
            texts
            if self._settings.pair is None
            else list(zip(texts, arrays[self._settings.pair].tolist(), strict=True))
        )

    def _check_lengths(self, encodings: Sequence[Any]) -> None:
        own = self._settings
        for row, encoding in enumerate(encodings):
            if len(encoding) > own.max_length:
                name = f"inputs.{own.input}.{row}"
                message = f"{name}: {len(encoding)} tokens; the model takes {own.max_length} at most: shorten the text"
                raise ServiceError("invalid_request", message, 422, field=name)

    def _rounded(self, length: int) -> int:
        """Up to the next multiple: rows of equal lengths can be computed together."""
        multiple = self._settings.multiple_of
        return max(1, -(-length // multiple)) * multiple

    def _array(self, encodings: Sequence[Any], part: str, filled: Filled, length: int) -> Array:
        empty = self._pad_id if part == "ids" else 0
        array = np.full((len(encodings), length), empty, dtype=filled.dtype)
        for row, encoding in zip(array, encodings, strict=True):
            values = getattr(encoding, _PARTS[part])
            row[: len(values)] = values
        return array


def _file(where: Where, place: Place) -> Path:
    folder = place.bundle if where.role is None else place.models[where.role]
    file = folder / where.path
    if not file.is_file():
        raise ServiceError("load_failed", f"there is no {where.path}, by which texts become tokens; build again", 503)
    return file


def _read(file: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    # The library raises nothing more special.
    except Exception as problem:
        raise ServiceError("load_failed", f"{file.name} is no tokenizer that can be read: {problem}", 503) from problem


def _pad_id(tokenizer: Any) -> int:
    """The number that stands for padding: as the file says, or of the usual names."""
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    found = [number for name in _PADDING if (number := tokenizer.token_to_id(name)) is not None]
    return int(found[0]) if found else 0
