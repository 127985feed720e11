"""Writes an adapter in PEFT's format as one of mlx_lm. The same source gives the same bytes, on every computer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.errors import CommandError
from mlspec.model_files import Tensor, read_json, read_tensors
from mlspec.runners.mlx_lm.facts.adapter_config import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from mlspec.runners.mlx_lm.peft.configuration import PeftConfiguration, read_configuration
from mlspec.runners.mlx_lm.peft.tensors import (
    ELEMENT_BYTES,
    LEAVES,
    PEFT_WEIGHTS,
    PREFIX,
    Module,
    PeftAdapter,
    read_adapter,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_STORED = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""NumPy has no bfloat16: its bits are moved as they are, and multiplied as the upper half of a float32's."""
_IN_LAYER = re.compile(r"(?:.*\.)?(?:layers|h|blocks)\.\d+\.(.+)")
_ALL_LAYERS = -1
_ALIGNMENT = 8
_BF16_EXPONENT = 0x7F80
"""All bits of it are set in what is no finite number."""


def convert(source: Path, into: Path) -> None:
    """Write the adapter in the folder `source` as one of mlx_lm into `into`, which must not exist yet.

    Raises:
        CommandError: numpy isn't installed, or a number gets too large for the adapter's type.
        BadModelFileError: the source is no adapter that can be converted.
    """
    _check_numpy()
    configuration = read_configuration(read_json(source / ADAPTER_CONFIG))
    adapter = read_adapter(configuration, read_tensors(source, PEFT_WEIGHTS)[1])
    into.mkdir()
    _write(into / ADAPTER_WEIGHTS, adapter, source / PEFT_WEIGHTS)
    text = json.dumps(_configuration(adapter, configuration), indent=2, sort_keys=True)
    (into / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _check_numpy() -> None:
    try:
        import numpy  # noqa: F401 - not at every build
    except ImportError as problem:
        help = 'install it: pip install "mlspec-compiler[mlx]"'
        message = "converting an adapter needs numpy, which isn't installed"
        raise CommandError("conversion-failed", message, help, failed=True) from problem


def _configuration(adapter: PeftAdapter, configuration: PeftConfiguration) -> dict[str, Any]:
    keys = sorted({_key(module.path) for module in adapter.modules})
    parameters = {"rank": adapter.rank, "scale": adapter.scale, "dropout": 0.0, "keys": keys}
    model = {"model": configuration.base_model} if configuration.base_model else {}
    return {**model, "fine_tune_type": adapter.kind, "num_layers": _ALL_LAYERS, "lora_parameters": parameters}


def _key(path: str) -> str:
    """A module as mlx_lm names it: within its layer, or from the model's root."""
    found = _IN_LAYER.fullmatch(path)
    return found[1] if found else path


def _write(path: Path, adapter: PeftAdapter, source: Path) -> None:
    """As safetensors orders them: wider types first, so that each tensor lies where its type may lie."""
    modules = {module.path: module for module in adapter.modules}
    converted = sorted(adapter.converted().items(), key=lambda item: (-ELEMENT_BYTES[item[1].dtype], item[0]))
    begins = _begins(source)
    with source.open("rb") as stored, path.open("wb") as file:
        file.write(_header(converted))
        for name, _ in converted:
            module, _, leaf = name.rpartition(".")
            file.write(_tensor(stored, begins, modules[module], leaf, adapter).tobytes())


def _header(tensors: list[tuple[str, Tensor]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, tensor in tensors:
        offsets = [end, end := end + tensor.size_bytes]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _begins(path: Path) -> Mapping[str, int]:
    """Where each tensor begins in a safetensors file that was checked."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def _tensor(stored: Any, begins: Mapping[str, int], module: Module, leaf: str, adapter: PeftAdapter) -> Array:
    import numpy as np

    tensor = module.tensors[leaf]
    end = next(end for end, name in LEAVES.items() if name == leaf)
    stored.seek(begins[f"{PREFIX}{module.path}.{end}"])
    array = np.frombuffer(stored.read(tensor.size_bytes), _STORED[tensor.dtype]).reshape(tensor.shape)
    if leaf == "m":
        return array
    if leaf == "lora_b":
        array = _multiplied(array, adapter.factor(module), tensor.dtype, module.path)
    missing = adapter.rank - module.rank
    # Zeros of any type are zero bits.
    return np.pad(array.T, [(0, 0), (0, missing)] if leaf == "lora_a" else [(0, missing), (0, 0)])


def _multiplied(array: Array, factor: float, dtype: str, path: str) -> Array:
    """The array times a factor in its own type, rounded to the nearest, of two the even one."""
    import numpy as np

    if factor == 1.0:
        return array
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            wide = (array.astype(np.uint32) << 16).view(np.float32)
            product = (wide * np.float64(factor)).astype(np.float32)
            result = _upper_half(product)
            finite = (result & _BF16_EXPONENT) != _BF16_EXPONENT
        else:
            result = (array.astype(np.float64) * factor).astype(array.dtype)
            finite = np.isfinite(result)
    if not finite.all():
        message = f"the tensor lora_B of '{path}' times {factor:g} is too large for its type"
        raise CommandError("conversion-failed", message, "save the adapter in float32", failed=True)
    return result


def _upper_half(values: Array) -> Array:
    import numpy as np

    bits = values.view(np.uint32)
    rounded: Array = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return rounded
