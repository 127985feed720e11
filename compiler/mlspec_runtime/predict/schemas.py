"""Tensors in the OpenAPI document: all the forms that an input takes, with an example that works."""

from __future__ import annotations

from typing import Any

from mlspec_runtime.predict.decoding import encodings
from mlspec_runtime.predict.examples import example_value
from mlspec_runtime.predict.signature import TensorSpec

_JSON_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}
_BASE64 = {"type": "string", "contentEncoding": "base64"}


def input_schema(spec: TensorSpec) -> dict[str, Any]:
    """The JSON Schema of an input's value."""
    forms = [_lists(spec), *(_form(key, spec) for key in encodings(spec))]
    image, table = spec.image is not None, bool(spec.columns)
    if image and len(spec.shape) > (2 if spec.image and spec.image.layout == "none" else 3):
        forms.append({"type": "array", "minItems": 1, "items": _form("image", spec)})
    if table:
        forms.append({"type": "array", "items": _record(spec)})
    return {"anyOf": forms, "description": _described(spec), "examples": [example_value(spec)]}


def output_schema(spec: TensorSpec) -> dict[str, Any]:
    """The JSON Schema of an output."""
    forms = [_lists(spec)] if spec.dtype == "string" else [_lists(spec), _form("npy", spec)]
    return {"anyOf": forms, "description": _described(spec)}


def _described(spec: TensorSpec) -> str:
    image = f"; an image's numbers are divided by {spec.image.divide_by:g}" if spec.image else ""
    return f"{spec}{image}"


def _lists(spec: TensorSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.numpy_dtype.kind]}
    bounds = {"minimum": spec.minimum, "maximum": spec.maximum}
    schema |= {name: bound for name, bound in bounds.items() if bound is not None}
    for dimension in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(dimension, int):
            schema |= {"minItems": dimension, "maxItems": dimension}
    return {**schema, "title": "Numbers" if spec.dtype != "string" else "Texts"}


def _form(key: str, spec: TensorSpec) -> dict[str, Any]:
    """An object that says its encoding by its key."""
    properties: dict[str, Any] = {key: {"type": "string"} if key == "csv" else _BASE64}
    if key == "base64":
        sizes = {"type": "array", "items": {"type": "integer", "minimum": 0}}
        properties |= {"dtype": {"type": "string"}, "shape": sizes}
    return _object(key, properties)


def _record(spec: TensorSpec) -> dict[str, Any]:
    kind = _JSON_TYPES[spec.numpy_dtype.kind]
    return _object("Record", {name: {"type": kind} for name in spec.columns})


def _object(title: str, properties: dict[str, Any]) -> dict[str, Any]:
    required = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "title": title, "properties": properties, **required}
