"""The one thread that makes the model and calls it: takes what waits, in batches, and sends the answers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.answers import answered, bad_output, checked, checked_names, dead, model_error, overdue
from mlspec_runtime.predict.batches import choose, joined, pieces, split, stack, stackable
from mlspec_runtime.predict.job import Done, Job
from mlspec_runtime.predict.meter import Meter
from mlspec_runtime.predict.model import ManyAtOnce, TensorModel
from mlspec_runtime.predict.settings import Settings
from mlspec_runtime.predict.signature import Array, BadTensorError
from mlspec_runtime.predict.steps import Steps
from mlspec_runtime.submission import Item, Output, deliver
from mlspec_runtime.waiting_room import WaitingRoom

LOG = logging.getLogger("mlspec.predict")
CLOSE_WAIT_S = 10.0


class Computing:
    """The thread, its model and its queue. `most_requests` bounds those of a batch and may change at any time."""

    def __init__(
        self,
        room: WaitingRoom[Job],
        open_model: Callable[[Mapping[str, Path]], TensorModel],
        settings: Settings,
        steps: Steps,
    ) -> None:
        self._room = room
        self._open_model = open_model
        self._outputs = settings.requests.outputs
        self._of_model = settings.outputs
        self._batching = settings.batching
        self.most_requests = settings.batching.max_rows
        self._steps = steps if settings.post else None
        self._splits_answers = stackable(settings.requests.outputs) and steps.by_rows
        self.model: TensorModel | None = None
        self.takes_any = False
        """Whether the model takes several requests as they are, whatever their shapes."""
        self.meter = Meter()
        self._rows_each = 1.0
        self.good_at = 0.0
        """When a call last went well; 0 before the first."""
        self.busy_since: float | None = None
        self._thread: threading.Thread | None = None
        self._opened = threading.Event()
        self._problem: BaseException | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def open(self, models: Mapping[str, Path]) -> None:
        """Start the thread and wait until it has loaded the model. Raises what loading raised."""
        self._thread = threading.Thread(target=self._run, args=(models,), name="mlspec-predict", daemon=True)
        self._thread.start()
        self._opened.wait()
        if self._problem is not None:
            # sys.exit in a user's code must not end the loading thread.
            is_usual = isinstance(self._problem, Exception)
            raise self._problem if is_usual else RuntimeError(f"the model's code raised {self._problem!r}")

    def close(self) -> None:
        """End the thread; what is queued or computed fails."""
        self._fail_all(ServiceError("shutting_down", "the service is shutting down", 503))
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _fail_all(self, reason: ServiceError) -> None:
        deliver([(job, reason.again()) for job in self._room.close(reason)])

    def _run(self, models: Mapping[str, Path]) -> None:
        try:
            self.model = model = self._open_model(models)
            self.takes_any = isinstance(model, ManyAtOnce)
        # Whatever the model's code raises, `open` waits to learn of it.
        except BaseException as problem:  # noqa: BLE001
            self._problem = problem
            return
        finally:
            self._opened.set()
        try:
            while self._room.wait():
                self._next(model)
            model.close()
        # Nothing may leave clients waiting for a thread that has ended.
        except BaseException:
            LOG.exception("the computing thread has ended")
            self._fail_all(dead())

    def _next(self, model: TensorModel) -> None:
        self._wait_for_more()
        waiting = self._in_time(self._room.waiting())
        if waiting:
            self._compute(model, self._room.begin(choose(waiting, self._batching.max_rows, self.most_requests)))

    def _wait_for_more(self) -> None:
        if not self._batching.max_wait_s:
            return
        waiting = self._room.waiting()
        if waiting and waiting[0].key is not None:
            most = self._batching.max_rows
            self._room.linger(
                lambda jobs: sum(job.rows for job in jobs) >= most, waiting[0].entered_at + self._batching.max_wait_s
            )

    def _in_time(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose deadline is still to come; the others have an error, and are computed no more."""
        now = time.monotonic()
        late = [job for job in jobs if now >= job.deadline_at]
        if late:
            self._room.leave_all(late)
            deliver([(job, overdue()) for job in late])
        return [job for job in jobs if now < job.deadline_at]

    def _compute(self, model: TensorModel, jobs: Sequence[Job]) -> None:
        """Together; if that fails in halves, and so on, until a bad one is alone."""
        if not jobs:
            return
        self.busy_since = now = time.monotonic()
        for job in jobs:
            job.begin(now)
        try:
            again = self._together(model, jobs) if len(jobs) > 1 else self._alone(model, jobs[0])
        finally:
            self.busy_since = None
        half = len(again) // 2
        for part in (again[:half], again[half:]):
            self._compute(model, self._wanted(part))

    def _wanted(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Of those to be computed again, who hasn't left meanwhile, and has time."""
        if left := [job for job in jobs if job.cancelled]:
            self._room.leave_all(left)
        return self._in_time([job for job in jobs if not job.cancelled])

    def _alone(self, model: TensorModel, job: Job) -> Sequence[Job]:
        item: Item
        try:
            if job.inputs is None:
                model.health()
                item = Output("done", Done(), final=True)
            else:
                predicted = self._predicted(model, job.inputs, job.rows)
                item = self._answered(job, self._after(predicted, job.inputs))
        except ServiceError as error:
            item = error
        except BadTensorError as fault:
            item = bad_output(job, fault)
        # A model's code may raise anything, KeyboardInterrupt too.
        except BaseException as problem:  # noqa: BLE001 - `model_error` logs it
            item = model_error(job, problem)
        self._finish([(job, item)])
        return ()

    def _together(self, model: TensorModel, jobs: Sequence[Job]) -> Sequence[Job]:
        """Answer those whose outputs are as they should be; the others are to be computed again."""
        try:
            outputs = self._of_each(model, jobs)
        # As above. Alone, each that fails is told of.
        except BaseException as problem:  # noqa: BLE001
            LOG.warning("a batch of %d requests failed; it is computed again in parts: %r", len(jobs), type(problem))
            return jobs
        items = {job: self._item(job, predicted) for job, predicted in zip(jobs, outputs, strict=True)}
        self._finish([(job, item) for job, item in items.items() if item is not None])
        return [job for job, item in items.items() if item is None]

    def _item(self, job: Job, predicted: Any) -> Item | None:
        if isinstance(predicted, ServiceError):
            return predicted
        if isinstance(predicted, Exception):
            return model_error(job, predicted)
        try:
            return self._answered(job, predicted)
        except BadTensorError:
            return None

    def _answered(self, job: Job, predicted: Any) -> Output:
        return answered(job, checked(predicted, self._outputs, job.sizes), self._outputs)

    def _of_each(self, model: TensorModel, jobs: Sequence[Job]) -> Sequence[Any]:
        """What the model gave for each, through the steps after it; an exception in the place of what failed alone."""
        requests = [job.inputs for job in jobs if job.inputs is not None]
        rows = [job.rows for job in jobs]
        if not isinstance(model, ManyAtOnce):
            stacked = stack(requests)
            outputs = self._predicted(model, stacked, sum(rows))
            if self._splits_answers:
                return split(self._after(outputs, stacked), rows)
            predicted: Sequence[Any] = split(outputs, rows)
        else:
            predicted = model.predict_batch(requests)
        if len(predicted) != len(jobs):
            raise BadTensorError(f"predict_batch must give {len(jobs)} answers for {len(jobs)} requests")
        return [self._after(answer, inputs) for answer, inputs in zip(predicted, requests, strict=True)]

    def _predicted(self, model: TensorModel, inputs: Mapping[str, Array], rows: int) -> Any:
        """The model's outputs for all rows, computed in parts where there are more than the plan's."""
        most = self._batching.max_rows if self._batching.max_rows > 1 else rows
        if rows <= most:
            return model.predict(inputs)
        return joined([checked_names(model.predict(piece), self._of_model) for piece in pieces(inputs, most)])

    def _after(self, predicted: Any, inputs: Mapping[str, Array]) -> Any:
        if self._steps is None or isinstance(predicted, Exception):
            return predicted
        return self._steps.after(checked(predicted, self._of_model, {}), inputs)

    def _finish(self, pairs: Sequence[tuple[Job, Item]]) -> None:
        if not pairs:
            return
        took_s = time.monotonic() - (self.busy_since or 0.0)
        jobs = [job for job, item in pairs]
        good = [job for job, item in pairs if isinstance(item, Output)]
        self._room.leave_all(jobs, took_s=took_s if good else None)
        # Before the answers go out: who has one and asks for health or metrics finds it counted.
        if good and good[0].inputs is not None:
            self.good_at = time.monotonic()
            self._note(sum(job.rows for job in good), len(good), took_s)
        deliver(pairs)

    def _note(self, rows: int, requests: int, took_s: float) -> None:
        most = self._batching.max_rows if self._batching.max_rows > 1 else rows
        for at in range(0, rows, max(1, most)):  # as `_predicted` computed them
            part = min(most, rows - at)
            self.meter.note(part, 0 if at else requests, took_s * part / rows)
        self._rows_each = 0.8 * self._rows_each + 0.2 * rows / requests
        if self._batching.max_rows > 1:
            self._room.computes(min(self.most_requests, int(self._batching.max_rows / max(1.0, self._rows_each))))
