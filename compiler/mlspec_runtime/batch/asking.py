"""One request of the runner, from its submission to its answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.protocol import Runner
from mlspec_runtime.validation import validation_error

LOG = logging.getLogger("mlspec.batch")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.02, 1.0
"""Between two tries to get into a full queue."""
_LATER = ("queue_full", "queue_slow", "queue_timeout")


async def ask(runner: Runner, body: Any, request_id: str) -> BaseModel:
    """The whole answer. Raises ServiceError for what is wrong with this request alone, BatchError where no other would
    fare better.
    """
    request = _checked(runner, body)
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await _answer(runner, request, request_id)
        except ServiceError as error:
            if error.code not in _LATER and error.status != 429:
                raise _for_all(error) from error
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def _for_all(error: ServiceError) -> Exception:
    return BatchError("model", f"the model can't go on: {error.message}") if error.status == 503 else error


def _checked(runner: Runner, body: Any) -> BaseModel:
    try:
        return runner.request_type.model_validate(body)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors(include_url=False)]
        raise validation_error(RequestValidationError(found), "application/json") from None
    except RecursionError:
        raise ServiceError("invalid_request", "nested too deeply", 422) from None


async def _answer(runner: Runner, request: BaseModel, request_id: str) -> BaseModel:
    try:
        submission = await runner.submit(request, request_id, stream=False)
        output = await submission.output()
        while not output.final:
            output = await submission.output()
        return output.data
    except ServiceError:
        raise
    # A row that the runner stumbles over must not end the others.
    except Exception as problem:
        LOG.exception("request %s could not be started", request_id)
        raise internal_error() from problem
