"""The facts of an adapter in PEFT's format, told as of the one that a build makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.looking import kind_of, lacking
from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import fingerprint, read_tensors
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.facts.adapter_config import ADAPTER_CONFIG
from mlspec.runners.mlx_lm.peft.configuration import Obstacle, obstacles, read_configuration
from mlspec.runners.mlx_lm.peft.tensors import PEFT_WEIGHTS, NotConvertibleError, PeftAdapter, read_adapter
from mlspec.runners.mlx_lm.tensor_table import table

FORMAT = "peft"
"""What `details["format"]` says of such an adapter; mlx_lm's own have no such key."""

_PICKLE = "adapter_model.bin"
_SAVE = "save it by PEFT's save_pretrained, which writes adapter_config.json and adapter_model.safetensors"


def inspect_peft(ref: ModelRef, folder: Path, config: Mapping[str, Any], faults: Faults) -> ModelFacts | None:
    """Facts with the names and shapes that the converted tensors will have; `files` are those of the source.

    Raises:
        BadModelFileError: a file isn't what its name says, or PEFT couldn't load it.
    """
    if found := tuple(obstacles(config)):
        for obstacle in found:
            _not_convertible(ref, obstacle, faults)
        return None
    if missing := lacking(folder, (PEFT_WEIGHTS,)):
        _no_weights(ref, folder, missing, faults)
        return None
    configuration = read_configuration(config)
    weights, tensors = read_tensors(folder, PEFT_WEIGHTS)
    try:
        adapter = read_adapter(configuration, tensors)
    except NotConvertibleError as problem:
        _not_convertible(ref, problem.obstacle, faults)
        return None
    files = (*fingerprint(folder, (ADAPTER_CONFIG,)), weights)
    converted = adapter.converted()
    details = _details(adapter, configuration.base_model)
    details["tensors"] = [row.as_data() for row in table(converted)]
    return ModelFacts(ref, files, sum(tensor.size_bytes for tensor in converted.values()), details)


def _details(adapter: PeftAdapter, base_model: str | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "fine_tune_type": adapter.kind,
        "num_layers": None,
        "rank": adapter.rank,
        "scale": adapter.scale,
        "base_model": base_model,
    }


def _not_convertible(ref: ModelRef, obstacle: Obstacle, faults: Faults) -> None:
    message = f"{ref.role}: this PEFT adapter can't be converted into mlx_lm's format: {obstacle.reason}"
    faults.error("not-convertible", message, ref.pointer, help=obstacle.remedy)


def _no_weights(ref: ModelRef, folder: Path, missing: str, faults: Faults) -> None:
    if kind_of(folder / _PICKLE) == "file":
        message = f"{ref.role}: a PEFT adapter as a PyTorch pickle ({_PICKLE}); mlspec never opens a pickle"
        faults.error("model-format", message, ref.pointer, help="save it with safe_serialization=True, PEFT's default")
        return
    faults.error("model-format", f"{ref.role}: no PEFT adapter: {missing}", ref.pointer, help=_SAVE)
