"""One thread that loads a language model, generates with it and closes it, many requests in a batch.

A framework's streams and caches belong to the thread that made them, so nothing else touches the model.
Requests join the running batch between two steps, where the model admits their adapter beside those of the rows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.job import Job, LanguageModel, Step, final_output
from mlspec_runtime.generate.transcript import Transcript, continuing
from mlspec_runtime.generate.turns import Turns
from mlspec_runtime.heat.pace import Kind, Pace, PaceMeter, kind_of
from mlspec_runtime.submission import Item, Output, Submission, deliver
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
        self._turns = Turns(lambda adapter: self._model.admits(adapter))
        self._outgoing: list[tuple[Submission, Item]] = []
        self._opened = threading.Event()
        self._problem: BaseException | None = None
        self._model: LanguageModel
        """Set before `open` returns."""
        self.progress_at = 0.0
        """When a step last went well; 0 before the first."""
        self._thread: threading.Thread | None = None

    @property
    def adapter(self) -> str:
        """The adapter of the request that was started last."""
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

    def counts(self) -> Mapping[str, int]:
        """What the opened model has counted. From any thread."""
        return self._model.counts()

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
            self._fail_all(ServiceError("engine_dead", "the engine has died", 503))
        finally:
            self._send()
            self._model.close()

    def _fail_all(self, reason: ServiceError) -> None:
        deliver([(job, reason.again()) for job in self._room.close(reason)])

    def _work(self) -> None:
        while self._rows or self._room.wait():
            if self._room.closed:
                return
            self._drop_cancelled()
            self._set_prefill_step()
            self._admit()
            if self._rows:
                self._advance()
            self._send()
            self._settle()

    def _send(self) -> None:
        """All that a step gave, at once: the event loop is woken once."""
        outgoing, self._outgoing = self._outgoing, []
        if outgoing:
            deliver(outgoing)

    def _settle(self) -> None:
        try:
            self._model.settle()
        # As a step that failed.
        except Exception as problem:  # noqa: BLE001
            self._give_up_batch(problem)
            self._send()

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
        # There are more rows than that for a while, after a lower bound was set.
        waiting = list(self._room.waiting()) if len(self._rows) < self._concurrency else []
        while waiting and len(self._rows) < self._concurrency:
            job = self._turns.next(waiting)
            if job is None:
                return
            waiting.remove(job)
            is_new = all(other.adapter != job.adapter for other in self._rows.values())
            # Unless it has left meanwhile.
            if self._room.begin([job]) and self._start(job):
                self._turns.began(job, waiting, is_new=is_new)

    def _start(self, job: Job) -> bool:
        job.began_at = time.monotonic()
        job.computing = True
        try:
            started = self._model.start(job.prompt, job.sampling, job.adapter)
        except ServiceError as error:
            self._end(job, error)
            return False
        # One request that the framework refuses must not end the others.
        except Exception:
            LOG.exception("request %s could not be started", job.request_id)
            self._end(job, _engine_error())
            return False
        self._adapter = job.adapter
        new = self._model.detokenizer
        detokenizer = continuing(new, job.prompt[-1]) if job.continues else new()
        job.transcript = Transcript(detokenizer, job.sampling.stop, job.format)
        job.reused_tokens = started.reused_tokens
        self._rows[started.row] = job
        return True

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
            job.first_token_at = self.progress_at
        if step.finish_reason != "stop":
            transcript.add(step.token, step.logprobs)
        if step.finish_reason is not None:
            transcript.finish(cut=step.finish_reason == "length")
        event = transcript.take() if job.stream else None
        if event is not None:
            self._outgoing.append((job, Output("token", event)))
        if step.finish_reason is not None or transcript.stopped:
            self._finish(step, job, transcript)

    def _finish(self, step: Step, job: Job, transcript: Transcript) -> None:
        del self._rows[step.row]
        if step.finish_reason is None:
            self._model.drop([step.row])
        reason = transcript.reason(step.finish_reason or "stop")
        self._end(job, final_output(job, transcript, reason))

    def _end(self, job: Job, item: Output | ServiceError) -> None:
        took_s = None if isinstance(item, ServiceError) else time.monotonic() - job.began_at
        self._room.leave(job, took_s=took_s)
        self._outgoing.append((job, item))


def _engine_error() -> ServiceError:
    message = "generating failed and the request is lost; the server's log has it under this request_id"
    return ServiceError("engine_error", message, 500)
