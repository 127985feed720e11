"""What is to be done, as `mlspec predict` hands it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

ROWS_PER_PART = 100_000
PART_S = 10.0

Format = Literal["parquet", "jsonl", "csv"]
FORMATS: Mapping[str, Format] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
"""By the end of a file's name, in small letters."""


@dataclass(frozen=True)
class BatchJob:
    """Paths are absolute. `columns` says which columns an input takes, separated by commas, where it isn't the one of
    its name; `keep` those that the output holds in place of the row's number (None: as the input's kind has it). A part
    is closed after `rows_per_part` rows or `part_s` seconds; `batch_rows` are computed together (None: by their size).
    """

    input: Path
    output: Path
    failed: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    restart: bool = False
    engine: Literal["local", "ray"] = "local"
    rows_per_part: int = ROWS_PER_PART
    part_s: float = PART_S
    batch_rows: int | None = None

    @property
    def format(self) -> Format:
        """Of the output, by its name."""
        return FORMATS[self.output.suffix.lower()]

    @property
    def work(self) -> Path:
        """The folder with all that is done so far, beside the output."""
        return self.output.with_name(f"{self.output.name}.parts")


def read_job(text: str) -> BatchJob:
    """Raises pydantic.ValidationError."""
    return TypeAdapter(BatchJob).validate_json(text)


def dump_job(job: BatchJob) -> str:
    """What `read_job` reads."""
    return TypeAdapter(BatchJob).dump_json(job).decode()


def settings(job: BatchJob) -> dict[str, Any]:
    """What of it the rows of the output depend on."""
    keep = None if job.keep is None else list(job.keep)
    return {"columns": dict(job.columns), "keep": keep, "format": job.format}
