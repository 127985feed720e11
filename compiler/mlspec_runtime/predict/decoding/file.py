"""A body that is no JSON: the whole of it is one input."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class File:
    """`media_type` is one that the service takes."""

    media_type: str
    content: bytes = field(repr=False)
