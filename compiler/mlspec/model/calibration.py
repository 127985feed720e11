"""What `mlspec bench --calibrate` measured of a spec's model: how long batches take, and what memory they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.model.target import Target

KIND = "Calibration"


@dataclass(frozen=True)
class Point:
    """A call of the model with so many rows: the median of its time, and the most memory that the process, or the
    accelerator, held by then; None where nothing tells.
    """

    rows: int
    seconds: float
    memory_bytes: int | None = None

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds


@dataclass(frozen=True)
class Calibration:
    """The points of one target, by rows. `digest` is that of the model and the code that were measured, `machine` what
    the spec says that it runs on, `computer` where it was.
    """

    target: str
    platform: str
    accelerator: str
    machine: str
    computer: str
    digest: str
    points: tuple[Point, ...]

    def is_of(self, target: Target) -> bool:
        """Whether it was measured for this target, as it is now."""
        return self.place == place_of(target)

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.target, self.platform, self.accelerator, self.machine

    @property
    def row_bytes(self) -> int | None:
        """What a row more takes of memory; None if that wasn't measured."""
        known = [(point.rows, point.memory_bytes) for point in self.points if point.memory_bytes is not None]
        if len(known) < 2:
            return None
        (first_rows, first_bytes), (last_rows, last_bytes) = known[0], known[-1]
        return max(0, -(-(last_bytes - first_bytes) // (last_rows - first_rows)))

    def as_data(self) -> dict[str, Any]:
        """An entry of the file, as `schema/calibration.schema.json` describes it."""
        points = [{key: value for key, value in vars(point).items() if value is not None} for point in self.points]
        return {**vars(self), "points": points}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Calibration:
        """The inverse of `as_data`, for data that keeps to the schema."""
        points: Sequence[Mapping[str, Any]] = data["points"]
        return Calibration(**{**data, "points": tuple(Point(**point) for point in points)})


def place_of(target: Target) -> tuple[str, str, str, str]:
    """What of a target a calibration holds for."""
    return target.name, target.platform, target.accelerator, target.machine.title if target.machine else ""
