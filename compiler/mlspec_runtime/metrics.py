"""The service's Prometheus metrics; they appear in BentoML's own /metrics."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mlspec_runtime.heat.reading import Reading
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Stats, Vitals
from mlspec_runtime.submission import Measures

TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_INFO = ("service", "project", "target", "runner", "task")


class Metrics:
    """Counters and gauges of one service. Make it where the service runs: prometheus_client decides at its
    import whether values go to files that processes share.

    Gauges are `mostrecent`: the value of a worker that was killed would stay in a sum for ever. No label has a value
    that a client chooses. Each request is observed once, at its end; what changes with each token is looked at every
    few seconds.
    """

    def __init__(self, plan: RuntimePlan, registry: CollectorRegistry) -> None:
        self._make_for_requests(registry)
        self._make_for_model(plan, registry)
        self._make_for_steps(registry)
        self._make_for_calls(registry)
        self._make_for_response_cache(registry)
        self._make_for_process(registry)
        self.response_cache_size(0, 0)
        self.loaded(False)
        self.ready(False)
        self.stats(Stats(0, 0))

    def _make_for_requests(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "mlspec_requests",
            "Requests by endpoint and HTTP status.",
            ("endpoint", "status"),
            registry=registry,
        )
        self._errors = Counter(
            "mlspec_errors",
            "Errors by endpoint and code, those within a stream too.",
            ("endpoint", "code"),
            registry=registry,
        )
        self._request_s = Histogram(
            "mlspec_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ("endpoint",),
            buckets=SECONDS,
            registry=registry,
        )
        self._queue_s = Histogram("mlspec_queue_seconds", "Time in the queue.", buckets=SECONDS, registry=registry)
        self._first_token_s = Histogram(
            "mlspec_time_to_first_token_seconds",
            "Time from a request's arrival to its first token.",
            buckets=SECONDS,
            registry=registry,
        )
        self._token_s = Histogram(
            "mlspec_time_per_output_token_seconds",
            "Mean time of a request's tokens after the first one.",
            buckets=TOKEN_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "mlspec_tokens",
            "Tokens by kind: prompt, completion, and reused (those of prompts that the prompt cache had).",
            ("kind",),
            registry=registry,
        )
        self._cache_hits = Counter(
            "mlspec_prompt_cache_hits", "Requests whose prompt began as one in the cache.", registry=registry
        )
        self._waiting = self._gauge("mlspec_queue_depth", "Requests that wait.", registry)
        self._running = self._gauge("mlspec_in_flight", "Requests that are computed.", registry)

    def _make_for_model(self, plan: RuntimePlan, registry: CollectorRegistry) -> None:
        self._loaded = Gauge(
            "mlspec_model_loaded",
            "1 once the model is loaded.",
            _INFO,
            registry=registry,
            multiprocess_mode="mostrecent",
        ).labels(plan.service.name, plan.service.project, plan.service.target, plan.runner.name, plan.task)
        self._memory = Gauge(
            "mlspec_memory_bytes",
            "Memory of the model's framework by kind.",
            ("kind",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        told = "The computer's thermal pressure, 0 (nominal) to 4; -1: not known."
        self._thermal_level = self._gauge("mlspec_thermal_level", told, registry)
        self._low_power = self._gauge("mlspec_low_power", "1 in the low-power mode; -1: not known.", registry)
        self._admitted = self._gauge(
            "mlspec_admitted_concurrency", "Requests computed at once at most; 0: none is let in.", registry
        )

    def _make_for_steps(self, registry: CollectorRegistry) -> None:
        self._steps = Counter(
            "mlspec_decode_steps",
            "Steps that gave each row of a batch its next token and did nothing else, by rows.",
            ("rows",),
            registry=registry,
        )
        self._step_rows = Counter(
            "mlspec_decode_rows", "The rows of these steps; over the steps it is the mean batch.", registry=registry
        )
        self._step_s = Counter("mlspec_decode_seconds", "The time that these steps took.", registry=registry)
        self._events = Counter(
            "mlspec_runner_events", "What the runner counts, as adapters loaded.", ("event",), registry=registry
        )
        self._counted: dict[str, int] = {}

    def _make_for_calls(self, registry: CollectorRegistry) -> None:
        told = "Calls of a model of tensors that went well, by their rows: so many at most, and more than half of that."
        self._batches = Counter("mlspec_batches", told, ("rows",), registry=registry)
        # Known from the first look on, so that the first one is a change.
        self._batches.labels("1")
        self._batch_rows = Counter(
            "mlspec_batch_rows", "The rows of these calls; over the calls it is the mean batch.", registry=registry
        )
        self._batch_requests = Counter("mlspec_batch_requests", "The requests of these calls.", registry=registry)
        self._batch_s = Counter("mlspec_batch_seconds", "The time that these calls took.", registry=registry)

    def _make_for_response_cache(self, registry: CollectorRegistry) -> None:
        self._cache_requests = Counter(
            "mlspec_response_cache_requests",
            "Deterministic requests by what the response cache did: hit, miss, or joined (one that was in flight).",
            ("result",),
            registry=registry,
        )
        self._cache_entries = self._gauge("mlspec_response_cache_entries", "Answers in the cache.", registry)
        self._cache_bytes = self._gauge("mlspec_response_cache_bytes", "The size of these answers.", registry)
        # Known from the first look on, so that the first one is a change.
        for result in ("hit", "miss", "joined"):
            self._cache_requests.labels(result)

    def _make_for_process(self, registry: CollectorRegistry) -> None:
        self._ready = self._gauge("mlspec_ready", "1 while requests are taken, as /readyz answers.", registry)
        self._starts = Counter(
            "mlspec_process_starts",
            "Processes that began since the service was started; all but the first one replaced another.",
            registry=registry,
        )
        self._faults = Counter(
            "mlspec_faults", "Faults that only a new process mends, by code.", ("code",), registry=registry
        )
        for code in ("engine_dead", "engine_stuck"):
            self._faults.labels(code)

    def _gauge(self, name: str, told: str, registry: CollectorRegistry) -> Gauge:
        return Gauge(name, told, registry=registry, multiprocess_mode="mostrecent")

    def request(self, endpoint: str, status: int, took_s: float) -> None:
        """A request was answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._request_s.labels(endpoint).observe(took_s)

    def error(self, endpoint: str, code: str) -> None:
        """A request failed."""
        self._errors.labels(endpoint, code).inc()

    def computed(self, measures: Measures) -> None:
        """A request went through the model."""
        self._queue_s.observe(measures.queue_s)
        if measures.time_to_first_token_s is not None:
            self._first_token_s.observe(measures.time_to_first_token_s)
        if measures.time_per_token_s is not None:
            self._token_s.observe(measures.time_per_token_s)
        if measures.prompt_tokens:
            self._tokens.labels("prompt").inc(measures.prompt_tokens)
            self._tokens.labels("completion").inc(measures.completion_tokens)
        if measures.reused_tokens:
            self._tokens.labels("reused").inc(measures.reused_tokens)
            self._cache_hits.inc()

    def stats(self, stats: Stats) -> None:
        """The queue has changed. From any thread."""
        self._waiting.set(stats.waiting)
        self._running.set(stats.running)

    def heat(self, reading: Reading, admitted: int) -> None:
        """What was read, and how many requests are admitted at once because of it."""
        self._thermal_level.set(-1 if reading.level is None else reading.level)
        self._low_power.set(-1 if reading.low_power is None else int(reading.low_power))
        self._admitted.set(admitted)

    def vitals(self, vitals: Vitals) -> None:
        """What the runner told of itself at a look."""
        for kind, size_bytes in vitals.memory_bytes.items():
            self._memory.labels(kind).set(size_bytes)
        for pace in vitals.paces:
            self._steps.labels(str(pace.kind.rows)).inc(pace.steps)
            self._step_rows.inc(pace.tokens)
            self._step_s.inc(pace.seconds)
        for calls in vitals.calls:
            self._batches.labels(str(calls.most_rows)).inc(calls.calls)
            self._batch_rows.inc(calls.rows)
            self._batch_requests.inc(calls.requests)
            self._batch_s.inc(calls.seconds)
        for event, count in vitals.counts.items():
            self._events.labels(event).inc(max(0, count - self._counted.get(event, 0)))
            self._counted[event] = count

    def response_cache_hit(self) -> None:
        """A request was answered from the cache."""
        self._cached("hit")

    def response_cache_miss(self) -> None:
        """A request that the cache may keep was computed."""
        self._cached("miss")

    def response_cache_joined(self) -> None:
        """A request shares the answer of an equal one that is computed."""
        self._cached("joined")

    def _cached(self, result: Literal["hit", "miss", "joined"]) -> None:
        self._cache_requests.labels(result).inc()

    def response_cache_size(self, entries: int, size_bytes: int) -> None:
        """The cache has changed."""
        self._cache_entries.set(entries)
        self._cache_bytes.set(size_bytes)

    def started(self) -> None:
        """The process that serves has begun."""
        self._starts.inc()

    def fault(self, code: str) -> None:
        """The process can't compute any more."""
        self._faults.labels(code).inc()

    def ready(self, is_ready: bool) -> None:
        """What /readyz answers from now on."""
        self._ready.set(1 if is_ready else 0)

    def loaded(self, is_loaded: bool) -> None:
        self._loaded.set(1 if is_loaded else 0)
