"""Parquet in requests, by the real pyarrow: what its pages say bounds what is unpacked."""

from __future__ import annotations

import base64
import io
import os
import random
import signal
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.decoding import parquet_reader
from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.decoding.parquet_reader import READER
from mlspec_runtime.predict.signature import TensorSpec
from runtime.test_tensor_encodings import decoded, fault, status

pytestmark = pytest.mark.frameworks

NUMBERS = TensorSpec("x", "float32", ("n", 2), columns=("a", "b"))
TEXTS = TensorSpec("x", "string", ("n", 2), columns=("a", "b"))
MEDIA_TYPE = "application/vnd.apache.parquet"


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def file_of(of: pa.Table, **more: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(of, file, **more)
    return file.getvalue()


def value_of(content: bytes) -> dict[str, str]:
    return {"parquet": base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"compression": "zstd"},
        {"compression": "gzip", "use_dictionary": False},
        {"compression": "none", "data_page_version": "2.0"},
        {"row_group_size": 2},
        {"data_page_size": 8, "write_batch_size": 1},
        {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
        {"store_schema": False},
    ],
)
def test_numbers_as_any_writer_writes_them(more: dict[str, Any]) -> None:
    content = file_of(
        table(b=pa.array([2.0, 4, 6, 8, 10], pa.float32()), a=pa.array([1.0, 3, 5, 7, 9])),
        **{
            **more,
            **({"column_encoding": {"a": "BYTE_STREAM_SPLIT", "b": "PLAIN"}} if "column_encoding" in more else {}),
        },
    )
    for value in (value_of(content), File(MEDIA_TYPE, content)):
        assert decoded(value, NUMBERS).tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]


@pytest.mark.parametrize("more", [{}, {"use_dictionary": False}, {"compression": "zstd", "row_group_size": 1}])
def test_texts(more: dict[str, Any]) -> None:
    content = file_of(table(a=["x", "ü"], b=["", "x"]), **more)
    assert decoded(value_of(content), TEXTS).tolist() == [["x", ""], ["ü", "x"]]


def test_other_types_of_columns() -> None:
    whole = TensorSpec("x", "int64", ("n", 2), columns=("a", "b"))
    assert decoded(value_of(file_of(table(a=pa.array([1], pa.uint8()), b=[2]))), whole).tolist() == [[1, 2]]
    flags = TensorSpec("x", "bool", ("n", 2), columns=("a", "b"))
    assert decoded(value_of(file_of(table(a=[True], b=[False]))), flags).tolist() == [[True, False]]
    single = TensorSpec("x", "float64", (2,), columns=("a", "b"))
    assert decoded(value_of(file_of(table(a=[1], b=[2.5]))), single).tolist() == [1, 2.5]


def dates() -> Any:
    return pa.array([1], pa.date32())


@pytest.mark.parametrize(
    ("columns", "field", "told"),
    [
        ({"a": [1]}, "b", "is missing"),
        ({"a": [1], "b": [1], "c": [1]}, "c", "no column"),
        ({"a": [1, None], "b": [1, 2]}, "a", "without a value"),
        ({"a": ["x"], "b": ["y"]}, "a", "another type"),
        ({"a": [True], "b": [1]}, "a", "another type"),
        ({"a": dates(), "b": [1]}, "a", "another type"),
        ({"a": [[1]], "b": [1]}, "a", "holds lists"),
        ({"a": [b"x"], "b": [1]}, "a", "another type"),
        ({"a": pa.array([1], pa.decimal128(3)), "b": [1]}, "a", "another type"),
    ],
)
def test_columns_that_are_not_declared(columns: Any, field: str, told: str) -> None:
    error = fault(value_of(file_of(table(**columns))), NUMBERS)
    assert (error.field or "").startswith(f"inputs.x.parquet.{field}")
    assert told in error.message
    assert fault(value_of(file_of(table(a=[b"x"], b=[b"y"]))), TEXTS).status == 422


