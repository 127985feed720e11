"""Pickles are told by their content, in whatever they are packed, and nothing that isn't one is taken for one."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mlspec.pickles import pickle_in
from mlspec.resources import folder
from payloads import Payload, payload

PROTOCOLS = range(6)
VALUES = [None, 7, -1.5, "text", b"bytes", [1, [2.5, "x"]], {"a": (1, 2)}, OrderedDict(a=1), np.arange(3), {1, 2}]


def kind_of(content: bytes, tmp_path: Path, name: str = "model.bin") -> str | None:
    path = tmp_path / name
    path.write_bytes(content)
    return pickle_in(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_pickle_of_any_protocol(value: Any, protocol: int, tmp_path: Path) -> None:
    assert kind_of(pickle.dumps(value, protocol), tmp_path) == "a pickle"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_that_runs_something(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    assert kind_of(payload(mark, protocol), tmp_path) == "a pickle"
    assert not mark.exists()
    pickle.loads((tmp_path / "model.bin").read_bytes())
    assert mark.exists(), "the payload is one: loading it runs"


def test_what_follows_a_pickle_hides_nothing(tmp_path: Path) -> None:
    for protocol in PROTOCOLS:
        assert kind_of(payload(tmp_path / "ran", protocol) + b"\x00\xff" * 100, tmp_path)


@pytest.mark.parametrize(
    "hidden",
    [
        pytest.param(b"N0" * 100_000, id="values that are thrown away"),
        pytest.param(b"S'" + b"x" * (3 << 20) + b"'\n0", id="a long text"),
        pytest.param(b"X" + (2 << 20).to_bytes(4, "little") + b"y" * (2 << 20) + b"0", id="a long counted text"),
        pytest.param(b"((((1111", id="marks"),
        pytest.param(b"I1\n0F2.5\n0L3L\n0", id="numbers"),
        pytest.param(b"\x80\x04N0", id="the mark of a later protocol"),
    ],
)
def test_what_comes_before_hides_nothing(hidden: bytes, tmp_path: Path) -> None:
    content = hidden + payload(tmp_path / "ran", 0)
    pickle.loads(content)
    assert (tmp_path / "ran").exists(), "an unpickler takes it"
    assert kind_of(content, tmp_path) == "a pickle"


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "torch": lambda bad: zipped({"archive/data.pkl": bad, "archive/data/0": bytes(64), "archive/version": b"3\n"}),
    "zip, any name": lambda bad: zipped({"weights.bin": bad}),
    "zip, packed": lambda bad: zipped({"weights.bin": bad}, zipfile.ZIP_DEFLATED),
    "zip, after other things": lambda bad: b"#!/bin/sh\n" + zipped({"weights.bin": bad}),
    "zip, before a comment": lambda bad: zipped({"weights.bin": bad}, comment=b"x" * 60_000),
    "zip in a zip": lambda bad: zipped({"inner.pt": zipped({"data.pkl": bad})}),
    "tar": lambda bad: tarred({"sys_info": b"...", "pickle": bad}),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda bad: lzma.compress(bad, lzma.FORMAT_ALONE),
    "tar, packed": lambda bad: gzip.compress(tarred({"model": bad})),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("pack", ARCHIVES.values(), ids=list(ARCHIVES))
def test_one_that_is_packed(pack: Callable[[bytes], bytes], protocol: int, tmp_path: Path) -> None:
    assert kind_of(pack(payload(tmp_path / "ran", protocol)), tmp_path) is not None
    assert not (tmp_path / "ran").exists()


def test_a_name_in_an_archive_is_enough(tmp_path: Path) -> None:
    assert kind_of(zipped({"a/data.pkl": b"?"}), tmp_path) == "a zip archive with a pickle (a/data.pkl)"


OBJECTS = [
    np.array([Payload(Path("x")), None], dtype=object),
    np.array([(1, "x")], dtype=[("number", "<i4"), ("thing", "O")]),
    np.array([((1.5, None),)], dtype=[("outer", [("a", "<f8"), ("b", "O")])]),
    np.zeros(2, dtype=[("pair", "O", (2,))]),
]


@pytest.mark.parametrize("array", OBJECTS, ids=lambda array: str(array.dtype))
def test_arrays_of_objects(array: Any, tmp_path: Path) -> None:
    assert kind_of(npy(array), tmp_path) == "an array of Python objects, which are pickled"
    assert "array of Python objects" in (kind_of(zipped({"x.npy": npy(array)}), tmp_path) or "")


@pytest.mark.parametrize("descr", ["'object'", "'O8'", "'i4,O'", "('O', (2,))", "broken(", "[[]]", "1"])
def test_other_ways_to_write_objects_in_a_header(descr: str, tmp_path: Path) -> None:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}".encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    assert kind_of(content, tmp_path) is not None


PLAIN = {
    "floats": npy(np.zeros((2, 3), np.float32)),
    "fields": npy(np.zeros(2, dtype=[("Order", "<f4"), ("Object", "<U3")])),
    "dates": npy(np.zeros(2, "M8[D]")),
    "npz": zipped({"a.npy": npy(np.arange(4)), "b.npy": npy(np.array(["x"]))}),
    "safetensors": save({"x": np.zeros((4, 4), np.float32)}),
    "json": json.dumps({"a": [1, 2.5, None]}).encode(),
    "labels": b"cat\ndog\nidea\nfish\nGoose\nRat\nN.\n",
    "licence": b"Copyright (c) 2026. All rights reserved. " * 40,
    "python": b"import os\nimport sys\n\nclass Net:\n    pass\n",
    "csv": b"a,b\n1,2\n",
    "numbers": b"1.5\n2.5\n",
    "letters": b"abcdefghijklmnopqrstuvwxyz",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    "gzip": gzip.compress(b"words and words\n" * 1000),
    "tar": tarred({"a.txt": b"text", "b.json": b"{}"}),
    "zip": zipped({"a.txt": b"text"}, zipfile.ZIP_DEFLATED),
    "nothing": b"",
    "one byte": b"\x80",
    "a length beyond all files": b"\x8e" + b"\xff" * 8,
    "words after the mark": b"\x80\x02 no operations",
}


@pytest.mark.parametrize("content", PLAIN.values(), ids=list(PLAIN))
def test_what_is_none(content: bytes, tmp_path: Path) -> None:
    assert kind_of(content, tmp_path) is None


def test_a_safetensors_file_whose_length_looks_like_the_mark_of_a_pickle(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = (0x0280).to_bytes(8, "little") + header.ljust(0x0280) + bytes(4)
    assert content.startswith(b"\x80\x02")
    assert kind_of(content, tmp_path) is None


def test_no_file_of_the_project_is_one() -> None:
    files = [path for place in ("specs", "schema") for path in folder(place).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if pickle_in(path)] == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(zipped({"a": b"x"})[:-10], id="cut off"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="no list of files"),
        pytest.param(tarred({"a": b"x"}).replace(b"00000000001", b"\x80" + b"\xff" * 10, 1), id="a huge file in a tar"),
        pytest.param(zipped({"a": b"x" * 100})[:60] + zipped({"a": b"x" * 100})[100:], id="bytes missing"),
    ],
)
def test_an_archive_that_cannot_be_looked_through_could_hold_one(content: bytes, tmp_path: Path) -> None:
    assert "could hold a pickle" in (kind_of(content, tmp_path) or "")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zlib.compress(bytes(256 << 20))
    assert kind_of(bomb, tmp_path) is None
    assert kind_of(zipped({"a": bytes(64 << 20)}, zipfile.ZIP_DEFLATED), tmp_path) is None


def test_a_list_of_files_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"x"}))
    content[-10:-6] = (1 << 31).to_bytes(4, "little")
    assert "too long a list" in (kind_of(bytes(content), tmp_path) or "")


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_what_an_unpickler_runs_is_always_told(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Random content before a payload: if an unpickler comes to run that, the file was told to be a pickle."""
    place = tmp_path_factory.getbasetemp()
    mark, path = place / "ran", place / "file"
    path.write_bytes(content + payload(mark, 0))
    told = pickle_in(path)
    assert not mark.exists()
    if _Asked(io.BytesIO(path.read_bytes())).runs():
        assert told == "a pickle"


class _Asked(pickle._Unpickler):  # type: ignore[misc, name-defined]
    """Python's own unpickler, but that calling what would be imported is told instead."""

    def find_class(self, module: str, name: str) -> Any:
        return _told

    def runs(self) -> bool:
        try:
            self.load()
        except LookupError as problem:
            return "it would have run" in str(problem)
        except BaseException:  # noqa: BLE001 - whatever content makes an unpickler raise
            return False
        return False


def _told(*arguments: Any) -> None:
    raise LookupError("it would have run")


def test_a_line_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with (tmp_path / "weights.bin").open("wb") as file:
        file.write(b"V")
        file.truncate(100 << 30)  # of zeros that take no place
    assert pickle_in(tmp_path / "weights.bin") == "a pickle"


def test_weights_whose_length_is_an_operation_are_none(tmp_path: Path) -> None:
    header = b'{"w":{"dtype":"U8","shape":[107374182400],"data_offsets":[0,107374182400]}}'.ljust(ord("V"))
    with (tmp_path / "net.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (100 << 30))
    assert pickle_in(tmp_path / "net.safetensors") is None
