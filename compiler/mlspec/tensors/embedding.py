"""Whether a service of the task `embed` makes one vector of one text, as the endpoint `embeddings` answers with."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec.model.endpoints import OF_TASK
from mlspec.model.signature import Tensor
from mlspec.model.spec import Spec
from mlspec.runners import Faults
from mlspec.suggest import listed

_FLOATS = ("float16", "float32", "float64")
_EMBEDDINGS = "embeddings"


def makes_vectors(spec: Spec, inputs: Sequence[Tensor], outputs: Sequence[Tensor], faults: Faults) -> bool:
    """That requests and answers are what the endpoint needs, if the service has it; a fault if not.

    `mlspec_runtime.predict.embeddings` looks at the same as the service starts.
    """
    if spec.task != "embed" or _EMBEDDINGS not in (spec.service.endpoints or OF_TASK["embed"]):
        return True
    if len(inputs) == 1 and _is_text(inputs[0]) and sum(map(_is_vector, outputs)) == 1:
        return True
    told = f"{listed(map(_told, inputs))} to {listed(map(_told, outputs))}"
    message = f"the endpoint 'embeddings' makes one vector of one text; this service goes from {told}"
    help = "let pre and post make it so (tokenize, mean_pool), or write endpoints: [predict, batch]"
    if spec.service.endpoints is None:
        faults.error("wrong-signature", message, ("task",), help=help)
    else:
        faults.of_service().error("wrong-signature", message, ("endpoints",), help=help)
    return False


def _is_text(tensor: Tensor) -> bool:
    return tensor.dtype == "string" and len(tensor.shape) == 1 and isinstance(tensor.shape[0], str)


def _is_vector(tensor: Tensor) -> bool:
    return tensor.dtype in _FLOATS and len(tensor.shape) == 2 and isinstance(tensor.shape[0], str)


def _told(tensor: Tensor) -> str:
    return f"'{tensor.name}' ({tensor})"
