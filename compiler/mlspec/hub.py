"""Hugging Face's cache on this computer, read without huggingface_hub: the passes may not import it.

The cache is laid out as `models--org--name/snapshots/<commit>/`, files being links into `blobs/`. A link
appears only when its file is whole, so an unfinished download is one that lacks files. huggingface_hub 2
leaves the list of the repository's files in `trees/<commit>.json`; for what an older one fetched, the signs
are weaker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mlspec.model_files import BadModelFileError, read_json

PATTERNS = ("*.json", "*.safetensors", "tokenizer*", "*.model", "*.tiktoken", "*.jinja", "*.txt")
"""What runners read of a repository: names in its top folder."""

REFUSED = (
    "*.py",
    "*.pyc",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.pkl",
    "*.pickle",
    "*.ckpt",
    "*.joblib",
    "consolidated*.safetensors",
)
"""What is never fetched: code, pickles, and Mistral's second copy of its own weights."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TREE_FORMAT = 1
_INDEX = "model.safetensors.index.json"


def snapshot_folder(cache: Path, hf: str, revision: str, patterns: Sequence[str] = PATTERNS) -> Path | None:
    """The folder of a repository at a commit, if all files that match `patterns` are there; else None."""
    if not _COMMIT.fullmatch(revision):
        return None
    repository = _repository_folder(cache, hf)
    folder = repository / "snapshots" / revision
    try:
        finished = folder.is_dir() and _finished(repository, folder, patterns)
    except OSError:
        # A cache that can't be read is as good as none: fetching says what is wrong with it.
        return None
    return folder if finished else None


def snapshots(cache: Path, hf: str, patterns: Sequence[str] = PATTERNS) -> tuple[str, ...]:
    """The commits of a repository that are whole in the cache, sorted."""
    folder = _repository_folder(cache, hf) / "snapshots"
    try:
        commits = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    except OSError:
        # As above: a cache that can't be read holds nothing for us.
        return ()
    return tuple(commit for commit in commits if snapshot_folder(cache, hf, commit, patterns))


def wanted(name: str, patterns: Sequence[str] = PATTERNS) -> bool:
    """Whether a fetch takes the file of this name (a path in the repository, with slashes)."""
    if any(fnmatchcase(name, pattern) for pattern in refused(patterns)):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def refused(patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns of what isn't fetched: files in subfolders too, unless one is asked for."""
    return REFUSED if any("/" in pattern for pattern in patterns) else (*REFUSED, "*/*")


def _repository_folder(cache: Path, hf: str) -> Path:
    return cache / ("models--" + hf.replace("/", "--"))


def _finished(repository: Path, folder: Path, patterns: Sequence[str]) -> bool:
    listed = _listed_sizes_bytes(repository / "trees" / f"{folder.name}.json")
    if listed is None:
        return _looks_finished(repository, folder)
    expected = {name: size for name, size in listed.items() if wanted(name, patterns)}
    return bool(expected) and all(_has(folder / name, size) for name, size in expected.items())


def _has(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def _listed_sizes_bytes(path: Path) -> dict[str, int] | None:
    """The files of a repository as huggingface_hub wrote them down; None if it didn't, or in another form."""
    data = _json_object(path)
    files = data.get("files") if data.get("format_version") == _TREE_FORMAT else None
    if not isinstance(files, dict):
        return None
    return {name: entry["size"] for name, entry in files.items() if isinstance(entry, dict) and "size" in entry}


def _looks_finished(repository: Path, folder: Path) -> bool:
    """Without a list: a configuration, the weights that an index names, no dead link, no .incomplete file."""
    names = {path.name for path in folder.iterdir()}
    configured = bool(names & {"config.json", "adapter_config.json"})
    weights = {name for name in names if name.endswith(".safetensors")}
    whole = bool(weights) and set(_indexed(folder / _INDEX)) <= weights
    under_way = any((repository / "blobs").glob("*.incomplete"))
    return configured and whole and not under_way and all((folder / name).exists() for name in names)


def _indexed(path: Path) -> Iterator[str]:
    weight_map = _json_object(path).get("weight_map")
    if isinstance(weight_map, dict):
        yield from (str(name) for name in weight_map.values())


def _json_object(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path)
    except (OSError, BadModelFileError):
        return {}
