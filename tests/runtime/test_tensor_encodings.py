"""Arrays in base64 and as .npy files: what they say is held against the declared shape before memory is taken."""

from __future__ import annotations

import base64
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.decoding import decode, file_types, is_small
from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.signature import ImageFile, TensorSpec

PAIRS = TensorSpec("x", "float32", ("n", 2))
TEXTS = TensorSpec("x", "string", ("n",))


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def npy(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def with_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def decoded(value: Any, spec: TensorSpec = PAIRS) -> Any:
    return decode({spec.name: value}, [spec], {})[spec.name]


def status(value: Any, spec: TensorSpec = PAIRS) -> int:
    try:
        decoded(value, spec)
    except ServiceError as error:
        return error.status
    return 200


def fault(value: Any, spec: TensorSpec = PAIRS) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        decoded(value, spec)
    assert (error.value.status, error.value.code) == (422, "invalid_request")
    assert error.value.message.startswith(f"{error.value.field}: ")
    return error.value


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "<i8", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_numbers(dtype: str, order: Any) -> None:
    array = np.array([[1, 2], [3, 4], [5, 6]], dtype=dtype, order=order)
    for value in ({"npy": base64_of(npy(array))}, File("application/x-npy", npy(array))):
        got = decoded(value)
        assert (got.dtype, got.tolist()) == (np.float32, array.tolist())


def test_npy_of_texts_and_booleans() -> None:
    assert decoded({"npy": base64_of(npy(np.array(["a", "ü"])))}, TEXTS).tolist() == ["a", "ü"]
    flags = TensorSpec("x", "bool", ("n",))
    assert decoded({"npy": base64_of(npy(np.array([True, False])))}, flags).tolist() == [True, False]
    assert "neither 0 nor 1" in fault({"base64": "Ag==", "dtype": "bool", "shape": [1]}, flags).message


def test_raw_numbers() -> None:
    content = np.arange(4, dtype="<f4").tobytes()
    value = {"base64": base64_of(content), "dtype": "float32", "shape": [2, 2]}
    assert decoded(value).tolist() == [[0, 1], [2, 3]]
    empty = {"base64": "", "dtype": "float32", "shape": [0, 2]}
    assert decoded(empty, TensorSpec("x", "float32", (0, 2))).shape == (0, 2)


@pytest.mark.parametrize("shape", [(0, 2), (0, 0), (2, 0)])
def test_what_is_named_is_at_least_one(shape: tuple[int, ...]) -> None:
    spec, empty = TensorSpec("x", "float32", ("n", "width")), np.zeros(shape, "float32")
    for value in ({"npy": base64_of(npy(empty))}, {"base64": "", "dtype": "float32", "shape": list(shape)}):
        found = fault(value, spec)
        assert (found.status, found.field) == (422, "inputs.x")
        assert ("empty batch" if not shape[0] else "of at least 1; has the shape") in found.message


@pytest.mark.parametrize("value", [[], {"csv": "a,b\n"}, {"npy": base64_of(npy(np.zeros((0, 2), "float32")))}])
def test_no_rows_are_an_empty_batch_in_whatever_form(value: Any) -> None:
    found = fault(value, TensorSpec("x", "float32", ("batch", 2), columns=("a", "b")))
    assert (found.status, found.field) == (422, "inputs.x")
    assert "an empty batch" in found.message


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "is empty: its first line names the columns a, b"), ("a;b\n1;2\n", "semicolons"), ("a\tb\n", "tabs")],
)
def test_what_is_no_csv_with_commas_is_told(text: str, told: str) -> None:
    assert told in fault({"csv": text}, TensorSpec("x", "float32", ("batch", 2), columns=("a", "b"))).message


@pytest.mark.parametrize(
    ("value", "field", "told"),
    [
        ({"npy": "!"}, "inputs.x.npy", "no base64"),
        ({"npy": "AAA"}, "inputs.x.npy", "no base64"),
        ({"npy": 3}, "inputs.x.npy", "a text in base64"),
        ({"npy": "AAAA"}, "inputs.x.npy", "no .npy file"),
        ({"npy": "", "shape": [1]}, "inputs.x.shape", "no key beside npy"),
        ({"npy": base64_of(npy(np.zeros((2, 2)))[:-1])}, "inputs.x.npy", "has 31 bytes"),
        ({"npy": base64_of(npy(np.zeros((2, 3))))}, "inputs.x.npy", "has the shape [2, 3]"),
        ({"npy": base64_of(npy(np.array([["a", "b"]])))}, "inputs.x", "another type"),
        ({"npy": base64_of(npy(np.array([[1, np.nan]])))}, "inputs.x.0.1", "infinite, none"),
        ({"base64": "AAAA", "dtype": "float32"}, "inputs.x.shape", "is missing"),
        ({"base64": "AAAA", "dtype": "object", "shape": [1, 2]}, "inputs.x.dtype", "wants one of"),
        ({"base64": "AAAA", "dtype": ["float32"], "shape": [1, 2]}, "inputs.x.dtype", "wants one of"),
        ({"base64": "AAAA", "dtype": "string", "shape": [1, 2]}, "inputs.x.dtype", "wants one of"),
        ({"base64": "AAAA", "dtype": "float32", "shape": [-1, 2]}, "inputs.x.shape", "list of sizes"),
        ({"base64": "AAAA", "dtype": "float32", "shape": [True, 2]}, "inputs.x.shape", "list of sizes"),
        ({"base64": "AAAA", "dtype": "float32", "shape": [1, 2]}, "inputs.x.base64", "has 3 bytes"),
        ({"base64": "AAAA", "dtype": "float32", "shape": [1, 2], "order": "F"}, "inputs.x.order", "no key"),
        ({"a": 1}, "inputs.x", "one of the keys npy, base64"),
        ({"npy": "", "base64": ""}, "inputs.x", "one of the keys"),
        ({"image": "AAAA"}, "inputs.x", "one of the keys npy, base64"),
        ({}, "inputs.x", "nested lists, or an object"),
        ([{"npy": ""}], "inputs.x.0", "another type"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: Any, field: str, told: str) -> None:
    error = fault(value)
    assert error.field == field
    assert told in error.message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npy(np.array([[1, {}]], dtype=object), allow_pickle=True), "pickled objects, which are never loaded"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 2), }"), "has 0 bytes"),
        (with_header("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000, 2), }"), "has 0 bytes"),
        (with_header("{'descr': '<U99999999', 'fortran_order': False, 'shape': (1, 2), }"), "has 0 bytes"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999, 2), }"), "has 0 "),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 8), "has the shape [2]"),
        (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2), }"), "of another type"),
        (with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (1, 2), }"), "doesn't know"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 9999 + "), }"), "of another type"),
        (with_header("__import__('os').abort()"), "of another type"),
        (with_header("(" * 60000), "of another type"),
        (with_header("x" * 100000, version=2), "cut or too long"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "cut or too long"),
        (b"\x93NUMPY\x09\x00\x00\x00", "no .npy file"),
        (b"PK\x03\x04" + b"\0" * 100, "no .npy file"),
        (b"\x80\x04\x95", "no .npy file"),
    ],
)
def test_npy_files_that_are_none(content: bytes, told: str) -> None:
    tracemalloc.start()
    try:
        error = fault({"npy": base64_of(content)})
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert told in error.message
    assert fault(File("application/x-npy", content)).field == "inputs.x"


