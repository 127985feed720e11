"""Records and CSV: columns by their names, in any order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.signature import TensorSpec
from runtime.test_tensor_encodings import decoded, fault, status

ROWS = TensorSpec("x", "float32", ("n", 2), columns=("length", "width, cm"))


def table(dtype: Any, *shape: int | str) -> TensorSpec:
    return TensorSpec("x", dtype, shape, columns=("a", "b"))


def test_records_in_any_order() -> None:
    assert decoded([{"length": 1, "width, cm": 2}, {"width, cm": 4.5, "length": 3}], ROWS).tolist() == [
        [1, 2],
        [3, 4.5],
    ]
    assert decoded([{"a": 1, "b": 2}], table("int8", 2)).tolist() == [1, 2]
    assert decoded([{"a": "x", "b": ""}], table("string", "n", 2)).tolist() == [["x", ""]]
    assert decoded([[1, 2]], ROWS).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("records", "field", "told"),
    [
        ([{"a": 1}], "inputs.x.0.b", "is missing"),
        ([{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}], "inputs.x.1.c", "no column"),
        ([{"a": 1, "b": 2}, [1, 2]], "inputs.x.1", "wants an object"),
        ([{"a": 1, "b": 2}, {"a": "1", "b": 2}], "inputs.x.1.a", "another type"),
        ([{"a": 1, "b": None}], "inputs.x.0.b", "another type"),
        ([{"a": 1, "b": [2]}], "inputs.x", "different lengths or depths"),
        ([{"a": 1, "b": 1e300}], "inputs.x.0.1", "too large"),
    ],
)
def test_records_that_are_none(records: Any, field: str, told: str) -> None:
    error = fault(records, table("float32", "n", 2))
    assert error.field == field
    assert told in error.message


def test_a_single_row_is_one() -> None:
    assert "one row, not 2" in fault([{"a": 1, "b": 2}] * 2, table("int8", 2)).message
    assert "has the shape [2, 2]" in fault([{"a": 1, "b": 2}] * 2, table("int8", 1, 2)).message


@pytest.mark.parametrize(
    ("dtype", "text", "rows"),
    [
        ("float32", 'length,"width, cm"\n1,2\n', [[1, 2]]),
        ("float32", '\ufeff"width, cm",length\r\n 2 ,1e1\r\n\r\n3,-.5', [[10, 2], [-0.5, 3]]),
        ("float32", 'length,"width, cm"\n', []),
        ("int64", 'length,"width, cm"\n9007199254740993,-2\n', [[9007199254740993, -2]]),
        ("bool", 'length,"width, cm"\ntrue,0\nFalse,1\n', [[True, False], [False, True]]),
        ("string", 'length,"width, cm"\n"a\nb",""\n', [["a\nb", ""]]),
    ],
)
def test_csv(dtype: Any, text: str, rows: Any) -> None:
    spec = TensorSpec("x", dtype, ("n", 2), columns=ROWS.columns)
    if not rows:
        assert "has an empty batch" in fault({"csv": text}, spec).message
        return
    assert decoded(File("text/csv", text.encode()), spec).tolist() == rows
    assert decoded({"csv": text.removeprefix("\ufeff")}, spec).tolist() == rows


@pytest.mark.parametrize(
    ("text", "field", "told"),
    [
        ("", "inputs.x", "is empty"),
        ("a\n1\n", "inputs.x.b", "is missing"),
        ("a,b,c\n1,2,3\n", "inputs.x.c", "no column"),
        ("a,b,a\n1,2,3\n", "inputs.x.a", "twice there"),
        ("a,b\n1,2\n3\n", "inputs.x.1", "has 1 cells"),
        ("a,b\n1,2\n3,x\n", "inputs.x.1.b", "is no number"),
        ("a,b\n1,1_000\n", "inputs.x.0.b", "is no number"),
        ("a,b\n1,\n", "inputs.x.0.b", "is no number"),
        ("a,b\n1,nan\n", "inputs.x.0.1", "infinite, none"),
        ('a,b\n1,"2', "inputs.x", "no CSV at line 2"),
        (f"a,b\n1,{'9' * 200_000}\n", "inputs.x", "no CSV at line 2"),
    ],
)
def test_csv_that_is_none(text: str, field: str, told: str) -> None:
    spec = table("float32", "n", 2)
    for value in ({"csv": text}, File("text/csv", text.encode())):
        error = fault(value, spec)
        assert error.field == field
        assert told in error.message
    assert "is no whole number" in fault({"csv": "a,b\n1,2.5\n"}, table("int8", "n", 2)).message
    assert fault({"csv": 3}, spec).field == "inputs.x.csv"
    assert "not UTF-8 at byte 4" in fault(File("text/csv", b"a,b\n\xff"), spec).message


@given(st.text(max_size=60))
def test_no_text_does_more_than_to_be_refused(text: str) -> None:
    for dtype in ("float32", "int8", "bool", "string"):
        for whole in (text, "a,b\n" + text):
            assert status({"csv": whole}, table(dtype, "n", 2)) in (200, 422)
