"""The facts of an MLX language model and of an mlx_lm adapter, from their configuration and headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import BadModelFileError, Tensor, fingerprint, read_json, tensors
from mlspec.runners import Faults

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapters.safetensors"
INDEX = "model.safetensors.index.json"

# What mlx_lm.load reads of a folder (mlx_lm.utils.load_model and transformers' tokenizer files).
_READ: tuple[str, ...] = (CONFIG, INDEX, "model*.safetensors", "generation_config.json", "tokenizer*")
_READ += (
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
    "*.tiktoken",
    "*.jinja",
)
_OTHER_FORMATS = {".gguf": "GGUF", ".bin": "PyTorch pickle", ".pt": "PyTorch pickle", ".pth": "PyTorch pickle"}


def inspect_base(ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and any(fnmatch(p.name, w) for w in _READ))
    weights = [name for name in names if fnmatch(name, "model*.safetensors")]
    if CONFIG not in names or not weights:
        _no_mlx_model(ref, folder, weights, faults)
        return None
    try:
        config = read_json(folder / CONFIG)
        _check_shards(folder, weights)
        found = {name: t for weight in weights for name, t in tensors(folder / weight).items()}
        files = fingerprint(folder, names)
    except BadModelFileError as problem:
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="fetch or convert the model again")
        return None
    return ModelFacts(ref, files, _bytes(found), _details(config, found))


def inspect_adapter(ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
    missing = [name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS) if not (folder / name).is_file()]
    if missing:
        _no_mlx_adapter(ref, folder, missing, faults)
        return None
    try:
        config = read_json(folder / ADAPTER_CONFIG)
        found = tensors(folder / ADAPTER_WEIGHTS)
        files = fingerprint(folder, (ADAPTER_CONFIG, ADAPTER_WEIGHTS))
    except BadModelFileError as problem:
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="train or copy the adapter again")
        return None
    if "peft_type" in config or "fine_tune_type" not in config:
        _peft(ref, faults)
        return None
    parameters = config.get("lora_parameters") or {}
    details = {"fine_tune_type": config["fine_tune_type"], "num_layers": config.get("num_layers"), **parameters}
    return ModelFacts(ref, files, _bytes(found), details)


def _check_shards(folder: Path, weights: list[str]) -> None:
    """All shards that an index names must be there: a download that broke off lacks some."""
    if not (folder / INDEX).is_file():
        return
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise BadModelFileError(f"{INDEX}: has no weight_map")
    missing = sorted({str(name) for name in weight_map.values()} - set(weights))
    if missing:
        raise BadModelFileError(
            f"{INDEX} names {', '.join(missing[:3])}, missing in the folder ({len(missing)} in all)"
        )


def _details(config: Mapping[str, Any], found: Mapping[str, Tensor]) -> dict[str, Any]:
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, dict) else config
    dtypes = Counter[str]()
    for tensor in found.values():
        dtypes[tensor.dtype] += tensor.size_bytes
    length = inner.get("max_position_embeddings")
    return {
        "model_type": inner.get("model_type"),
        "context_length": length if isinstance(length, int) and length > 0 else None,
        "layers": inner.get("num_hidden_layers"),
        "vocabulary": inner.get("vocab_size"),
        "quantization": inner.get("quantization"),
        "dtype": dtypes.most_common(1)[0][0] if dtypes else None,
    }


def _bytes(found: Mapping[str, Tensor]) -> int:
    return sum(tensor.size_bytes for tensor in found.values())


def _no_mlx_model(ref: ModelRef, folder: Path, weights: list[str], faults: Faults) -> None:
    if (folder / ADAPTER_CONFIG).is_file():
        message = f"{ref.role}: the folder holds an adapter, not a model"
        faults.error("model-format", message, ref.pointer, help="name it under model.adapters")
        return
    other = next((kind for end, kind in _OTHER_FORMATS.items() if any(folder.glob(f"*{end}"))), None)
    missing = CONFIG if weights or other is None else "model.safetensors"
    message = f"{ref.role}: no MLX model: {missing} is missing" + (f"; the folder holds {other} files" if other else "")
    help = "make one with: mlx_lm.convert --hf-path MODEL --mlx-path FOLDER"
    faults.error("model-format", message, ref.pointer, help=help)


def _no_mlx_adapter(ref: ModelRef, folder: Path, missing: list[str], faults: Faults) -> None:
    if (folder / "adapter_model.safetensors").is_file():
        _peft(ref, faults)
        return
    message = f"{ref.role}: no mlx_lm adapter: {' and '.join(missing)} missing"
    help = "mlx_lm.lora writes both into its --adapter-path"
    faults.error("model-format", message, ref.pointer, help=help)


def _peft(ref: ModelRef, faults: Faults) -> None:
    message = (
        f"{ref.role}: an adapter of another format (PEFT?), not of mlx_lm: adapter_config.json has no fine_tune_type"
    )
    faults.error(
        "model-format", message, ref.pointer, help="train it with mlx_lm.lora, or convert it to mlx_lm's format"
    )