@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_bombs_are_not_unpacked(compression: str, use_dictionary: bool) -> None:
    zeros = np.zeros(5_000_000 if use_dictionary or compression != "none" else 2_500_000, dtype=np.float32)
    content = file_of(table(a=zeros, b=zeros), compression=compression, use_dictionary=use_dictionary)
    assert "too many values" in fault(value_of(content), NUMBERS).message


def test_texts_do_not_swell() -> None:
    long = "a" * 100_000
    content = file_of(table(a=[long] * 1000, b=[long] * 1000))
    assert len(content) < 300_000
    got = decoded(File(MEDIA_TYPE, content), TEXTS)
    assert len({id(text) for text in got.ravel()}) <= 4
    unpacked = file_of(table(a=[long] * 1000, b=[long] * 1000), use_dictionary=False, compression="zstd")
    assert len(unpacked) < 300_000
    assert "too large when it is unpacked" in fault(File(MEDIA_TYPE, unpacked), TEXTS).message
    delta = {"a": "DELTA_BYTE_ARRAY", "b": "DELTA_BYTE_ARRAY"}
    prefixed = file_of(table(a=[long] * 1000, b=[long] * 1000), use_dictionary=False, column_encoding=delta)
    assert "DELTA_BYTE_ARRAY" in fault(File(MEDIA_TYPE, prefixed), TEXTS).message


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_is_a_table_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    more = [{}, {"compression": "zstd"}, {"data_page_version": "2.0"}, {"use_dictionary": False}][seed]
    whole = file_of(table(a=np.arange(100) * 1.0, b=np.arange(100)), **more)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            content[chance.randrange(4, len(content) - 8)] = chance.randrange(256)
        assert status(File(MEDIA_TYPE, bytes(content)), NUMBERS) in (200, 422)
    for at in range(0, len(whole), 7):
        assert status(File(MEDIA_TYPE, whole[:at]), NUMBERS) == 422


def test_a_footer_of_endless_lists_is_not_read() -> None:
    content = b"PAR1" + bytes(300_000) + (300_000).to_bytes(4, "little") + b"PAR1"
    assert "footer" in fault(File(MEDIA_TYPE, content), NUMBERS).message


def pid() -> int:
    process = READER._process
    assert process is not None
    return process.pid


def test_the_process_that_reads_may_end_or_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    value = value_of(file_of(table(a=[1], b=[2])))
    assert status(value, NUMBERS) == 200
    os.kill(pid(), signal.SIGKILL)
    assert status(value, NUMBERS) in (200, 422)
    assert status(value, NUMBERS) == 200
    monkeypatch.setattr(parquet_reader, "TIMEOUT_S", 0.3)
    os.kill(pid(), signal.SIGSTOP)
    assert "cut or broken" in fault(value, NUMBERS).message
    monkeypatch.setattr(parquet_reader, "TIMEOUT_S", 30.0)
    assert status(value, NUMBERS) == 200


def test_it_learns_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    READER.close()
    monkeypatch.setenv("SUPPORT_API_KEY", "hunter2")
    assert status(value_of(file_of(table(a=[1], b=[2]))), NUMBERS) == 200
    assert "SUPPORT_API_KEY" not in psutil.Process(pid()).environ()
    READER.close()
    assert READER._process is None


def test_without_a_pyarrow_that_loads_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    READER.close()
    monkeypatch.setattr(parquet_reader, "_MODULE", "nowhere.to.be.found")
    with pytest.raises(ServiceError, match="can't be loaded here") as error:
        decoded(value_of(file_of(table(a=[1], b=[2]))), NUMBERS)
    assert error.value.status == 415


def test_a_column_of_lists_is_told() -> None:
    content = file_of(table(a=pa.array([[1.0], [2.0]]), b=pa.array([1.0, 2.0])))
    found = fault(value_of(content), NUMBERS)
    assert "holds lists" in found.message
    assert found.field == "inputs.x.parquet.a"


def test_a_table_of_no_rows_is_an_empty_batch() -> None:
    content = file_of(table(a=pa.array([], pa.float32()), b=pa.array([], pa.float32())))
    assert "an empty batch" in fault(value_of(content), NUMBERS).message
