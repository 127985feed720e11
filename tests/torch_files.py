"""Files as torch writes them, byte by byte and without torch, and some that it wouldn't."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DICTIONARY = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape: Sequence[int], storage: str = "Float") -> bytes:
    """The opcodes of one tensor (torch/_tensor.py, `_reduce_ex_internal`)."""
    place = (
        b"(" + text("storage") + f"ctorch\n{storage}Storage\n".encode() + text("0") + text("cpu") + number(1) + b"tQ"
    )
    called = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return called + place + number(0) + numbers(shape) + numbers([1] * len(shape)) + b"\x89" + DICTIONARY + b"tR"


def pickle_of(entries: Mapping[str, bytes]) -> bytes:
    """A dictionary of these values, each given by its opcodes."""
    return b"\x80\x02" + DICTIONARY + b"(" + b"".join(text(k) + v for k, v in entries.items()) + b"u."


def archive(path: Path, entries: Mapping[str, bytes], **options: Any) -> Path:
    """A zip file, stored as torch does, with its entries below one folder."""
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in entries.items():
            file.writestr(f"archive/{name}", content)
    return path


def saved(path: Path, pickle: bytes) -> Path:
    """What `torch.save` writes around a pickle."""
    return archive(path, {"data.pkl": pickle, "byteorder": b"little", "data/0": b"\0" * 4, "version": b"3\n"})


def running(command: str) -> bytes:
    """A pickle that runs a command of the shell as it is loaded."""
    return b"\x80\x02cposix\nsystem\n(" + text(command) + b"tR."


def value(dtype: int, *sizes: int | str) -> dict[str, Any]:
    told = [{"as_int": size} if isinstance(size, int) else {"as_expr": {"expr_str": size}} for size in sizes]
    return {"dtype": dtype, "sizes": told}


def described(**changes: Any) -> dict[str, Any]:
    """The description of a program that takes `image` and gives one tensor (torch/_export/serde/schema.py)."""
    graph = {"tensor_values": {"image": value(7, "s77", 1, 8, 8), "linear": value(7, "s77", 10)}}
    user_input = {"user_input": {"arg": {"as_tensor": {"name": "image"}}}}
    parameter = {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}}
    user_output = {"user_output": {"arg": {"as_tensor": {"name": "linear"}}}}
    signature = {"input_specs": [parameter, user_input], "output_specs": [user_output]}
    module = {"graph": graph, "signature": signature}
    return {"graph_module": module, "schema_version": {"major": 8, "minor": 20}, **changes}


def exported(path: Path, description: Mapping[str, Any] | None = None) -> Path:
    """What `torch.export.save` writes around a program."""
    content = json.dumps(described() if description is None else description).encode()
    entries = {"archive_format": b"pt2", "models/model.json": content, "data/weights/weight_0": b"\0" * 40}
    return archive(path, entries)
