"""The schemas: complete for editors, and equal to the types that the compiler uses."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlspec import codes, runners
from mlspec.model.project import ProjectFile
from mlspec.model.spec import Metadata, ServiceSpec, Spec, TargetSpec, TestCase
from mlspec.resources import folder
from mlspec.runners.coreml.model import Convert, CoremlModel
from mlspec.runners.mlx.model import MlxModel
from mlspec.runners.mlx_lm.model import MlxLmModel
from mlspec.runners.onnx.model import OnnxModel
from mlspec.runners.pipeline.model import PipelineModel
from mlspec.runners.python.model import PythonModel
from mlspec.runners.sklearn.model import SklearnModel
from mlspec.runners.torch.model import TorchModel
from mlspec.tensors.steps import STEPS

SPEC = json.loads((folder("schema") / "mlspec.schema.json").read_text(encoding="utf-8"))
PROJECT = json.loads((folder("schema") / "project.schema.json").read_text(encoding="utf-8"))
JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with what its `$ref` brings; what stands beside the reference counts."""
    if "$ref" not in schema:
        return dict(schema)
    target: Any = SPEC
    for step in schema["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    return {**resolved(target), **{k: v for k, v in schema.items() if k != "$ref"}}


def subschemas(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key not in ("examples", "default", "enum", "const"):
                yield from subschemas(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from subschemas(item)


def keys_of(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key that a file can have, with its schema."""
    if not isinstance(schema, dict):
        return
    for name, value in schema.get("properties", {}).items():
        yield f"{path}.{name}", resolved(value)
    for step, value in schema.items():
        if step in ("properties", "$defs"):
            for name, child in value.items():
                yield from keys_of(child, f"{path}.{name}")
        elif step == "items" or step == "additionalProperties":
            yield from keys_of(value, f"{path}[]")


KEYS = [*keys_of(SPEC), *keys_of(PROJECT, "project")]


@pytest.mark.parametrize("schema", [SPEC, PROJECT], ids=["spec", "project"])
def test_it_is_a_schema(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("path", "schema"), KEYS, ids=[path for path, _ in KEYS])
def test_each_key_is_explained_to_an_editor(path: str, schema: dict[str, Any]) -> None:
    assert len(schema["description"]) > 10
    assert schema["description"].endswith(".")
    assert schema["examples"]


@pytest.mark.parametrize(("path", "schema"), KEYS, ids=[path for path, _ in KEYS])
def test_defaults_and_examples_are_valid(path: str, schema: dict[str, Any]) -> None:
    validator = Draft202012Validator({**schema, "$defs": SPEC["$defs"]})
    default = schema.get("default")
    if default != []:  # an empty list is a default that nobody has to write
        assert "default" not in schema or not list(validator.iter_errors(default))
    for example in schema["examples"]:
        assert not list(validator.iter_errors(example))


def test_maps_are_closed_and_take_keys_of_ones_own() -> None:
    for schema in [*subschemas(SPEC), *subschemas(PROJECT)]:
        if schema.get("additionalProperties") is False:
            assert "^x-" in schema["patternProperties"]


def test_each_branch_of_a_runner_is_complete() -> None:
    for branch in SPEC["$defs"]["model"]["allOf"]:
        model = resolved(branch["then"])
        assert model["additionalProperties"] is False
        assert {"runner", "task"} <= set(model["properties"])


def test_nothing_is_chosen_by_one_of() -> None:
    """One error for a whole block is no use: `oneOf` only says which keys may stand together."""
    for schema in [*subschemas(SPEC), *subschemas(PROJECT)]:
        assert all(set(branch) == {"required"} for branch in schema.get("oneOf", ()))
        assert "anyOf" not in schema


def test_each_code_in_a_schema_has_a_page() -> None:
    for schema in [*subschemas(SPEC), *subschemas(PROJECT)]:
        assert schema.get("x-mlspec-code", "unknown-key") in codes.known()


def test_the_built_in_runners_have_a_branch() -> None:
    conditions = [branch["if"]["properties"]["runner"]["const"] for branch in SPEC["$defs"]["model"]["allOf"]]
    assert set(conditions) == set(resolved(SPEC["$defs"]["runner"])["examples"])
    for name, branch in zip(conditions, SPEC["$defs"]["model"]["allOf"], strict=True):
        runner = runners.find(name)
        assert runner is not None
        assert runner.model_schema() is None
        assert tuple(resolved(branch["then"])["properties"]["task"]["enum"]) == runner.tasks


@pytest.mark.parametrize(
    ("schema", "kind", "without"),
    [
        (SPEC["properties"]["metadata"], Metadata, ()),
        (SPEC["properties"]["service"], ServiceSpec, ()),
        (SPEC["$defs"]["target"], TargetSpec, ()),
        (SPEC["$defs"]["test"], TestCase, ()),
        (SPEC["$defs"]["mlx-lm"], MlxLmModel, ()),
        (SPEC["$defs"]["python"], PythonModel, ()),
        (SPEC["$defs"]["torch"], TorchModel, ()),
        (SPEC["$defs"]["pipeline"], PipelineModel, ()),
        *((SPEC["$defs"][f"step-{name.replace('_', '-')}"], kind, ()) for name, kind in STEPS.items()),
        (SPEC["$defs"]["mlx"], MlxModel, ()),
        (SPEC["$defs"]["onnx"], OnnxModel, ()),
        (SPEC["$defs"]["sklearn"], SklearnModel, ()),
        (SPEC["$defs"]["coreml"], CoremlModel, ()),
        (SPEC["$defs"]["coreml"]["properties"]["convert"], Convert, ()),
        (PROJECT, ProjectFile, ("apiVersion", "kind")),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_schema_and_type_agree(schema: dict[str, Any], kind: type[BaseModel], without: tuple[str, ...]) -> None:
    assert list(differences(schema, kind, kind.__name__, without)) == []


def test_the_spec_itself_agrees() -> None:
    parts = set(SPEC["properties"]) - {"apiVersion", "kind"}
    assert parts == set(Spec.model_fields) - {"runner", "task"}
    default = Spec.model_fields["targets"].default
    assert [t.model_dump(include={"name", "platform"}) for t in default] == SPEC["properties"]["targets"]["default"]


def differences(
    schema: Mapping[str, Any], kind: type[BaseModel], path: str, without: tuple[str, ...] = ()
) -> Iterator[str]:
    """What a map's schema and its type say differently: keys, which are needed, defaults, types, possible values."""
    properties = {name: resolved(s) for name, s in schema["properties"].items() if name not in without}
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    if set(properties) != set(fields):
        yield f"{path}: keys {set(properties) ^ set(fields)}"
    needed = {name for name, field in fields.items() if field.is_required()}
    if needed != set(schema.get("required", ())) - set(without):
        yield f"{path}: needed {needed}"
    for name in properties.keys() & fields.keys():
        yield from _field_differences(properties[name], fields[name], f"{path}.{name}")


def _field_differences(schema: Mapping[str, Any], field: FieldInfo, path: str) -> Iterator[str]:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or default is None:
        if "default" in schema:
            yield f"{path}: default {schema['default']}"
    elif _plain(default) != schema.get("default"):
        yield f"{path}: default {_plain(default)}, not {schema.get('default')}"
    yield from _type_differences(schema, field.annotation, path)


def _plain(default: Any) -> Any:
    """As a spec would write it: a map with all of its own defaults is the empty map."""
    if isinstance(default, BaseModel):
        return {}
    return json.loads(json.dumps(default))


def _type_differences(schema: Mapping[str, Any], kind: Any, path: str) -> Iterator[str]:
    choices = [c for c in _choices(kind) if c is not type(None)]
    literals = [value for choice in choices if get_origin(choice) is Literal for value in get_args(choice)]
    enum = schema.get("enum", schema.get("then", {}).get("enum", []))
    if list(enum) != literals:
        yield f"{path}: possible values {literals}, not {enum}"
    given = schema.get("type", [])
    wanted = set([given] if isinstance(given, str) else given)
    if kind is not Any and wanted != {_json_type(choice) for choice in choices}:
        yield f"{path}: type {choices}, not {wanted}"
    for choice in choices:
        yield from _nested_differences(schema, choice, path)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _json_type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return JSON_TYPES[type(get_args(kind)[0])]
    if get_origin(kind) is tuple:
        return "array"
    return JSON_TYPES.get(kind, "object")


def _nested_differences(schema: Mapping[str, Any], kind: Any, path: str) -> Iterator[str]:
    arguments = get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from differences(schema, kind, path)
    elif get_origin(kind) is tuple:
        yield from _type_differences(resolved(schema["items"]), arguments[0], f"{path}[]")
    elif get_origin(kind) is dict and arguments[1] is not Any:
        yield from _type_differences(resolved(schema["additionalProperties"]), arguments[1], f"{path}[]")


def test_the_compiler_and_the_runtime_know_the_same_types_of_tensors() -> None:
    from mlspec.model.signature import Dtype
    from mlspec_runtime.predict.signature import Dtype as ServedDtype

    assert set(get_args(Dtype)) == set(get_args(ServedDtype))
