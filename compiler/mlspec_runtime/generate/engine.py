"""One thread that loads a language model, generates with it and closes it, many requests in a batch.

A framework's streams and caches belong to the thread that made them, so nothing else touches the model.
Requests join the running batch between two steps. A swap of adapters changes every row in flight: it waits
until the batch is empty.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.job import Job, LanguageModel, Step, final_output
from mlspec_runtime.generate.messages import FinishReason, TokenEvent
from mlspec_runtime.generate.transcript import Transcript
from mlspec_runtime.heat.pace import Kind, Pace, PaceMeter, kind_of
from mlspec_runtime.submission import Output, Submission
from mlspec_runtime.waiting_room import WaitingRoom

LOG = logging.getLogger("mlspec.engine")
CLOSE_WAIT_S = 10.0


class Engine:
    """The thread, its queue and its batch."""

    def __init__(self, room: WaitingRoom[Job], *, concurrency: int) -> None:
        self._room = room
        self._concurrency = concurrency
        self._prefill_step: int | None = None
        self._pace = PaceMeter()
        self._rows: dict[int, Job] = {}
        self._adapter = "base"
        self._round: frozenset[Job] = frozenset()
        self._opened = threading.Event()
        self._problem: BaseException | None = None
        self._model: LanguageModel
        """Set before `open` returns."""
        self.progress_at = 0.0
        """When a step last went well; 0 before the first."""
        self._thread: threading.Thread | None = None

    @property
    def adapter(self) -> str:
        """The adapter that the batch runs with."""
        return self._adapter

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def open(self, open_model: Callable[[], LanguageModel]) -> None:
        """Start the thread and wait until it has loaded the model. Raises what loading raised."""
        self._thread = threading.Thread(target=self._run, args=(open_model,), name="mlspec-engine", daemon=True)
        self._thread.start()
        self._opened.wait()
        if isinstance(self._problem, Exception):
            raise self._problem
        if self._problem is not None:
            # Such as SystemExit, which would end the thread that loads without a word.
            raise RuntimeError(f"loading the model ended with {self._problem!r}")

    def submit(self, job: Job, *, always: bool = False) -> None:
        """Queue a job. Raises ServiceError."""
        self._room.enter(job, always=always)

    def cancel(self, submission: Submission) -> None:
        """Forget a job: at once if it waits, else before the next step."""
        submission.cancelled = True
        self._room.leave_if_waiting(submission)

    def throttle(self, concurrency: int, prefill_step: int | None) -> None:
        """Start no request while so many are computed, and read prompts in such steps (None: as it is). What is
        computed goes on. From any thread; it holds from the next step on.
        """
        self._concurrency = concurrency
        self._prefill_step = prefill_step

    def paces(self) -> tuple[Pace, ...]:
        """How fast tokens came since this was last asked, prompts left out. From any thread."""
        return self._pace.take()

    def memory_bytes(self) -> Mapping[str, int]:
        """What the opened model holds. From any thread."""
        return self._model.memory_bytes()

    def close(self) -> None:
        """End the thread; what is queued or computed fails."""
        self._fail_all(ServiceError("shutting_down", "the service is shutting down", 503))
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _run(self, open_model: Callable[[], LanguageModel]) -> None:
        try:
            self._model = open_model()
        # Whatever it is, the thread that waits in `open` must learn of it.
        except BaseException as problem:  # noqa: BLE001
            self._problem = problem
            self._opened.set()
            return
        self._opened.set()
        try:
            self._work()
        # The thread ends here; without this the requests would wait for ever.
        except BaseException:
            LOG.exception("the engine's thread has died")
            self._fail_all(ServiceError("engine_dead", "the engine has died; restart the service", 503))
        finally:
            self._model.close()

    def _fail_all(self, reason: ServiceError) -> None:
        for job in self._room.close(reason):
            job.put(reason.again())

    def _work(self) -> None:
        while self._rows or self._room.wait():
            if self._room.closed:
                return
            self._drop_cancelled()
            self._set_prefill_step()
            self._admit()
            if self._rows:
                self._advance()

    def _drop_cancelled(self) -> None:
        rows = [row for row, job in self._rows.items() if job.cancelled]
        if rows:
            self._model.drop(rows)
        for row in rows:
            self._room.leave(self._rows.pop(row))

    def _set_prefill_step(self) -> None:
        if self._prefill_step is not None:
            self._model.read_prompts_by(self._prefill_step)

    def _admit(self) -> None:
        waiting = self._room.waiting()
        if not self._rows and waiting and self._round.isdisjoint(waiting):
            self._begin_round(waiting)
        # Less than none, after a lower bound was set with more in the batch.
        free = max(0, self._concurrency - len(self._rows))
        for job in self._room.begin(self._admissible(waiting)[:free]):
            self._start(job)

    def _begin_round(self, waiting: Sequence[Job]) -> None:
        """Serve the adapter of the one who waits longest, to all who wait for it by now. Those who come for
        it later stand behind whoever was there before them, so no adapter can keep another out.
        """
        adapter = waiting[0].adapter
        if adapter != self._adapter:
            self._model.select_adapter(adapter)
            self._adapter = adapter
        self._round = frozenset(job for job in waiting if job.adapter == adapter)

    def _admissible(self, waiting: Sequence[Job]) -> list[Job]:
        others_wait = False
        jobs = []
        for job in waiting:
            if job.adapter != self._adapter:
                others_wait = True
            elif not others_wait or job in self._round:
                jobs.append(job)
        return jobs

    def _start(self, job: Job) -> None:
        job.began_at = time.monotonic()
        try:
            started = self._model.start(job.prompt, job.sampling)
        # One request that the framework refuses must not end the others.
        except Exception:
            LOG.exception("request %s could not be started", job.request_id)
            self._end(job, _engine_error())
            return
        job.transcript = Transcript(self._model.detokenizer(), job.sampling.stop)
        job.reused_tokens = started.reused_tokens
        self._rows[started.row] = job

    def _advance(self) -> None:
        began_at = time.monotonic()
        kind = self._kind()
        try:
            steps = self._model.step()
        # A step that failed leaves the batch in no usable state: its requests fail and a new one is made.
        except Exception as problem:  # noqa: BLE001
            self._give_up_batch(problem)
            return
        self.progress_at = time.monotonic()
        if kind is not None:
            self._pace.note(kind, self.progress_at - began_at)
        for step in steps:
            self._take(step)

    def _kind(self) -> Kind | None:
        """Of the next step; None while a prompt is read, which takes time of its own."""
        jobs = self._rows.values()
        if any(job.first_token_at is None for job in jobs):
            return None
        return kind_of((job.context_tokens for job in jobs), (job.work for job in jobs))

    def _give_up_batch(self, problem: Exception) -> None:
        jobs = list(self._rows.values())
        lost = ", ".join(job.request_id for job in jobs)
        LOG.error("a step failed; requests lost: %s", lost, exc_info=problem)
        self._rows.clear()
        self._model.reset()
        for job in jobs:
            self._end(job, _engine_error())

    def _take(self, step: Step) -> None:
        job = self._rows[step.row]
        transcript = job.transcript
        assert transcript is not None  # noqa: S101 - set in _start
        if job.first_token_at is None:
            job.first_token_at = time.monotonic()
        text = transcript.add(step.token) if step.finish_reason != "stop" else ""
        if step.finish_reason is not None:
            text += transcript.finish()
        if text and job.stream:
            job.put(Output("token", TokenEvent(text=text, tokens=transcript.take_tokens())))
        if step.finish_reason is not None or transcript.stopped:
            self._finish(step, job, transcript)

    def _finish(self, step: Step, job: Job, transcript: Transcript) -> None:
        del self._rows[step.row]
        if step.finish_reason is None:
            self._model.drop([step.row])
        reason: FinishReason = "stop" if transcript.stopped else step.finish_reason or "stop"
        self._end(job, final_output(job, transcript, reason))

    def _end(self, job: Job, item: Output | ServiceError) -> None:
        took_s = None if isinstance(item, ServiceError) else time.monotonic() - job.began_at
        self._room.leave(job, took_s=took_s)
        job.put(item)


def _engine_error() -> ServiceError:
    message = "generating failed and the request is lost; the server's log has it under this request_id"
    return ServiceError("engine_error", message, 500)
