"""What a folder of the user's holds: an MLX language model, an mlx_lm adapter, or something that must be converted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.characters import quoted
from mlspec.errors import CommandError
from mlspec.hub import snapshots
from mlspec.looking import NO_FILE, kind_of, told
from mlspec.model_files import BadModelFileError, read_json
from mlspec.runners.mlx_lm import facts
from mlspec.starting.place import ModelFolder
from mlspec.starting.recognising import NoModel
from mlspec.starting.spec_text import FirstModel, Key, Note

HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
PLACEHOLDER = "models/NAME"

_MLX_LM = ("adapters.safetensors", "model", "mlx_lm.lora writes both into its --adapter-path")
_PEFT = ("adapter_model.safetensors", "base_model_name_or_path", "PEFT's save_pretrained writes both")
"""Of each format of adapters: its weights, the key of its configuration that names the base, and who writes it."""
_CONVERT = "make an MLX model of the original: mlx_lm.convert --hf-path MODEL --mlx-path FOLDER"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class Base:
    """The base as a spec's source; without one `hint` stands there as a comment. `note` is told about it."""

    source: dict[str, str] | None
    note: str = ""
    hint: str = f"{{path: {PLACEHOLDER}}}"
    context_length: int | None = None


@dataclass(frozen=True)
class FoundBase:
    """Where an adapter's base is: a folder, or a repository of the hub with the one commit that is in the cache."""

    folder: Path | None = None
    hf: str | None = None
    revision: str | None = None


def recognise_model(place: ModelFolder) -> FirstModel | NoModel | None:
    """A language model's first spec.

    Raises:
        CommandError: its configuration can't be read, or it is outside the project.
    """
    folder = place.folder
    if _is_file(folder / "config.json") and any(_is_file(path) for path in folder.glob("model*.safetensors")):
        length = context_length(folder)
        return first_model("mlx-lm", Base({"path": place.path()}, context_length=length))
    return _no_model(folder)


def recognise_adapter(place: ModelFolder, runner: str) -> FirstModel | NoModel | None:
    """An adapter's first spec, with the base that it was trained on, where that is found.

    Raises:
        CommandError: as `recognise_model`.
    """
    if not _is_file(place.folder / "adapter_config.json"):
        return None
    config = _configuration(place.folder / "adapter_config.json", place.shown)
    if "peft_type" not in config and "fine_tune_type" not in config:
        help = "train it with mlx_lm.lora, or save it by PEFT's save_pretrained"
        return NoModel("an adapter of another format, neither mlx_lm's nor PEFT's", help, 3)
    weights, key, help = _PEFT if "peft_type" in config else _MLX_LM
    if not _is_file(place.folder / weights):
        return NoModel(f"adapter_config.json is there, {weights} is missing", help, 3)
    named = config.get(key)
    base = _base_of(named if isinstance(named, str) else None, place)
    adapter = {"name": "adapter" if place.label == "base" else place.label, "path": place.path()}
    return first_model(runner, base, adapter)


def to_fill_in() -> FirstModel:
    """A first spec for a folder that the user writes into it."""
    note = "The folder of an MLX model, with config.json and model.safetensors, from the project's root:"
    message = f"model.base is a place holder: write the folder of your model for {PLACEHOLDER}"
    return first_model("mlx-lm", Base({"path": PLACEHOLDER}, note), messages=(message,))


