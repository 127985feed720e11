"""What `mlspec lock` commits of a spec's models, so that the spec compiles where they aren't."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.model.facts import ModelFacts, ModelFile, ModelRef

LOCK_VERSION = 1
"""To be raised whenever the form of a model's facts changes: a plan made from an older form would be another one."""


@dataclass(frozen=True)
class LockedModel:
    """One model's facts. `content` is the digest of all its files' whole content, weights included."""

    role: str
    source: Mapping[str, str]
    content: str
    files: tuple[ModelFile, ...]
    parameter_bytes: int
    details: Mapping[str, Any]

    def facts(self, ref: ModelRef) -> ModelFacts:
        """What `inspect` would find of this model."""
        return ModelFacts(ref, self.files, self.parameter_bytes, self.details, self.content)

    def as_data(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "source": dict(self.source),
            "content": self.content,
            "parameter_bytes": self.parameter_bytes,
            "files": [vars(file) for file in self.files],
            "details": json_data(self.details),
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> LockedModel:
        return LockedModel(**{**data, "files": tuple(ModelFile(**file) for file in data["files"])})


@dataclass(frozen=True)
class Lock:
    """All models of a spec, in the order in which the spec names them. `spec` is the name of the spec's file."""

    spec: str
    models: tuple[LockedModel, ...]

    def of(self, role: str) -> LockedModel | None:
        return next((model for model in self.models if model.role == role), None)

    def as_data(self) -> dict[str, Any]:
        """JSON data, as `schema/lock.schema.json` describes it."""
        models = [model.as_data() for model in self.models]
        return {"version": LOCK_VERSION, "spec": self.spec, "digest": digest(models), "models": models}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Lock:
        """The inverse of `as_data`, for data that keeps to the schema."""
        return Lock(data["spec"], tuple(LockedModel.from_data(model) for model in data["models"]))


def locked(facts: ModelFacts, content: str) -> LockedModel:
    """A lock's entry for a model that was inspected."""
    source = facts.ref.source.key()
    return LockedModel(facts.ref.role, source, content, facts.files, facts.parameter_bytes, json_data(facts.details))


def digest(data: Any) -> str:
    """The SHA-256 of JSON data, however it is laid out."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, allow_nan=False).encode()).hexdigest()


def json_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as it comes back from a file: lists instead of tuples."""
    return dict(json.loads(json.dumps(dict(data), allow_nan=False)))
