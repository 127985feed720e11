"""A model that costs next to nothing: the first layers of SmolLM2 with its whole vocabulary. It talks nonsense, and
never ends by itself.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

LAYERS = 4
NEVER_SAID = "<empty_output>"
_HEADER = struct.Struct("<Q")


def make(model: Path, folder: Path, layers: int = LAYERS) -> Path:
    """Write it into a new folder, from SmolLM2's."""
    folder.mkdir(parents=True)
    shutil.copy(model / "tokenizer.json", folder)
    _copy_changed(model / "tokenizer_config.json", folder, eos_token=NEVER_SAID)
    _copy_changed(model / "config.json", folder, num_hidden_layers=layers, eos_token_id=_id_of(model, NEVER_SAID))
    _copy_tensors(model / "model.safetensors", folder / "model.safetensors", layers)
    return folder


def _copy_changed(path: Path, folder: Path, **changes: object) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    (folder / path.name).write_text(json.dumps({**document, **changes}), encoding="utf-8")


def _id_of(model: Path, token: str) -> int:
    added = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return next(int(one["id"]) for one in added if one["content"] == token)


def _copy_tensors(source: Path, target: Path, layers: int) -> None:
    """A safetensors file with the tensors of the first layers, and those of no layer."""
    with source.open("rb") as file:
        header = json.loads(file.read(_HEADER.unpack(file.read(_HEADER.size))[0]))
        begin = file.tell()
        kept, parts, offset = {}, [], 0
        for name, tensor in header.items():
            if name == "__metadata__" or _layer(name) >= layers:
                continue
            first, last = tensor["data_offsets"]
            kept[name] = {**tensor, "data_offsets": [offset, offset + last - first]}
            parts.append((begin + first, last - first))
            offset += last - first
        written = json.dumps(kept).encode()
        with target.open("wb") as copy:
            copy.write(_HEADER.pack(len(written)) + written)
            for at, size in parts:
                file.seek(at)
                copy.write(file.read(size))


def _layer(name: str) -> int:
    """Of a tensor; -1 for those of none."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]) if "layers" in parts else -1
