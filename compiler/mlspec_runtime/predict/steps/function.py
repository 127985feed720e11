"""A function of the user's own: arrays by their names to arrays by their names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import BadTensorError, TensorSpec
from mlspec_runtime.predict.steps.step import Arrays, Place, read
from mlspec_runtime.predict.user_code import user_function
from mlspec_runtime.predict.values import conform

LOG = logging.getLogger("mlspec.predict")


@dataclass(frozen=True)
class Settings:
    """`module` is relative to the bundle; `takes` are the names of what it gets, `gives` is what it must give."""

    module: str
    name: str
    takes: tuple[str, ...]
    gives: tuple[TensorSpec, ...]


class Function:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)
        self._function: Callable[[dict[str, Any]], Any] | None = None

    def load(self, place: Place) -> None:
        self._function = user_function(place.bundle / self._settings.module, self._settings.name)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        given = self._called({name: arrays[name] for name in self._settings.takes})
        names = {spec.name for spec in self._settings.gives}
        if not isinstance(given, Mapping) or set(given) != names:
            told = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
            raise self._bad(f"it must give a dict with {', '.join(sorted(names))}; it gave {told}")
        sizes: dict[str, int] = {}
        return {spec.name: self._conforming(given[spec.name], spec, sizes) for spec in self._settings.gives}

    def _called(self, arrays: dict[str, Any]) -> Any:
        assert self._function is not None  # noqa: S101 - `load` set it
        try:
            return self._function(arrays)
        except ServiceError:
            raise
        # The user's code may raise anything, SystemExit too; the client learns that it did, the log learns what.
        except BaseException as problem:
            LOG.exception("the step's function %s failed", self._settings.name)
            message = f"the service's own function {self._settings.name} failed; the server's log says how"
            raise ServiceError("step_failed", message, 500) from problem

    def _conforming(self, value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Any:
        try:
            return conform(value, spec, sizes)
        except BadTensorError as fault:
            raise self._bad(f"{spec.name} {fault}") from None

    def _bad(self, told: str) -> ServiceError:
        message = f"the step's function {self._settings.name} did not give what is declared: {told}"
        LOG.error("%s", message)
        return ServiceError("bad_output", message, 500)
