"""The facts of an MLX language model and of an adapter (mlx_lm's, or PEFT's), from their configuration and headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.looking import NO_FILE, kind_of, lacking
from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import BadModelFileError, Tensor, fingerprint, read_json, read_tensors
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.facts.adapter_config import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    LARGEST_COUNT,
    adapter_details,
    check_tensors,
)
from mlspec.runners.mlx_lm.families import Shape, shape_of
from mlspec.runners.mlx_lm.families.contradictions import contradiction
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import table
from mlspec.runners.mlx_lm.weights import TYPES

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model*.safetensors"
ONE_FILE = "model.safetensors"

LONGEST_CONTEXT = 100_000_000
"""As in the schema: what a spec could say, too."""

# What mlx_lm.load reads of a folder (mlx_lm.utils.load_model and transformers' tokenizer files).
_READ: tuple[str, ...] = (CONFIG, INDEX, WEIGHTS, "generation_config.json", "tokenizer*")
_READ += (
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
    "*.tiktoken",
    "*.jinja",
)
_LONGEST_WORD = 100
_OTHER_FORMATS = {".gguf": "GGUF", ".bin": "PyTorch pickle", ".pt": "PyTorch pickle", ".pth": "PyTorch pickle"}


def inspect_base(ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
    if lacking(folder, (CONFIG, _weights_of(folder))):
        _no_mlx_model(ref, folder, faults)
        return None
    try:
        config = read_json(folder / CONFIG)
        names = _names(folder)
        weights = [name for name in names if fnmatch(name, WEIGHTS)]
        _check_shards(folder, weights)
        shards = [read_tensors(folder, weight) for weight in weights]
        found = {name: t for _, part in shards for name, t in part.items()}
        rest = fingerprint(folder, [name for name in names if name not in weights])
        files = tuple(sorted((*rest, *(file for file, _ in shards)), key=lambda file: file.path))
        _check_types(found)
        shape = shape_of(config, found)
        if problem := contradiction(config, shape):
            raise BadModelFileError(problem)
    except BadModelFileError as problem:
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="fetch or convert the model again")
        return None
    _check_known(ref, config, shape, faults)
    return ModelFacts(ref, files, _bytes(found), base_details(config, found, shape))


def inspect_adapter(ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
    if lacking(folder, (ADAPTER_CONFIG,)):
        _no_mlx_adapter(ref, lacking(folder, (ADAPTER_CONFIG, ADAPTER_WEIGHTS)), faults)
        return None
    try:
        config = read_json(folder / ADAPTER_CONFIG)
        if "peft_type" in config:
            from mlspec.runners.mlx_lm.facts.peft import inspect_peft  # most adapters are mlx_lm's

            return inspect_peft(ref, folder, config, faults)
        if "fine_tune_type" not in config:
            _another_format(ref, faults)
            return None
        if missing := lacking(folder, (ADAPTER_WEIGHTS,)):
            _no_mlx_adapter(ref, missing, faults)
            return None
        weights, found = read_tensors(folder, ADAPTER_WEIGHTS)
        _check_types(found)
        details = adapter_details(config)
        check_tensors(details["fine_tune_type"], found)
        details["tensors"] = [row.as_data() for row in table(found)]
        files = (*fingerprint(folder, (ADAPTER_CONFIG,)), weights)
    except BadModelFileError as problem:
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="train or copy the adapter again")
        return None
    return ModelFacts(ref, files, _bytes(found), details)


def _check_types(found: Mapping[str, Tensor]) -> None:
    """MLX refuses a file with a tensor of a type that it doesn't know."""
    for name, tensor in found.items():
        if tensor.dtype not in TYPES:
            raise BadModelFileError(f"the tensor {quoted(name)} has the type {quoted(tensor.dtype)}, which is none")


def _check_known(ref: ModelRef, config: Mapping[str, Any], shape: Shape, faults: Faults) -> None:
    """A warning if the model's memory is an estimate."""
    if not shape.architecture.known:
        message = f"{ref.role}: {_unknown(config, shape)}: its memory is estimated from the shapes of its tensors"
        help = "the estimate takes every layer for one that keeps all tokens; mlx_lm may not serve the model at all"
        faults.warning("unknown-family", message, ref.pointer, help=help)


def _unknown(config: Mapping[str, Any], shape: Shape) -> str:
    key = shape.unreadable
    if key is None and config.get("model_type") is None:
        return "config.json names no model_type"
    if key is None:
        return f"mlspec doesn't know the family {quoted(config['model_type'])}"
    value = _inner(config).get(key)
    return f"config.json lacks {quoted(key)}" if value is None else f"config.json has {quoted(value)} for {quoted(key)}"


def context_length(config: Mapping[str, Any]) -> int | None:
    """The tokens that a language model was made for, None if its configuration says nothing that can be true."""
    return _count(_inner(config).get("max_position_embeddings"), LONGEST_CONTEXT)


def _names(folder: Path) -> list[str]:
    """What mlx_lm reads of the folder, sorted. Folders aren't: some are called `tokenizer`.

    Raises:
        BadModelFileError: one is a link to nothing, or a pipe at which reading would wait for ever.
    """
    found = []
    for path in sorted(path for path in folder.iterdir() if any(fnmatch(path.name, wanted) for wanted in _READ)):
        kind = kind_of(path)
        if kind == "file":
            found.append(path.name)
        elif kind != "folder":
            raise BadModelFileError(f"{visible(path.name)}: {NO_FILE[kind]}")
    return found


