"""What `mlspec bench` measured, whole: shown, kept in a file, and compared with an earlier one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlspec.bench.measures import Level
from mlspec.characters import visible
from mlspec.errors import CommandError

VERSION = 1
KIND = "mlspec-bench"


class NoRecordError(ValueError):
    """A file holds nothing that was measured here; the message says why."""


@dataclass(frozen=True)
class Subject:
    """What was measured: the service of a spec's target, on a machine, and what its plan says of it.

    From `computed_at_once` on all is the plan's; the estimated speed is (low, expected, high).
    """

    spec: str
    name: str
    project: str
    target: str
    task: str
    machine: str
    url: str | None = None
    computed_at_once: int | None = None
    queue: int | None = None
    footprint_bytes: int | None = None
    budget_bytes: int | None = None
    decode_tokens_per_s: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Asked:
    """How it was asked."""

    endpoint: str
    prompts: str
    max_tokens: int | None
    requests: int | None
    duration_s: float | None
    adapters: tuple[str, ...] = ()
    shared_prefix: int = 0
    repeat: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Record:
    """`measured_at` is the time of its begin in UTC, ISO 8601."""

    measured_at: str
    mlspec: str
    subject: Subject
    asked: Asked
    levels: tuple[Level, ...]
    kind: str = KIND
    version: int = VERSION


def dumped(record: Record, **more: Any) -> str:
    """As JSON, with a newline."""
    return json.dumps({**asdict(record), **more}, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def parse(content: bytes) -> Record:
    """Raises NoRecordError."""
    try:
        document = json.loads(content)
    except ValueError as problem:
        raise NoRecordError("it isn't JSON") from problem
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise NoRecordError("mlspec bench --save didn't write it")
    if document.get("version") != VERSION:
        raise NoRecordError(f"it has version {document.get('version')!r}; this mlspec reads {VERSION}")
    try:
        record = TypeAdapter(Record).validate_python(document)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        raise NoRecordError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from problem
    _check_numbers(record)
    return record


def _check_numbers(record: Record) -> None:
    """JSON as Python reads it has numbers that can't be drawn."""
    try:
        dumped(record)
    except ValueError as problem:
        raise NoRecordError("it has a number that isn't finite") from problem
    if any(level.concurrency < 1 for level in record.levels):
        raise NoRecordError("a concurrency is 1 at least")


def read_record(place: Path) -> Record:
    """Read a kept record. Raises CommandError."""
    try:
        return parse(place.read_bytes())
    except (NoRecordError, OSError) as problem:
        reason = (problem.strerror or "can't be read").lower() if isinstance(problem, OSError) else str(problem)
        message = f"{visible(str(place))}: {reason}"
        raise CommandError("no-measurements", message, "take a file that mlspec bench --save wrote") from problem