def first_model(
    runner: str, base: Base, adapter: dict[str, str] | None = None, messages: tuple[str, ...] = ()
) -> FirstModel:
    """The first spec of a base with or without an adapter."""
    about = "a language model on MLX"
    more = about if runner == "mlx-lm" else f"{about} with at least one adapter; without one it is mlx-lm"
    return FirstModel(
        model=(
            Key("runner", runner, more if adapter else about),
            *([Note(base.note)] if base.note else []),
            Key("base", base.source) if base.source else Note(f"base: {base.hint}"),
            *_adapter_keys(adapter),
            _context_length_key(base.context_length),
            Key(
                "sampling",
                {"max_tokens": 128, "temperature": 0.0, "top_p": 1.0},
                "what a request doesn't say",
                off=True,
            ),
        ),
        service=(
            Key("endpoints", ["predict", "stream"], off=True),
            Key("concurrency", "auto", off=True),
            Key("limits", {"max_tokens": 512, "timeout_s": 120}, off=True),
        ),
        tests=({"name": "answers", "predict": {"prompt": "Hello", "max_tokens": 8}, "expect": {"status": 200}},),
        messages=messages or ((base.note,) if base.source is None else ()),
        certainty=2 if runner == "mlx-lm" else 3,
    )


def _adapter_keys(adapter: dict[str, str] | None) -> tuple[Key, ...]:
    if adapter is None:
        return (Key("adapters", [{"name": "support", "path": "adapters/support"}], off=True),)
    default = Key("default_adapter", adapter["name"], "of a request that names none; base means none", off=True)
    return (Key("adapters", [adapter]), default)


def _context_length_key(length: int | None) -> Key:
    of_both = "tokens of prompt and answer together"
    if length is None:
        return Key("context_length", 2048, f"{of_both}; without this key the model's own limit", off=True)
    return Key("context_length", length, f"{of_both}; this is the model's own limit", off=True)


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


def _base_of(named: str | None, place: ModelFolder) -> Base:
    """An adapter's base, or what the user has to do about it."""
    start, folder = place.start, place.folder
    base = find_base(named, (start.root, start.here, folder, folder.parent), start.cache)
    if base is None:
        told = f"its configuration says {quoted(named)}" if named else "its configuration names none"
        return Base(None, f"The adapter's base model wasn't found ({told}): fill in 'base'.")
    if base.folder is not None:
        path = start.in_project(base.folder)
        note = "The adapter's base model is outside the project: copy it in, and fill in 'base'."
        length = context_length(base.folder) if path else None
        return Base({"path": path}, context_length=length) if path else Base(None, note)
    if base.revision is not None:
        return Base({"hf": base.hf or "", "revision": base.revision})
    note = f"The adapter's base is {base.hf} on the hub: fill in its full commit hash, then: mlspec fetch"
    return Base(None, note, hint=f"{{hf: {base.hf}, revision: COMMIT}}")


def find_base(name: str | None, near: Iterable[Path], cache: Path) -> FoundBase | None:
    """The base that an adapter's configuration names: a folder seen from one of `near`, or a repository in the cache.

    A repository of which not exactly one commit is in the cache has no `revision`. None: it is neither.
    """
    if not name or "\0" in name:
        return None
    for start in near:
        folder = start / name
        if _seen(folder / "config.json"):
            return FoundBase(folder=folder)
    if not HUB_NAME.fullmatch(name):
        return None
    commits = snapshots(cache, name)
    return FoundBase(hf=name, revision=commits[0] if len(commits) == 1 else None)


def _seen(file: Path) -> bool:
    """Whether it is there for us: an adapter's configuration may name any place of another computer."""
    try:
        return _is_file(file)
    except OSError:
        return False


def _no_model(folder: Path) -> NoModel | None:
    """Why a folder with something like a language model can't be served as it is."""
    if any(folder.glob("*.gguf")):
        return NoModel("holds GGUF files, which mlx_lm doesn't load", _CONVERT, 1)
    if any(file for pattern in _PICKLES for file in folder.glob(pattern)):
        return NoModel("holds PyTorch pickles only; mlspec never opens a pickle", _CONVERT, 0)
    kind = kind_of(folder / "config.json")
    weights = kind_of(folder / "model.safetensors")
    if (kind, weights) == ("nothing", "nothing"):
        return None
    missing = ("model.safetensors", weights) if kind == "file" else ("config.json", kind)
    help = "name the folder that holds config.json and model.safetensors, or adapter_config.json"
    return NoModel(f"no MLX model: {missing[0]} {NO_FILE[missing[1]]}", help, 0)
