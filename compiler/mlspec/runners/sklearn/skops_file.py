"""A `.skops` file as its reader sees it: which types it makes, and with which scikit-learn it was saved.

It is a zip archive with `schema.json`, a tree of nodes (skops/io/_audit.py), and arrays. Nothing of it is made here.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mlspec.characters import visible
from mlspec.looking import NO_FILE, kind_of
from mlspec.model_files import BadModelFileError

SCHEMA = "schema.json"
_SCHEMA_LIMIT_BYTES = 256 << 20
_MOST_MEMBERS = 1_000_000
_MOST_TYPES = 1000
_VERSION_KEY = "_sklearn_version"
_FEATURES_KEY = "n_features_in_"
_DATA = ("JsonNode", "SliceNode")
"""Nodes that make plain data, whatever they are called."""


@dataclass(frozen=True)
class SkopsFile:
    """`types` are all that it makes, functions and methods too; `estimator` is that of the model; `features` how many
    columns it was trained with, None where that isn't told; `size_bytes` is of what is in the archive, unpacked.
    """

    protocol: int
    estimator: str
    types: tuple[str, ...]
    sklearn_versions: tuple[str, ...]
    features: int | None
    size_bytes: int

    @property
    def untrusted(self) -> tuple[str, ...]:
        """The types that skops makes only if it is told to trust them."""
        return tuple(name for name in self.types if name not in trusted_types())


@cache
def trusted_types() -> frozenset[str]:
    """Those that the pinned skops makes by itself (tests/tools/skops_types.py writes them down)."""
    text = (Path(__file__).parent / "data" / "trusted_types.txt").read_text(encoding="utf-8")
    return frozenset(text.splitlines())


def read_skops(path: Path) -> SkopsFile:
    """What is in a `.skops` file.

    Raises:
        BadModelFileError: it is missing, cut off or no file of skops.
        OSError: it can't be read.
    """
    name, kind = visible(path.name), kind_of(path)
    if kind != "file":
        raise BadModelFileError(f"{name}: {NO_FILE[kind]}")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_MEMBERS:
                raise BadModelFileError(f"{name}: holds more than {_MOST_MEMBERS:,} files")
            return _parsed(_schema(archive, name), sum(entry.file_size for entry in entries))
    except zipfile.BadZipFile as problem:
        with path.open("rb") as file:
            # An archive's list of its files is at its end.
            cut = file.read(4) == b"PK\x03\x04"
        told = "is cut off: fetch or save it again" if cut else "is no file of skops"
        raise BadModelFileError(f"{name}: {told}") from problem
    except (zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as problem:
        raise BadModelFileError(f"{name}: is no file of skops, or cut off") from problem
    except (ValueError, TypeError, AttributeError) as problem:
        if isinstance(problem, BadModelFileError):
            raise
        raise BadModelFileError(f"{name}: its {SCHEMA} isn't as skops writes it") from problem


def _schema(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    with archive.open(SCHEMA) as member:
        content = member.read(_SCHEMA_LIMIT_BYTES + 1)
    if len(content) > _SCHEMA_LIMIT_BYTES:
        raise BadModelFileError(f"{name}: its {SCHEMA} has more than {_SCHEMA_LIMIT_BYTES:,} bytes")
    schema = json.loads(content)
    if not isinstance(schema, dict) or type(schema.get("protocol")) is not int:
        raise ValueError("no tree of nodes")
    return schema


def _parsed(schema: Mapping[str, Any], size_bytes: int) -> SkopsFile:
    types: set[str] = set()
    versions: set[str] = set()
    for node in _nodes(schema):
        types.update(_types_of(node))
        if isinstance(found := _json(_attributes(node).get(_VERSION_KEY)), str):
            versions.add(found)
        if len(types) > _MOST_TYPES:
            raise ValueError("too many types")
    return SkopsFile(
        schema["protocol"], _name(schema), tuple(sorted(types)), tuple(sorted(versions)), _features(schema), size_bytes
    )


def _nodes(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All nodes of the tree, those within others too."""
    pending: list[Any] = [schema]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if all(isinstance(item.get(key), str) for key in ("__class__", "__module__", "__loader__")):
                yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['__module__']}.{node['__class__']}"


def _types_of(node: Mapping[str, Any]) -> Iterator[str]:
    """What a node makes, or calls as it is made."""
    if node["__loader__"] in _DATA:
        return
    yield _name(node)
    if node["__loader__"] == "MethodNode":
        yield f"{_name(node)}.{node['content']['func']}"
    if node["__loader__"] == "RandomGeneratorNode":
        yield f"numpy.random.{_json(_attributes(node, 'bit_generator').get('bit_generator'))}"


def _attributes(node: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The attributes of an object: the entries of the dictionary that is its content."""
    content: Any = node.get("content")
    for key in (*keys, "content"):
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _json(node: Any) -> Any:
    """What a node of plain data holds; None if it is another one."""
    if not isinstance(node, dict) or node.get("__loader__") != "JsonNode":
        return None
    try:
        return json.loads(node["content"])
    except (KeyError, TypeError, ValueError):
        return None


def _features(node: Any, depth: int = 0) -> int | None:
    """How many columns the model takes: in a pipeline, its first step."""
    if not isinstance(node, dict) or depth > 8:
        return None
    attributes = _attributes(node)
    found = _json(attributes.get(_FEATURES_KEY))
    if type(found) is int:
        return found
    steps = attributes.get("steps")
    first = steps.get("content") if isinstance(steps, dict) else None
    pair = first[0].get("content") if isinstance(first, list) and first and isinstance(first[0], dict) else None
    return _features(pair[1], depth + 1) if isinstance(pair, list) and len(pair) == 2 else None
