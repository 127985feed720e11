"""The runner `mlx-lm` at serve time: MLX language models, with none, one or more adapters."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.engine import Engine
from mlspec_runtime.generate.job import Job, LanguageModel
from mlspec_runtime.generate.messages import (
    GenerateRequest,
    GenerateResponse,
    Sampling,
    TokenEvent,
    request_type,
)
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.mlx.blas import preload
from mlspec_runtime.protocol import RUNNER_API, Capacity, Health, RunnerContext, Stats, Vitals
from mlspec_runtime.submission import Submission
from mlspec_runtime.waiting_room import WaitingRoom

from .runtime_capacity import Fit
from .runtime_keys import ResponseKeys
from .runtime_liveness import Liveness
from .runtime_settings import Settings
from .runtime_templates import chat_template

if TYPE_CHECKING:
    from .runtime_loaded import LoadedModel
    from .runtime_requests import RequestReader

LOG = logging.getLogger("mlspec.mlx_lm")
RECENT_S = 10.0
"""A token this young is proof enough that the model generates."""
PROBE_POLL_S = 0.05


class MlxLmRunner:
    """Tokenizes on a thread of its own, generates on the engine's."""

    runner_api = RUNNER_API
    response_type: type[BaseModel] = GenerateResponse
    event_types: Mapping[str, type[BaseModel]] = {"token": TokenEvent, "done": GenerateResponse}

    def __init__(self, context: RunnerContext) -> None:
        settings, limits = TypeAdapter(Settings).validate_python(dict(context.settings)), context.limits
        self._settings = settings
        self._context = context
        self._concurrency, self._queue = limits.concurrency, limits.queue
        self._capacity: Capacity | None = None
        self._room = WaitingRoom[Job](
            running=limits.concurrency, waiting=limits.queue, watch=context.watch, timeout_s=limits.timeout_s
        )
        self._engine = Engine(self._room, concurrency=limits.concurrency)
        self._liveness = Liveness(limits.timeout_s)
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="mlspec-tokenize")
        self._reader: RequestReader
        self._keys: ResponseKeys
        self._closed = False
        self._probing = asyncio.Lock()
        self.request_type: type[BaseModel] = request_type(
            settings.adapters, settings.default_adapter, limits.max_tokens, settings.sampling
        )
        self.request_examples: Mapping[str, Any] = {
            "prompt": {"prompt": "Where is my order?", "max_tokens": min(16, limits.max_tokens)},
            "messages": {
                "messages": [{"role": "user", "content": "Where is my order?"}],
                "temperature": 0.7,
                "seed": 1,
            },
        }

    def load(self, models: Mapping[str, Path]) -> None:
        if self._settings.preload_blas is not None:
            preload(self._settings.preload_blas)
        adapters = {name: models[f"adapters/{name}"] for name in self._settings.adapters}
        template = chat_template(self._context.bundle, self._settings.chat_template)

        def open_model() -> LanguageModel:
            # Imports MLX, on the engine's thread.
            from .runtime_loaded import LoadedModel
            from .runtime_requests import RequestReader

            loaded = LoadedModel(
                models["base"], adapters, self._settings, concurrency=self._concurrency, chat_template=template
            )
            self._reader = RequestReader(loaded.tokenizer, self._settings, loaded.vocabulary)
            self._keys = self._response_keys(str(loaded.tokenizer.chat_template))
            self._take(loaded.fit)
            return self._generating(loaded)

        self._engine.open(open_model)

    def _response_keys(self, template: str) -> ResponseKeys:
        return ResponseKeys(self._context.settings, self._settings.default_adapter, template)

    def _take(self, fit: Fit) -> None:
        """Compute no more at once than this computer has memory for."""
        if fit.reason:
            self._capacity = Capacity(self._concurrency, fit.concurrency, fit.reason)
            self._concurrency = fit.concurrency
            self.throttle(Allowance(fit.concurrency))

    def _generating(self, loaded: LoadedModel) -> LanguageModel:
        step, kv_bits = self._settings.prefill_step, self._settings.kv_bits
        if kv_bits is not None:
            if loaded.fit.prompt_cache_bytes:
                LOG.info("no prompt cache: answers from a quantized cache depend on where a prompt was cut")
            from .runtime_sequences import SequencesModel

            return SequencesModel(loaded, kv_bits=kv_bits, prefill_step=step)
        from .runtime_mlx import BatchedModel

        kept_bytes = loaded.fit.prompt_cache_bytes
        return BatchedModel(loaded, concurrency=self._concurrency, prefill_step=step, prompt_cache_bytes=kept_bytes)

    async def submit(self, request: GenerateRequest, request_id: str, *, stream: bool) -> Submission:
        loop = asyncio.get_running_loop()
        reading = await loop.run_in_executor(self._tokenizing, self._reader.read, request)
        job = Job(
            request_id,
            reading.prompt,
            reading.sampling,
            reading.adapter,
            format=reading.format,
            continues=reading.continues,
            stream=stream,
        )
        self._engine.submit(job)
        return job

    def cancel(self, submission: Submission) -> None:
        self._engine.cancel(submission)

    def response_key(self, request: GenerateRequest) -> bytes | None:
        return self._keys.key(request)

    def fault(self) -> ServiceError | None:
        if self._closed:
            return None
        if not self._engine.alive:
            return ServiceError("engine_dead", "the engine's thread has ended", 503)
        stats = self._room.stats()
        stuck_s = self._liveness.stuck_s(self._engine.progress_at, busy=bool(stats.running or stats.waiting))
        if stuck_s is None:
            return None
        return ServiceError("engine_stuck", f"nothing was computed for {stuck_s:.0f} s", 503)

    async def health(self, timeout_s: float) -> Health:
        """A token came in the last seconds, or one is generated now."""
        fault = self.fault()
        if fault is not None:
            raise fault
        async with self._probing:
            age_s = time.monotonic() - self._engine.progress_at
            if age_s < RECENT_S:
                return Health("recently", round(age_s, 3))
            begun_at = time.monotonic()
            try:
                async with asyncio.timeout(timeout_s):
                    # Work in hand must go on; a probe would have to wait behind it.
                    await (self._progress(begun_at) if self.stats().running else self._token())
            except TimeoutError:
                message = f"nothing was generated in {timeout_s:g} s"
                raise ServiceError("engine_stuck", message, 503) from None
            return Health("computed", round(time.monotonic() - begun_at, 3))

    async def _progress(self, since: float) -> None:
        while self._engine.progress_at < since and self.stats().running:
            await asyncio.sleep(PROBE_POLL_S)

    async def _token(self) -> None:
        # With the adapter that is in place: a probe is no reason for a swap.
        job = Job("health", self._reader.encoder.probe, Sampling(max_tokens=1), self._engine.adapter)
        self._engine.submit(job, always=True)
        try:
            await job.output()
        finally:
            self._engine.cancel(job)

    def stats(self) -> Stats:
        return replace(self._room.stats(), capacity=self._capacity)

    def throttle(self, allowance: Allowance) -> None:
        concurrency = min(allowance.concurrency, self._concurrency)
        self._room.resize(running=concurrency, waiting=self._queue)
        self._engine.throttle(concurrency, allowance.prefill_step)

    def vitals(self) -> Vitals:
        return Vitals(self._engine.memory_bytes(), self._engine.paces(), self._engine.counts())

    def close(self) -> None:
        self._closed = True
        self._engine.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)


def create(context: RunnerContext) -> MlxLmRunner:
    """The runner of this module."""
    return MlxLmRunner(context)
