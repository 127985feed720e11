"""How a model's weights are packed: the bits and groups of its quantization, and those of single modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.runners.mlx_lm.tensor_table import Ranges, Row, covers, pattern, runs, shown

GROUPS: Mapping[str, int] = {"affine": 64, "mxfp4": 32, "mxfp8": 32, "nvfp4": 16}
"""The usual group of each mode (mlx.core.quantize)."""

WORD_BITS = 32
_BITS = frozenset({2, 3, 4, 5, 6, 8})
PACKED = frozenset({"U32", "I32"})
_GROUPS_WITHOUT_BIAS: Mapping[float, int] = {4 * 32: 32, 8 * 32: 32, 4 * 16: 16}
"""The group by its bits in all, where scales are bytes: each of mxfp4, mxfp8 and nvfp4 has one of its own."""

_OTHER_METHODS: Mapping[str, Mapping[str, Any]] = {
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"},
    "mxfp8": {"bits": 8, "group_size": 32, "mode": "mxfp8"},
    "fp8": {"bits": 8, "group_size": 32, "mode": "mxfp8"},
    "compressed-tensors": {"bits": 4, "group_size": 32},
    "modelopt": {"bits": 4, "group_size": 16, "mode": "nvfp4"},
    "awq": {"bits": 4, "group_size": 128},
    "gptq": {"bits": 4, "group_size": 128},
}
"""Formats of others that mlx_lm takes (mlx_lm.utils, `load_model`)."""

_LARGEST_GROUP = 1024
_MODES = frozenset(GROUPS)


@dataclass(frozen=True)
class Module:
    """The modules of one name (each number a `*`) that are quantized alike: by other settings than most, or not at all.

    `layers` has the values of the first number; None if there is none in the name.
    """

    name: str
    layers: Ranges | None
    settings: Mapping[str, Any] | None

    def as_data(self) -> dict[str, Any]:
        layers = None if self.layers is None else [list(run) for run in self.layers]
        return {"name": self.name, "layers": layers, "settings": None if self.settings is None else dict(self.settings)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Module:
        """The inverse of `as_data`."""
        layers = None if data["layers"] is None else tuple((first, last) for first, last in data["layers"])
        return Module(data["name"], layers, data["settings"])


@dataclass(frozen=True)
class Packing:
    """The settings of most weights, and the modules that are packed otherwise."""

    settings: Mapping[str, Any]
    modules: tuple[Module, ...] = ()

    @staticmethod
    def of(config: Mapping[str, Any]) -> Packing:
        """As config.json has it; what isn't there or can't be true is left out."""
        given = config.get("quantization")
        if isinstance(given, dict):
            return Packing(_settings(given), modules(given))
        other = config.get("quantization_config")
        other = other if isinstance(other, dict) else {}
        method = other.get("quant_method")
        usual = _OTHER_METHODS.get(method, {}) if isinstance(method, str) else {}
        return Packing({**usual, **_settings(other)})

    def as_data(self) -> dict[str, Any]:
        return {"settings": dict(self.settings), "modules": [module.as_data() for module in self.modules]}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Packing:
        """The inverse of `as_data`."""
        return Packing(data["settings"], tuple(Module.from_data(module) for module in data["modules"]))

    def unpacked(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The rows with the shapes that packed weights stand for, without their scales and biases."""
        scales = defaultdict[str, list[Row]](list)
        for row in rows:
            if row.name.endswith(".scales"):
                scales[row.name.removesuffix(".scales")].append(row)
        return tuple(self._unpacked(row, scales) for row in rows if not _is_scale(row, scales))

    def _unpacked(self, row: Row, scales: Mapping[str, list[Row]]) -> Row:
        module, _, leaf = row.name.rpartition(".")
        if leaf != "weight" or row.dtype not in PACKED or not row.shape:
            return row
        own = next((other for other in scales.get(module, ()) if _belong(row, other)), None)
        if own is None:
            return row
        return row.but(shape=(*row.shape[:-1], own.shape[-1] * self._group_of(module, row, own)))

    def _group_of(self, module: str, row: Row, scales: Row) -> int:
        """The group whose bits fill the words: the module's own, else the usual one, else any that can be."""
        each = row.shape[-1] * WORD_BITS / max(1, scales.shape[-1])
        if scales.dtype == "U8" and each in _GROUPS_WITHOUT_BIAS:
            return _GROUPS_WITHOUT_BIAS[each]
        own = [one.settings for one in self.modules if one.name == module and _overlap(one.layers, row.layers)]
        for settings in (*own, self.settings):
            if settings and (bits := settings.get("bits")) and (group := _group(settings)) * bits == each:
                return group
        groups = (_group(self.settings), *sorted(set(GROUPS.values()) | {128}))
        return next((group for group in groups if each / group in _BITS), groups[0])


def modules(quantization: Mapping[str, Any]) -> tuple[Module, ...]:
    """What a configuration says of single modules, in rows: false is a module that isn't quantized."""
    alike = defaultdict[tuple[Any, ...], list[int | None]](list)
    for path, given in quantization.items():
        if isinstance(given, dict) or given is False:
            name, number = pattern(path)
            settings = tuple(sorted(_settings(given).items())) if given else None
            alike[name, settings].append(number)
    found = [
        Module(shown(name), runs(n for n in numbers if n is not None) or None, settings and dict(settings))
        for (name, settings), numbers in alike.items()
    ]
    return tuple(sorted(found, key=lambda one: (one.name, one.layers or ())))


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {
        key: given[key]
        for key in ("bits", "group_size")
        if type(given.get(key)) is int and 0 < given[key] <= _LARGEST_GROUP
    }
    mode = given.get("mode")
    return numbers | ({"mode": mode} if isinstance(mode, str) and mode in _MODES else {})


def _group(settings: Mapping[str, Any]) -> int:
    group: int = settings.get("group_size") or GROUPS[settings.get("mode", "affine")]
    return group


def _is_scale(row: Row, scales: Mapping[str, list[Row]]) -> bool:
    module, _, leaf = row.name.rpartition(".")
    return leaf in ("scales", "biases") and module in scales


def _belong(weight: Row, scales: Row) -> bool:
    """Whether the scales are those of the weight: in some layer they lie together, and are as many rows."""
    return scales.shape[:-1] == weight.shape[:-1] and bool(scales.shape) and _overlap(weight.layers, scales.layers)


def _overlap(one: Ranges | None, other: Ranges | None) -> bool:
    if one is None or other is None:
        return one is other
    return any(covers(other, first) or covers(other, last) for first, last in one) or any(
        covers(one, first) for first, _ in other
    )
