"""The bytes of a model's weights once they are loaded: as they are, or as `mlx_lm.convert -q` would make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from mlspec.runners.mlx_lm.families import rules
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.tensors import in_layers_of
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.packing import GROUPS
from mlspec.runners.mlx_lm.tensor_table import Row, numbers, size

_FLOAT_BYTES: Mapping[str, int] = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
_BITS: Mapping[str, int] = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64},
}
TYPES = frozenset({*_FLOAT_BYTES, *_BITS})
"""Types of tensors that the safetensors format has."""

_MODE_BITS: Mapping[str, int] = {"mxfp4": 4, "mxfp8": 8, "nvfp4": 4}


@dataclass(frozen=True)
class _Setting:
    """How a module is quantized. Affine groups have a scale and a bias of the weight's own type, the others a byte."""

    bits: int
    group_size: int
    mode: str

    def bytes(self, elements: int, float_bytes: int) -> int:
        groups = elements // self.group_size
        return elements * self.bits // 8 + groups * (2 * float_bytes if self.mode == "affine" else 1)


_EIGHT_BITS = _Setting(8, 64, "affine")
"""What families ask for by themselves: mlx's settings where a predicate gives bits and group size alone."""


def weight_bytes(details: Mapping[str, Any], quantization: Quantization | None, element_bytes: int | None) -> int:
    """The bytes of a base model in memory. `details` are its facts.

    With a `quantization` as `mlx_lm.convert` makes the model, unless it is quantized already. Floats that aren't packed
    are `element_bytes` each; None leaves them as they are stored (as bfloat16, if they are unpacked in loading).
    """
    rows = loaded_rows(details)
    if quantization is None or not quantizable(details):
        return sum(_plain_bytes(row, element_bytes) for row in rows)
    plan = _Conversion(rows, rules(details["families"]), _setting(quantization), element_bytes)
    return sum(plan.bytes(row) for row in rows)


def quantizable(details: Mapping[str, Any]) -> bool:
    """Whether a build can quantize the model: it isn't yet, and has a weight that can be."""
    rows = loaded_rows(details)
    if details["quantization"] is not None or any(row.name.endswith(".scales") for row in rows):
        return False
    families = rules(details["families"])
    return any(_module_of(row) is not None and not _is_fixed(row, families) for row in rows)


def bits_per_weight(bits: int, group_size: int | None, mode: str) -> float:
    """Of a weight of 16 bits that is quantized so, with its share of scales and biases."""
    setting = _setting(Quantization.model_construct(bits=bits, group_size=group_size, mode=mode))
    return setting.bits + (8 * (4 if mode == "affine" else 1)) / setting.group_size


def loaded_rows(details: Mapping[str, Any]) -> tuple[Row, ...]:
    """The tensors of a base model as mlx_lm has them in memory."""
    loaded = details["loaded"]
    return tuple(Row.from_data(row) for row in (details["tensors"] if loaded is None else loaded))


@dataclass(frozen=True)
class _Conversion:
    """A model while `mlx_lm.convert` quantizes it."""

    rows: Sequence[Row]
    families: Sequence[Family]
    usual: _Setting
    element_bytes: int | None

    def bytes(self, row: Row) -> int:
        kept = any(part in row.name for family in self.families for part in family.own_type)
        element_bytes = None if kept else self.element_bytes
        setting = self._setting_of(row)
        if setting is None:
            return _plain_bytes(row, element_bytes)
        packed = setting.bytes(row.elements, element_bytes or _FLOAT_BYTES[row.dtype])
        beside = self._fixed_beside(row)
        if not beside:
            return packed
        plain = _plain_bytes(row, element_bytes)
        layers = size(row.layers or ())
        return packed // layers * (layers - beside) + plain // layers * beside

    def _setting_of(self, row: Row) -> _Setting | None:
        module = _module_of(row)
        if module is None or _is_fixed(row, self.families) or row.shape[-1] % self.usual.group_size != 0:
            return None
        return _EIGHT_BITS if any(_has_eight_bits(row, module, family) for family in self.families) else self.usual

    def _fixed_beside(self, row: Row) -> int:
        """In how many of its layers the module isn't quantized for what it lies beside."""
        for family in self.families:
            ends, marker = family.fixed_beside
            if ends and row.name.removesuffix(".weight").endswith(ends):
                return sum(in_layers_of(self.rows, marker, layer) for layer in numbers(row.layers or ()))
        return 0


def _setting(quantization: Quantization) -> _Setting:
    mode = quantization.mode
    group_size = quantization.group_size if mode == "affine" else None
    return _Setting(_MODE_BITS.get(mode, quantization.bits), group_size or GROUPS[mode], mode)


def _module_of(row: Row) -> str | None:
    """The path of the module that mlx could quantize: a Linear, an Embedding or experts; None for all else."""
    module, _, leaf = row.name.rpartition(".")
    if leaf != "weight" or len(row.shape) < 2 or row.dtype not in _FLOAT_BYTES or "conv" in module.rpartition(".")[2]:
        return None
    return module


def _is_fixed(row: Row, families: Sequence[Family]) -> bool:
    return any(row.name.removesuffix(".weight").endswith(family.fixed) for family in families if family.fixed)


def _has_eight_bits(row: Row, module: str, family: Family) -> bool:
    tall = bool(family.tall_eight_bits) and module.endswith(family.tall_eight_bits)
    return module.endswith(family.eight_bits or ("\0",)) or (tall and row.shape[-2] > row.shape[-1])


def _plain_bytes(row: Row, element_bytes: int | None) -> int:
    if row.dtype in _FLOAT_BYTES:
        return row.elements * (element_bytes or _FLOAT_BYTES[row.dtype])
    return (prod(row.shape) * _BITS.get(row.dtype, 8) + 7) // 8 * row.count
