"""From nested lists to declared tensors."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.predict.examples import examples
from mlspec_runtime.predict.messages import request_type
from mlspec_runtime.predict.signature import BadTensorError, Dtype, TensorSpec
from mlspec_runtime.predict.values import conform


def spec(dtype: Any = "float32", *shape: int | str) -> TensorSpec:
    return TensorSpec("x", dtype, shape)


@pytest.mark.parametrize("dtype", [dtype for dtype in get_args(Dtype) if dtype != "string"])
def test_every_type_takes_its_own_values(dtype: Any) -> None:
    array = conform([[0, 1]] if dtype != "bool" else [[False, True]], spec(dtype, "n", 2), {})
    assert (array.dtype, array.shape, array.tolist()) == (np.dtype(dtype), (1, 2), [[0, 1]])


@pytest.mark.parametrize(
    ("value", "declared", "told"),
    [
        ([1.5], spec("int32", "n"), "another type"),
        ([True], spec("float32", "n"), "another type"),
        ([1], spec("bool", "n"), "another type"),
        (["1"], spec("float32", "n"), "another type"),
        ([None], spec("float32", "n"), "another type"),
        ({"a": 1}, spec("float32"), "another type"),
        ([[1], [1, 2]], spec("float32", "n", "m"), "different lengths"),
        ([1, [2]], spec("float32", "n"), "different lengths"),
        ([1, 2], spec("float32", 3), "wants float32[3]; has the shape [2]"),
        ([1, 2], spec("float32", "n", 2), "has the shape [2]"),
        ([], spec("float32", "n", 4), "has the shape [0]"),
        (3, spec("float32", "n"), "has the shape []"),
        ([300], spec("uint8", "n"), "does not fit"),
        ([-1], spec("uint64", "n"), "does not fit"),
        ([2**63], spec("int64", "n"), "does not fit"),
        ([2**70], spec("int64", "n"), "does not fit"),
        ([1e300], spec("float32", "n"), "too large"),
        ([float("nan")], spec("float32", "n"), "none"),
        ([70000.0], spec("float16", "n"), "too large"),
    ],
)
def test_what_does_not_conform_is_told(value: Any, declared: TensorSpec, told: str) -> None:
    with pytest.raises(BadTensorError) as error:
        conform(value, declared, {})
    assert told in str(error.value)


def test_named_dimensions_agree_over_tensors() -> None:
    sizes: dict[str, int] = {}
    conform([[1, 2, 3]], TensorSpec("x", "float32", ("batch", "width")), sizes)
    assert sizes == {"batch": 1, "width": 3}
    conform([7], TensorSpec("y", "int8", ("batch",)), sizes)
    with pytest.raises(BadTensorError, match=r"wants int8\[batch\], where batch is 1; has the shape \[2\]"):
        conform([7, 8], TensorSpec("y", "int8", ("batch",)), sizes)


def test_scalars_and_empty_lists() -> None:
    assert conform(2, spec("int8"), {}).shape == ()
    assert conform([], spec("int64", "n"), {}).dtype == np.int64


@pytest.mark.parametrize(
    ("value", "declared", "path"),
    [
        ([[1, 2], [3, None]], spec("float32", "n", 2), (1, 1)),
        ([[1, 2], [3, float("inf")]], spec("float32", "n", 2), (1, 1)),
        ([[1, 2], [True, 3]], spec("float32", "n", 2), (1, 0)),
        ([1, 2, 256], spec("uint8", "n"), (2,)),
        ([1, 2**70], spec("int64", "n"), (1,)),
        ([1.0, 10**400], spec("float64", "n"), (1,)),
        (["a", "\ud800"], spec("string", "n"), (1,)),
        (["a", 1], spec("string", "n"), (1,)),
        ([[1], [1, 2]], spec("float32", "n", "m"), ()),
        ("a", spec("float32"), ()),
    ],
)
def test_the_place_of_a_wrong_value_is_told(value: Any, declared: TensorSpec, path: tuple[int, ...]) -> None:
    with pytest.raises(BadTensorError) as error:
        conform(value, declared, {})
    assert error.value.path == path


def test_lists_may_hold_arrays_as_models_give_them() -> None:
    value = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    assert conform(value, spec("float32", "n", 2), {}).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert conform([np.float32(1), 2.0], spec("float32", "n"), {}).tolist() == [1.0, 2.0]
    assert conform(np.array(["a", "bc"]), spec("string", "n"), {}).tolist() == ["a", "bc"]
    with pytest.raises(BadTensorError, match="different lengths"):
        conform([np.array([1.0]), np.array([3.0, 4.0])], spec("float32", "n", "m"), {})


@pytest.mark.parametrize("depth", [17, 100, 900])
def test_deep_lists_are_refused(depth: int) -> None:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    with pytest.raises(BadTensorError, match="deep or deeper"):
        conform(value, spec("float32", "n"), {})


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x, max_size=4))
)
def test_any_json_conforms_or_is_refused(value: Any) -> None:
    try:
        array = conform(value, spec("float32", "n", 2), {})
    except BadTensorError:
        return
    assert array.dtype == np.float32
    assert array.shape[1:] == (2,)


def test_requests_by_any_name() -> None:
    specs = [TensorSpec(name, "float32", ("n",)) for name in ("x", "model_config", "class", "a-b", "_c", "values")]
    kind = request_type(specs)
    values = {s.name: [1.0] for s in specs}
    assert kind.model_validate({"inputs": values}).values() == values
    assert "a-b" in kind.model_json_schema()["$defs"]["Inputs"]["properties"]
    assert examples(specs)["numbers"]["inputs"]["a-b"] == [0.0]


@pytest.mark.parametrize(
    "value",
    [["a" * 2000, *[""] * 1000], [{}], [None], [[True, 1.0]], "x", {"a": 1}],
)
def test_what_is_no_number_is_refused_before_numpy_pads_it(value: Any) -> None:
    spec = TensorSpec("x", "float32", ("n",))
    tracemalloc.start()
    try:
        with pytest.raises(BadTensorError):
            conform(value, spec, {})
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
