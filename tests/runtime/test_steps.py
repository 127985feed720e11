"""Steps before and after a model, as a service runs them: numbers against the formulas."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps import Place, Steps

SCORES = np.array([[1.0, 3.0, 2.0], [1e4, -1e4, 0.0], [5.0, 5.0, 5.0]], dtype=np.float32)


def before(settings: dict[str, Any], model_inputs: list[str], **arrays: Array) -> dict[str, Array]:
    return Steps([settings], [], model_inputs, []).prepare(arrays)


def after(settings: dict[str, Any], inputs: dict[str, Array] | None = None, **arrays: Array) -> dict[str, Array]:
    """All arrays that are named `…` on the step's other side."""
    name = settings.get("output", settings.get("input"))
    names = [settings["scores"], settings["classes"]] if settings["step"] == "top_k" else [name]
    return Steps([], [settings], [], names).after(arrays, inputs or {})


def test_softmax_of_large_scores() -> None:
    found = after({"step": "softmax", "input": "x", "output": "p"}, x=SCORES)["p"]
    first = np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [first, [1, 0, 0], [1 / 3] * 3], rtol=1e-6)
    assert after({"step": "softmax", "input": "x", "output": "p"}, x=SCORES[:0])["p"].shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sigmoid_of_large_scores(dtype: str) -> None:
    x = np.array([-1e4, -1.0, 0.0, 1.0, 1e4], dtype=dtype)
    found = after({"step": "sigmoid", "input": "x", "output": "x"}, x=x)["x"]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [0, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1], rtol=1e-3)


def test_argmax_takes_the_first_of_equals() -> None:
    found = after({"step": "argmax", "input": "x", "output": "x"}, x=SCORES)["x"]
    assert (found.tolist(), found.dtype) == ([1, 0, 0], np.int64)


def test_top_k_is_sorted_and_the_first_of_equals_is_first() -> None:
    found = after({"step": "top_k", "input": "x", "k": 2, "scores": "s", "classes": "c"}, x=SCORES)
    assert found["c"].tolist() == [[1, 2], [0, 2], [0, 1]]
    assert found["s"].tolist() == [[3.0, 2.0], [1e4, 0.0], [5.0, 5.0]]


def test_the_model_may_give_fewer_scores_than_are_wanted() -> None:
    with pytest.raises(ServiceError, match="gave 3 scores, of which the 4 largest") as error:
        after({"step": "top_k", "input": "x", "k": 4, "scores": "s", "classes": "c"}, x=SCORES)
    assert error.value.status == 500


def test_labels_and_an_index_without_one() -> None:
    settings = {"step": "labels", "input": "c", "output": "name", "labels": ["a", "b"]}
    assert after(settings, c=np.array([[1, 0]]))["name"].tolist() == [["b", "a"]]
    for wrong in (2, -1):
        with pytest.raises(ServiceError, match="none of the 2 labels"):
            after(settings, c=np.array([0, wrong]))


def test_l2_normalize_leaves_zeros() -> None:
    found = after({"step": "l2_normalize", "input": "x", "output": "x"}, x=np.array([[3.0, 4.0], [0.0, 0.0]]))["x"]
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


def test_mean_pool_leaves_padding_out() -> None:
    tokens = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    mask = np.array([[1, 1, 0], [0, 0, 0]])
    settings = {"step": "mean_pool", "input": "x", "output": "e", "mask": "mask"}
    found = after(settings, {"mask": mask}, x=tokens)["e"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, [tokens[0, :2].mean(axis=0), [0, 0, 0, 0]])
    plain = after({"step": "mean_pool", "input": "x", "output": "e"}, x=tokens)["e"]
    np.testing.assert_array_equal(plain, tokens.mean(axis=1))
    first = after({"step": "first_token", "input": "x", "output": "x"}, x=tokens)["x"]
    np.testing.assert_array_equal(first, tokens[:, 0])


