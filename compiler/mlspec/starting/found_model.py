"""What a folder of the user's holds: an MLX language model, an mlx_lm adapter, or something that must be converted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlspec.errors import CommandError
from mlspec.hub import snapshots
from mlspec.looking import NO_FILE, kind_of, told
from mlspec.model_files import BadModelFileError, read_json
from mlspec.runners.mlx_lm import facts

HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")

_MLX_LM = ("adapters.safetensors", "model", "mlx_lm.lora writes both into its --adapter-path")
_PEFT = ("adapter_model.safetensors", "base_model_name_or_path", "PEFT's save_pretrained writes both")
"""Of each format of adapters: its weights, the key of its configuration that names the base, and who writes it."""
_CONVERT = "make an MLX model of the original: mlx_lm.convert --hf-path MODEL --mlx-path FOLDER"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class FoundModel:
    """A model's folder. Of a language model the context length is known, of an adapter what it calls its base."""

    kind: Literal["model", "adapter"]
    context_length: int | None = None
    base: str | None = None


@dataclass(frozen=True)
class Base:
    """Where an adapter's base is: a folder, or a repository of the hub with the one commit that is in the cache."""

    folder: Path | None = None
    hf: str | None = None
    revision: str | None = None


def look(folder: Path, shown: str) -> FoundModel:
    """What is in the folder; only configurations are read.

    Raises:
        CommandError: nothing that MLX reads, with what to do about it.
    """
    try:
        return _look(folder, shown)
    except OSError as problem:
        message, help = told(problem, folder, str)
        raise CommandError("model-unreadable", message, help) from problem


def _look(folder: Path, shown: str) -> FoundModel:
    kind = kind_of(folder)
    if kind != "folder":
        wrong = {**NO_FILE, "file": "is a file", "nothing": "there is no such folder"}[kind]
        problem = wrong if kind == "nothing" else f"{wrong}, not a folder"
        raise CommandError("model-not-found", f"{shown}: {problem}", "name the folder of an MLX model or adapter")
    if _is_file(folder / "adapter_config.json"):
        return _adapter(folder, shown)
    if _is_file(folder / "config.json") and any(_is_file(path) for path in folder.glob("model*.safetensors")):
        return FoundModel("model", context_length=context_length(folder))
    any(folder.iterdir())  # glob is silent about a folder that it can't list
    raise _not_mlx(folder, shown)


def context_length(folder: Path) -> int | None:
    """The tokens that a language model was made for, as its configuration says.

    Raises:
        CommandError: the configuration can't be read.
    """
    return facts.context_length(_configuration(folder / "config.json", str(folder)))


def _configuration(path: Path, shown: str) -> dict[str, Any]:
    try:
        return read_json(path)
    except BadModelFileError as problem:
        raise CommandError("bad-model-file", f"{shown}: {problem}", "fetch or train the model again") from problem
    except OSError as problem:
        message, help = told(problem, path, str)
        raise CommandError("model-unreadable", message, help) from problem


def _is_file(path: Path) -> bool:
    return kind_of(path) == "file"


def find_base(name: str | None, near: Iterable[Path], cache: Path) -> Base | None:
    """The base that an adapter's configuration names: a folder seen from one of `near`, or a repository in the cache.

    A repository of which not exactly one commit is in the cache has no `revision`. None: it is neither.
    """
    if not name or "\0" in name:
        return None
    for start in near:
        folder = start / name
        if _seen(folder / "config.json"):
            return Base(folder=folder)
    if not HUB_NAME.fullmatch(name):
        return None
    commits = snapshots(cache, name)
    return Base(hf=name, revision=commits[0] if len(commits) == 1 else None)


def _seen(file: Path) -> bool:
    """Whether it is there for us: an adapter's configuration may name any place of another computer."""
    try:
        return _is_file(file)
    except OSError:
        return False


def _adapter(folder: Path, shown: str) -> FoundModel:
    config = _configuration(folder / "adapter_config.json", shown)
    if "peft_type" not in config and "fine_tune_type" not in config:
        message = f"{shown}: an adapter of another format, neither mlx_lm's nor PEFT's"
        raise CommandError("model-format", message, "train it with mlx_lm.lora, or save it by PEFT's save_pretrained")
    weights, key, help = _PEFT if "peft_type" in config else _MLX_LM
    if not _is_file(folder / weights):
        message = f"{shown}: adapter_config.json is there, {weights} is missing"
        raise CommandError("model-format", message, help)
    base = config.get(key)
    return FoundModel("adapter", base=base if isinstance(base, str) else None)


def _not_mlx(folder: Path, shown: str) -> CommandError:
    """Why the folder can't be served as it is."""
    if any(folder.glob("*.gguf")):
        message = f"{shown}: holds GGUF files, which mlx_lm doesn't load"
        return CommandError("model-format", message, _CONVERT)
    if any(file for pattern in _PICKLES for file in folder.glob(pattern)):
        message = f"{shown}: holds PyTorch pickles only; mlspec never opens a pickle"
        return CommandError("model-format", message, _CONVERT)
    missing = "model.safetensors" if _is_file(folder / "config.json") else "config.json"
    kind = kind_of(folder / missing)
    help = "name the folder that holds config.json and model.safetensors, or adapter_config.json"
    return CommandError("model-format", f"{shown}: no MLX model: {missing} {NO_FILE[kind]}", help)
