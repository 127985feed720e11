"""From what the model computed to the answers of the requests, and what clients learn of what went wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.job import Job
from mlspec_runtime.predict.messages import TensorTimings, response
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec
from mlspec_runtime.predict.values import conform
from mlspec_runtime.submission import Measures, Output

LOG = logging.getLogger("mlspec.predict")
RETRY_AFTER_S = 10.0
"""For those whose turn didn't come: it is too crowded by far."""


def checked_names(predicted: Any, specs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    """What a model gave, if it has the declared names. Raises BadTensorError."""
    declared = {spec.name for spec in specs}
    if not isinstance(predicted, Mapping) or set(predicted) != declared:
        told = sorted(map(str, predicted)) if isinstance(predicted, Mapping) else type(predicted).__name__
        raise BadTensorError(f"predict must give a dict with {', '.join(sorted(declared))}; it gave {told}")
    return predicted


def checked(predicted: Any, specs: Sequence[TensorSpec], known: Mapping[str, int]) -> dict[str, Array]:
    """The outputs as declared, where these named dimensions are known. Raises BadTensorError."""
    outputs = checked_names(predicted, specs)
    # What an output adds must not hold for another try.
    sizes = dict(known)
    return {spec.name: _checked(outputs[spec.name], spec, sizes) for spec in specs}


def _checked(value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    try:
        return conform(value, spec, sizes)
    except BadTensorError as fault:
        raise BadTensorError(f"output {spec.name} {fault}") from None


def answered(job: Job, outputs: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Output:
    """The whole answer of a request."""
    queue_s, total_s = job.began_at - job.entered_at, time.monotonic() - job.entered_at
    timings = TensorTimings(queue_s=round(queue_s, 6), total_s=round(total_s, 6))
    answer = response(outputs, specs, job.encoding, timings, job.request_id)
    return Output("done", answer, final=True, measures=Measures(queue_s, prompt_tokens=job.tokens))


def bad_output(job: Job, fault: BadTensorError) -> ServiceError:
    """What the model gave isn't what the spec says."""
    LOG.error("request %s: %s", job.request_id, fault)
    return ServiceError("bad_output", f"the model's answer is not as declared: {fault}", 500)


def model_error(job: Job, problem: BaseException) -> ServiceError:
    """The model's code raised: the client learns that it did, the log learns what."""
    LOG.error("request %s: the model's code failed", job.request_id, exc_info=problem)
    return ServiceError("model_error", "the model's code failed; the server's log has it under this request_id", 500)


def overdue() -> ServiceError:
    """The deadline passed before its turn came."""
    message = "its turn didn't come before its deadline; nothing of it was computed"
    return ServiceError("queue_timeout", message, 503, retry_after_s=RETRY_AFTER_S)


def dead() -> ServiceError:
    """There is no thread to compute."""
    return ServiceError("engine_dead", "the computing thread has ended", 503)