def test_an_array_is_taken_away_unless_it_is_kept() -> None:
    settings = {"step": "softmax", "input": "x", "output": "p"}
    steps = Steps([], [{**settings, "keep": True}], [], ["x", "p"])
    assert set(steps.after({"x": SCORES}, {})) == {"x", "p"}
    with pytest.raises(KeyError):
        Steps([], [settings], [], ["x"]).after({"x": SCORES}, {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_normalize_is_the_formula(dtype: str) -> None:
    x = np.random.default_rng(1).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    settings = {"step": "normalize", "input": "x", "dtype": dtype, "rank": 4, "divide_by": 255.0}
    found = before({**settings, "mean": mean, "std": std}, ["x"], x=x)["x"]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, (x / 255 - mean) / std, rtol=1e-2 if dtype == "float16" else 1e-4, atol=1e-5)
    first = before({**settings, "mean": mean, "axis": 1}, ["x"], x=x.transpose(0, 3, 1, 2))["x"]
    np.testing.assert_allclose(first[:, 2], x[..., 2] / 255 - 0.406, rtol=1e-2, atol=1e-3)
    assert x.dtype == np.uint8  # the request's own is as it was
    same = np.ones((1, 3), dtype=np.float32)
    before({"step": "normalize", "input": "x", "dtype": "float32", "rank": 2, "divide_by": 2.0}, ["x"], x=same)
    assert same.tolist() == [[1, 1, 1]]


def test_transpose_and_rename() -> None:
    x = np.arange(6).reshape(1, 2, 3)
    found = before({"step": "transpose", "input": "x", "order": [0, 2, 1]}, ["x"], x=x)["x"]
    assert found.tolist() == x.transpose(0, 2, 1).tolist()
    assert found.flags["C_CONTIGUOUS"]
    renamed = before({"step": "rename", "names": {"x": "y"}}, ["y", "z"], x=x, z=x)
    assert set(renamed) == {"y", "z"}


CODE = """
    import numpy as np
    from mlspec_runtime.errors import ServiceError

    def doubled(arrays):
        x = arrays["x"]
        assert set(arrays) == {"x"}
        if x[0] == 1:
            raise SystemExit("secret")
        if x[0] == 2:
            raise ServiceError("no_faces", "there is no face", 422, field="inputs.x")
        if x[0] == 3:
            return {"z": x}
        if x[0] == 4:
            return [x]
        if x[0] == 5:
            return {"y": x.reshape(1, -1)}
        if x[0] == 6:
            return {"y": x / 0}
        return {"y": (x * 2).tolist()}
"""


def function(folder: Path) -> Steps:
    module = f"steps_{abs(hash(str(folder)))}.py"
    (folder / "user").mkdir()
    (folder / "user" / module).write_text(textwrap.dedent(CODE))
    gives = [{"name": "y", "dtype": "float32", "shape": ["batch"]}]
    settings = {"step": "function", "module": f"user/{module}", "name": "doubled", "takes": ["x"], "gives": gives}
    steps = Steps([settings], [], ["y"], [])
    steps.load(Place(folder, {}))
    return steps


def test_a_function_gives_what_is_declared(tmp_path: Path) -> None:
    found = function(tmp_path).prepare({"x": np.array([7.0]), "left": np.array([1])})
    assert (found["y"].tolist(), found["y"].dtype) == ([14.0], np.float32)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    ("value", "code", "status", "message"),
    [
        (1, "step_failed", 500, "own function doubled failed"),
        (2, "no_faces", 422, "there is no face"),
        (3, "bad_output", 500, "a dict with y; it gave ['z']"),
        (4, "bad_output", 500, "it gave list"),
        (5, "bad_output", 500, "wants float32[batch], has the shape [1, 1]"),
        (6, "bad_output", 500, "infinite"),
    ],
)
def test_a_function_that_fails(tmp_path: Path, value: int, code: str, status: int, message: str) -> None:
    steps = function(tmp_path)
    with pytest.raises(ServiceError) as error:
        steps.prepare({"x": np.array([float(value)])})
    assert (error.value.code, error.value.status) == (code, status)
    assert message in error.value.message
    assert "secret" not in error.value.message


def test_only_functions_may_mix_rows() -> None:
    softmax = {"step": "softmax", "input": "x", "output": "x"}
    own = {"step": "function", "module": "m.py", "name": "f", "takes": [], "gives": []}
    assert Steps([own], [softmax], [], []).by_rows
    assert not Steps([], [softmax, own], [], []).by_rows
