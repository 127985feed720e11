"""The measured rows of `hardware/data/throughput.yaml`, each with what the estimate is asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlspec.hardware.chips import chip_name, find_chip
from mlspec.hardware.speed import estimate
from mlspec.hardware.tables import table
from mlspec.model.machine import Chip, Machine
from mlspec.model.plan import Speed

SMALL_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class Row:
    """One measurement. `aside` is why it is only shown; `cores_known` is false where the source doesn't name them."""

    machine: Machine
    chip: Chip
    cores_known: bool
    model: str
    format: str
    engine: str
    layers: int
    parameters: int
    active_parameters: int
    experts: bool
    four_bit: bool
    bytes_per_token: int
    decode: float
    prefill: float | None
    aside: str = ""

    @property
    def estimate(self) -> Speed:
        speed = estimate(
            self.machine,
            bytes_per_token=self.bytes_per_token,
            layers=self.layers,
            active_parameters=self.active_parameters,
            parameters=self.parameters,
            experts=self.experts,
            four_bit=self.four_bit,
        )
        assert speed is not None
        return speed

    @property
    def half(self) -> str:
        """`fitted`, `held out`, or `Ultra`: of these none is fitted."""
        if self.chip.tier == "ultra":
            return "Ultra"
        return "fitted" if self.chip.name in fitted_chips() else "held out"

    @property
    def plain(self) -> bool:
        """Nothing widens its band."""
        return not (self.aside or self.experts or self.half == "Ultra" or self.parameters < SMALL_PARAMETERS)


def fitted_chips() -> tuple[str, ...]:
    """Every second one of the chips of the 7B table in its order (generation, then tier), Ultras left out."""
    names = dict.fromkeys(row["chip"] for row in table("throughput")["llama_7b"]["rows"])
    return tuple(name for name in names if not name.endswith("Ultra"))[1::2]


def rows() -> tuple[Row, ...]:
    """All rows that are compared: llama.cpp's first."""
    return (*_llama(), *(_mlx(row) for row in table("throughput")["mlx"]))


def _llama() -> Iterator[Row]:
    data = table("throughput")["llama_7b"]
    sizes = table("throughput")["models"]["LLaMA-7B"]["bytes"]
    for row in data["rows"]:
        for format in [name for name in sizes if name in row]:
            prefill, decode = row[format]
            measured = {"context_tokens": data["context_tokens"], "prefill": prefill, "decode": decode, **row}
            yield _row(measured, "LLaMA-7B", format, sizes[format], four_bit=format == "Q4_0", engine="llama.cpp")


def _mlx(row: dict[str, Any]) -> Row:
    data = table("throughput")
    size_bytes = data["models"][row["model"]]["parameters"] * data["bits_per_weight"][row["bits"]] / 8
    format = "bf16" if row["bits"] == 16 else f"{row['bits']}-bit"
    return _row(row, row["model"], format, size_bytes, four_bit=row["bits"] <= 4, engine="MLX")


def _row(row: dict[str, Any], model: str, format: str, size_bytes: float, *, four_bit: bool, engine: str) -> Row:
    shape = table("throughput")["models"][model]
    chip = _chip(row)
    active = size_bytes * shape["active_parameters"] / shape["parameters"]
    return Row(
        machine=Machine(memory_bytes=(row.get("memory_gb") or 16) * 2**30, chip=chip, macos="26.0"),
        chip=chip,
        cores_known=row["gpu_cores"] is not None,
        model=model,
        format=format,
        engine=engine,
        layers=shape["layers"],
        parameters=shape["parameters"],
        active_parameters=shape["active_parameters"],
        experts=shape["experts"],
        four_bit=four_bit,
        bytes_per_token=round(active) + (row["context_tokens"] or 0) * shape["kv_bytes"],
        decode=row["decode"],
        prefill=row["prefill"],
        aside=row.get("aside", ""),
    )


def _chip(row: dict[str, Any]) -> Chip:
    name = chip_name(row["chip"])
    assert name is not None
    return find_chip(name, row["gpu_cores"]).chip