def _weights_of(folder: Path) -> str:
    """A file of weights by its name: one that is there, else one that should be."""
    names = sorted(path.name for path in folder.iterdir() if fnmatch(path.name, WEIGHTS))
    return next((name for name in names if kind_of(folder / name) == "file"), min(names, default=ONE_FILE))


def _check_shards(folder: Path, weights: list[str]) -> None:
    """All shards that an index names must be there: a download that broke off lacks some."""
    if kind_of(folder / INDEX) == "nothing":
        return
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise BadModelFileError(f"{INDEX}: has no weight_map")
    missing = sorted({str(name) for name in weight_map.values()} - set(weights))
    if missing:
        named = visible(", ".join(missing[:3]))
        raise BadModelFileError(f"{INDEX} names {named}, missing in the folder ({len(missing)} in all)")


def base_details(config: Mapping[str, Any], found: Mapping[str, Tensor], shape: Shape) -> dict[str, Any]:
    """What a plan tells of a model: whole numbers and short words, whatever else the configuration holds."""
    inner, quantization = _inner(config), _inner(config).get("quantization")
    packed, packing = any(row.name.endswith(".scales") for row in shape.loaded), Packing.of(config)
    dtypes = Counter[str]()
    for tensor in found.values():
        dtypes[tensor.dtype] += tensor.size_bytes
    return {
        "model_type": _word(inner.get("model_type")),
        "context_length": context_length(config),
        "layers": _count(inner.get("num_hidden_layers")),
        "vocabulary": _count(inner.get("vocab_size")),
        "quantization": _quantization(quantization) if isinstance(quantization, dict) else None,
        "dtype": dtypes.most_common(1)[0][0] if dtypes else None,
        "families": list(shape.families),
        "architecture": _listed(shape.architecture.as_data()),
        "tensors": [row.as_data() for row in shape.stored],
        # What the files hold is what is loaded, of a model in mlx's own format.
        "loaded": None if shape.loaded == shape.stored else [row.as_data() for row in shape.loaded],
        "packing": packing.as_data() if packed else None,
    }


def _listed(architecture: dict[str, Any]) -> dict[str, Any]:
    """As JSON would give it back: facts from a lock are compared with facts of the files."""
    return {**architecture, "keeps": list(architecture["keeps"])}


def _inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the language model, in one that sees, too."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


def _quantization(given: Mapping[str, Any]) -> dict[str, Any]:
    """How most layers are quantized; some models say it for each layer besides."""
    told = {"group_size": _count(given.get("group_size")), "bits": _count(given.get("bits"))}
    return {key: value for key, value in {**told, "mode": _word(given.get("mode"))}.items() if value is not None}


def _count(value: object, largest: int = LARGEST_COUNT) -> int | None:
    # The type itself: to isinstance, true is a whole number.
    return value if type(value) is int and 1 <= value <= largest else None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= _LONGEST_WORD and visible(value) == value else None


def _bytes(found: Mapping[str, Tensor]) -> int:
    return sum(tensor.size_bytes for tensor in found.values())


def _no_mlx_model(ref: ModelRef, folder: Path, faults: Faults) -> None:
    if kind_of(folder / ADAPTER_CONFIG) == "file":
        message = f"{ref.role}: the folder holds an adapter, not a model"
        faults.error("model-format", message, ref.pointer, help="name it under model.adapters")
        return
    other = next((kind for end, kind in _OTHER_FORMATS.items() if any(folder.glob(f"*{end}"))), None)
    # A folder of another format has configurations of its own: what it lacks is the weights.
    weights = lacking(folder, (_weights_of(folder),)) if other else ""
    missing = weights or lacking(folder, (CONFIG, _weights_of(folder)))
    message = f"{ref.role}: no MLX model: {missing}" + (f"; the folder holds {other} files" if other else "")
    faults.error("model-format", message, ref.pointer, help=_remedy(folder, other))


def _remedy(folder: Path, other: str | None) -> str:
    there = [kind_of(folder / name) for name in (CONFIG, _weights_of(folder))]
    if other is None and there != ["nothing", "nothing"]:
        return "fetch or copy the whole folder again: it needs both files, with their content"
    return "make one with: mlx_lm.convert --hf-path MODEL --mlx-path FOLDER"


def _no_mlx_adapter(ref: ModelRef, missing: str, faults: Faults) -> None:
    help = "mlx_lm.lora writes both into its --adapter-path"
    faults.error("model-format", f"{ref.role}: no mlx_lm adapter: {missing}", ref.pointer, help=help)


def _another_format(ref: ModelRef, faults: Faults) -> None:
    told = "adapter_config.json has neither fine_tune_type nor peft_type"
    message = f"{ref.role}: an adapter of another format, not of mlx_lm or PEFT: {told}"
    help = "train it with mlx_lm.lora, or save it by PEFT's save_pretrained"
    faults.error("model-format", message, ref.pointer, help=help)