def test_texts_that_are_no_unicode() -> None:
    content = with_header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\xff\xff\xff\x7f")
    assert "not Unicode" in fault({"npy": base64_of(content)}, TEXTS).message
    half = with_header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"\x00\xd8\x00\x00")
    assert "not Unicode" in fault({"npy": base64_of(half)}, TEXTS).message


@given(st.binary(max_size=60), st.integers(0, 130), st.binary(max_size=4))
def test_no_bytes_do_more_than_to_be_refused(noise: bytes, at: int, piece: bytes) -> None:
    whole = npy(np.ones((2, 2), np.float32))
    for content in (noise, whole[:at] + piece + whole[at + len(piece) :], whole[:at]):
        assert status({"npy": base64_of(content)}) in (200, 422)


@pytest.mark.parametrize(
    ("value", "least", "most", "field"),
    [
        ([[0.5, 1.5]], 0, 1, "inputs.x.0.1"),
        ([[0.5, -0.5]], 0, 1, "inputs.x.0.1"),
        ({"npy": base64_of(npy(np.array([[0, 2.0]])))}, 0, 1, "inputs.x.0.1"),
    ],
)
def test_values_are_within_the_declared_range(value: Any, least: float, most: float, field: str) -> None:
    spec = TensorSpec("x", "float32", ("n", 2), minimum=least, maximum=most)
    assert fault(value, spec).field == field
    assert decoded([[0, 1]], spec).tolist() == [[0, 1]]


def test_a_bound_is_in_the_range_whatever_rounding_does() -> None:
    for dtype in ("float16", "float32", "float64"):
        spec = TensorSpec("x", dtype, ("n",), minimum=0.1, maximum=0.3)  # type: ignore[arg-type]
        assert len(decoded([0.1, 0.3], spec)) == 2
    whole = TensorSpec("x", "int64", ("n",), minimum=0.5)
    assert fault([1, 0], whole).field == "inputs.x.1"


def test_dimensions_agree_over_inputs() -> None:
    specs = [TensorSpec("x", "float32", ("n", 2)), TensorSpec("y", "int8", ("n",))]
    sizes: dict[str, int] = {}
    decode({"x": [[1, 2]], "y": {"base64": "AQ==", "dtype": "int8", "shape": [1]}}, specs, sizes)
    assert sizes == {"n": 1}
    with pytest.raises(ServiceError, match="where n is 1") as error:
        decode({"x": [[1, 2]], "y": {"base64": "AQI=", "dtype": "int8", "shape": [2]}}, specs, {})
    assert error.value.field == "inputs.y"


def test_only_what_is_small_is_decoded_on_the_loop() -> None:
    small: list[Any] = [
        1,
        [[1.0] * 10] * 10,
        "a",
        {"npy": "AAAA"},
        {"base64": "AAAA", "dtype": 1, "shape": 2},
        [],
        None,
    ]
    large: list[Any] = [[[1.0] * 784] * 32, {"npy": "A" * 5000}, {"image": "AAAA"}, [{"image": ""}], {"csv": ""}]
    assert all(is_small({"x": value}) for value in small)
    assert not any(is_small({"x": value}) for value in large)
    assert not is_small({"x": File("text/csv", b"")})
    assert not is_small({"x": 1, "y": large[0]})


def test_a_single_input_may_be_the_whole_body() -> None:
    assert file_types([PAIRS, TEXTS]) == ()
    assert file_types([PAIRS]) == ("application/x-npy",)
    image = TensorSpec("x", "uint8", ("n", 8, 8, 3), image=ImageFile())
    assert file_types([image]) == ("application/x-npy", "image/png", "image/jpeg", "image/webp")
    table = TensorSpec("x", "float32", ("n", 1), columns=("a",))
    assert file_types([table]) == ("application/x-npy", "text/csv", "application/vnd.apache.parquet")
