"""The way of a request of OpenAI's API through the model: admission, deadline and metrics are those of `/predict`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from mlspec_runtime.endpoints import Serving
from mlspec_runtime.exchange import Exchange
from mlspec_runtime.generate.messages import GenerateRequest, GenerateResponse
from mlspec_runtime.generate.openai.answers import Head
from mlspec_runtime.generate.openai.names import fingerprint, model_names
from mlspec_runtime.rows import RowOutput, RowsRunner, rows_request
from mlspec_runtime.submission import Output


class Asking:
    """Of one service. Raises PlanError where its runner doesn't take the task's requests."""

    def __init__(self, serving: Serving) -> None:
        self.names = model_names(serving.plan, serving.runner)
        self.kind = serving.runner.request_type
        self.most_choices = serving.plan.limits.max_batch
        self._serving = serving
        self._fingerprint = fingerprint(serving.plan)

    def head(self, request: Request, prefix: str, object: str, model: str | None) -> Head:
        """Of the answer to a request; its id is the request's."""
        return Head(
            id=f"{prefix}-{request.state.info.request_id}",
            object=object,
            created=int(time.time()),
            model=model or self.names.service,
            system_fingerprint=self._fingerprint,
        )

    async def answers(self, request: Request, choices: Sequence[GenerateRequest]) -> list[GenerateResponse]:
        """Of all choices in their order. Raises ServiceError."""
        exchange = self._exchange(request, len(choices))
        try:
            await _begin(exchange, choices, stream=False)
            return await _whole_answers(exchange)
        finally:
            await exchange.close()

    async def stream(
        self, request: Request, choices: Sequence[GenerateRequest], stream: Callable[[Exchange, Output], Response]
    ) -> Response:
        """What `stream` makes of the exchange and its first output. Raises ServiceError."""
        exchange = self._exchange(request, len(choices))
        try:
            await _begin(exchange, choices, stream=True)
            return stream(exchange, await exchange.output())
        # Cancellation too: nobody else frees the place in the engine before the stream has begun.
        except BaseException:
            await exchange.close()
            raise

    def _exchange(self, request: Request, count: int) -> Exchange:
        serving, limits = self._serving, self._serving.plan.limits
        runner = serving.model.admit()
        asked = runner if count == 1 else RowsRunner(runner, at_once=limits.concurrency, apart=False)
        return Exchange(asked, request, serving.metrics, limits.timeout_s)


async def _begin(exchange: Exchange, choices: Sequence[GenerateRequest], *, stream: bool) -> None:
    body = choices[0] if len(choices) == 1 else rows_request(dict(enumerate(choices)))
    await exchange.begin(body, stream=stream)


async def _whole_answers(exchange: Exchange) -> list[GenerateResponse]:
    answers: dict[int, GenerateResponse] = {}
    while True:
        output = await exchange.output()
        if isinstance(output.data, GenerateResponse):
            answers[output.row if isinstance(output, RowOutput) else 0] = output.data
        if output.final:
            return [answers[row] for row in sorted(answers)]
