"""From a request to the arrays that the model is given: decoded, checked, and through the steps before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlspec_runtime.predict.decoding import check_libraries, decode, is_small
from mlspec_runtime.predict.messages import TensorRequest
from mlspec_runtime.predict.settings import Settings
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps import Place, Steps


class Intake:
    """What is done for each request by itself, before it is queued. `load` comes first; then from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._specs = settings.requests.inputs
        self._is_stepped = bool(settings.pre)
        self._masks = [step["fills"]["mask"]["name"] for step in settings.pre if "mask" in step.get("fills", ())]
        names = ([spec.name for spec in specs] for specs in (settings.inputs, settings.requests.outputs))
        self.steps = Steps(settings.pre, settings.post, *names)

    def load(self, bundle: Path, models: Mapping[str, Path]) -> None:
        """Raises ServiceError, or whatever goes wrong."""
        check_libraries(self._specs)
        self.steps.load(Place(bundle, models))

    async def arrays(self, request: TensorRequest, sizes: dict[str, int]) -> Mapping[str, Array]:
        """The model's inputs; what takes longer than to hand it to another thread is done there, as everybody else
        would wait. Raises ServiceError.
        """
        if not self._is_stepped and is_small(request.values()):
            return self.arrays_now(request, sizes)
        return await asyncio.to_thread(self.arrays_now, request, sizes)

    def tokens(self, inputs: Mapping[str, Array]) -> int:
        """How many tokens a request's texts are, by the masks that tell them from padding; 0 where there is none."""
        return sum(int(np.count_nonzero(inputs[name])) for name in self._masks if name in inputs)

    def arrays_now(self, request: TensorRequest, sizes: dict[str, int]) -> Mapping[str, Array]:
        """The model's inputs. `sizes` is added to: what the request's named dimensions stand for."""
        inputs = decode(request.values(), self._specs, sizes)
        return self.steps.prepare(inputs) if self._is_stepped else inputs
