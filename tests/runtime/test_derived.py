"""A model that the build made of another: found by its list, checked by it, and by the plan's key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlspec_runtime.derived import MANIFEST
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.models import locate
from mlspec_runtime.plan import RuntimePlan, parse_plan
from runtime.bundles import planned_model, runtime_block
from runtime.test_models import make_model, nowhere

CONTENT = "0" * 64


def plan(model: Path, **changes: Any) -> RuntimePlan:
    """A plan of which the model in the folder is served in another form."""
    block = {**planned_model("base", model), "derived": {"key": "a key", "settings": {"bits": 4}}, **changes}
    return parse_plan({"runtime": runtime_block(models=[block])})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "source")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a model that was made of another, and its list."""
    made = make_model(tmp_path / "bundle/models/base", b"87654321")
    (made / "config.json").write_text('{"quantization": {"bits": 4}}')
    about = {"version": 1, "key": "a key", "content": CONTENT, "settings": {"bits": 4}}
    (made / MANIFEST).write_text(json.dumps({**about, "files": planned_model("base", made)["files"]}))
    return tmp_path / "bundle"


@pytest.mark.parametrize("content", [None, CONTENT])
def test_it_is_found(source: Path, bundle: Path, content: str | None) -> None:
    assert locate(plan(source, content=content), bundle, {}, nowhere) == {"base": bundle / "models/base"}


def problem(planned: RuntimePlan, bundle: Path) -> str:
    with pytest.raises(ServiceError) as error:
        locate(planned, bundle, {}, nowhere)
    assert (error.value.code, error.value.status) == ("model_mismatch", 503)
    return error.value.message


def test_of_another_model_or_with_other_settings(source: Path, bundle: Path) -> None:
    other = {"key": "another", "settings": {}}
    assert "it was made of another model, or with other settings." in problem(plan(source, derived=other), bundle)
    assert "it was made of a model with other weights." in problem(plan(source, content="1" * 64), bundle)


def test_the_model_that_it_is_made_of_is_not_served(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle/models").mkdir(parents=True)
    (tmp_path / "bundle/models/base").symlink_to(source)
    assert f"it has no {MANIFEST}, by which a build marks what it made" in problem(plan(source), tmp_path / "bundle")


def test_nor_is_it_looked_for_in_the_store(source: Path, tmp_path: Path) -> None:
    def store(tag: str) -> Path:
        raise AssertionError("the store holds the model as it was")

    with pytest.raises(ServiceError) as error:
        locate(plan(source, source={"store": "demo:1"}), tmp_path, {}, store)
    assert error.value.code == "model_missing"


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("config.json", lambda text: "{}", "config.json has 2 bytes, planned are 29"),
        ("config.json", lambda text: text.replace("4", "8"), "config.json has another content"),
        (MANIFEST, lambda text: "", "can't be read"),
        (MANIFEST, lambda text: "{", "can't be read"),
        (MANIFEST, lambda text: json.dumps({**json.loads(text), "files": 7}), "can't be read"),
        (MANIFEST, lambda text: json.dumps({**json.loads(text), "version": 2}), "of version 2; read is 1"),
    ],
)
def test_one_that_was_changed(source: Path, bundle: Path, name: str, change: Callable[[str], str], told: str) -> None:
    path = bundle / "models/base" / name
    path.write_text(change(path.read_text()))
    assert told in problem(plan(source), bundle)
