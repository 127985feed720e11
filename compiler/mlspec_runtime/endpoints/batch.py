"""/predict/batch: many requests of the runner's own type in one, each with an answer or an error of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, create_model
from starlette.responses import Response

from mlspec_runtime.documents import ErrorBody, body_examples, error_documents
from mlspec_runtime.endpoints import Serving
from mlspec_runtime.errors import ServiceError, internal_error
from mlspec_runtime.exchange import Exchange
from mlspec_runtime.protocol import Runner
from mlspec_runtime.rows import RowOutput, RowsRunner, rows_request
from mlspec_runtime.validation import validation_error

LOG = logging.getLogger("mlspec.batch")
PATHS = {"/predict/batch": "batch"}
_TOLD = "As many outputs as inputs, in their order. An input that is wrong has an error in its place: look for `error`."
Answer = RowOutput | ServiceError


def add(app: FastAPI, serving: Serving) -> None:
    """The endpoint `batch`."""
    runner, limits = serving.runner, serving.plan.limits

    async def batch(request: Request, body: Any) -> Response:
        """One answer for each input, in their order. An input that is wrong, or that the model can't answer by the
        deadline of all, has an error in its place, in the shape of all errors.
        """
        rows, answers = _checked(runner, body.inputs)
        asked = RowsRunner(serving.model.admit(), at_once=limits.concurrency, apart=True)
        exchange = Exchange(asked, request, serving.metrics, limits.timeout_s)
        try:
            if rows:
                await exchange.begin(rows_request(rows), stream=False)
                answers.update(await _answers(exchange, rows))
        finally:
            await exchange.close()
        told = [_told(exchange, row, answers[row]) for row in range(len(body.inputs))]
        return Response(f'{{"outputs":[{",".join(told)}]}}', media_type="application/json")

    batch.__annotations__ = {"request": Request, "body": _request_type(runner, limits.max_batch), "return": Response}
    app.post(
        "/predict/batch",
        summary="Ask the model many things at once",
        response_model=_response_type(runner),
        responses={**error_documents(), 200: {"description": _TOLD}},
        openapi_extra=body_examples(several={"inputs": list(runner.request_examples.values())[: limits.max_batch]}),
    )(batch)


def _request_type(runner: Runner, most: int) -> type[BaseModel]:
    """Documents the inputs and leaves their checking, which is done apart, so that one can be wrong alone."""
    kind: Any = Annotated[runner.request_type, WrapValidator(lambda given, check: given)]
    inputs: Any = Annotated[list[kind], Field(min_length=1, max_length=most)]
    config = ConfigDict(extra="forbid")
    return create_model("BatchRequest", __config__=config, __doc__=f"Up to {most} requests.", inputs=(inputs, ...))


def _response_type(runner: Runner) -> type[BaseModel]:
    kind: Any = runner.response_type | ErrorBody
    return create_model("BatchResponse", __doc__="One answer, or error, for each input.", outputs=(list[kind], ...))


def _checked(runner: Runner, inputs: Sequence[Any]) -> tuple[dict[int, BaseModel], dict[int, Answer]]:
    """The requests by their rows, and the errors of those that are none."""
    rows: dict[int, BaseModel] = {}
    errors: dict[int, Answer] = {}
    for row, given in enumerate(inputs):
        try:
            rows[row] = runner.request_type.model_validate(given)
        except ValidationError as error:
            found = [{**one, "loc": ("body", "inputs", row, *one["loc"])} for one in error.errors(include_url=False)]
            errors[row] = validation_error(RequestValidationError(found), "application/json")
        except RecursionError:
            errors[row] = ServiceError("invalid_request", "nested too deeply", 422, field=f"inputs.{row}")
        # A runner's own checks that stumble must not end the others.
        except Exception:
            LOG.exception("input %d could not be checked", row)
            errors[row] = _of_row(row, internal_error())
    return rows, errors


async def _answers(exchange: Exchange, rows: Mapping[int, BaseModel]) -> dict[int, Answer]:
    """What came of each row by the deadline; the error that says so of the others. Raises ServiceError (499)."""
    answers: dict[int, Answer] = {}
    try:
        while len(answers) < len(rows):
            output = await exchange.output()
            if isinstance(output, RowOutput) and output.ended:
                answers[output.row] = output if output.error is None else _of_row(output.row, output.error)
    except ServiceError as error:
        if error.status != 504:
            raise
        return {row: answers.get(row, error) for row in rows}
    return answers


def _of_row(row: int, error: ServiceError) -> ServiceError:
    own = error.again()
    own.field = f"inputs.{row}" if own.field is None else f"inputs.{row}.{own.field}"
    return own


def _told(exchange: Exchange, row: int, answer: Answer) -> str:
    if isinstance(answer, ServiceError):
        return json.dumps(exchange.failed(answer), ensure_ascii=False, separators=(",", ":"))
    return answer.data.model_dump_json()
