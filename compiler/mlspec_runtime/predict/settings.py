"""The plan's settings of a runner of tensors (`mlspec.tensors.plan` is their writer)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from mlspec_runtime.predict.signature import TensorSpec


@dataclass(frozen=True)
class Requests:
    """What requests and answers hold; steps before and after the model make its own arrays of them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Batching:
    """Rows that are computed together, at most, and how long the first of them may wait for others."""

    max_rows: int = 1
    max_wait_s: float = 0.0


@dataclass(frozen=True)
class Settings:
    """`model` is the runner's own."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    requests: Requests
    model: Mapping[str, Any] = field(default_factory=dict)
    batching: Batching = field(default_factory=Batching)
    pre: tuple[Mapping[str, Any], ...] = ()
    post: tuple[Mapping[str, Any], ...] = ()


def read(settings: Mapping[str, Any]) -> Settings:
    """Raises pydantic.ValidationError if they are none."""
    return TypeAdapter(Settings).validate_python(dict(settings))
