"""What a load's samples say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlspec.bench.samples import Sample, percentile


@dataclass(frozen=True)
class Spread:
    """The middle and the slow end of some times, in seconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class ServiceFigures:
    """What the service told of itself at the end of a load; None where it tells nothing of it.

    `peak_memory_bytes` is the most that its framework held since it started, `thermal_level` the computer's now,
    `cache_hits` answers that came from the response cache during the load.
    """

    peak_memory_bytes: int | None = None
    thermal_level: int | None = None
    cache_hits: int | None = None


@dataclass(frozen=True)
class Level:
    """A load at one concurrency. Times and tokens are those of whole answers; `errors` counts the others by code.

    `tokens_per_s` is over all clients, from the first request's begin to the last one's end; `tokens_per_s_each` is
    what the middle request had of it, its waiting included. `refused` were told to come again later; of `bursts`, whole
    answers, most pieces came together.
    """

    concurrency: int
    requests: int
    answered: int
    refused: int
    seconds: float
    requests_per_s: float
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens_per_s: float | None = None
    tokens_per_s_each: float | None = None
    first_token_s: Spread | None = None
    per_token_s: Spread | None = None
    latency_s: Spread | None = None
    errors: Mapping[str, int] = field(default_factory=dict)
    service: ServiceFigures = field(default_factory=ServiceFigures)
    interrupted: bool = False
    bursts: int = 0

    @property
    def throughput(self) -> float:
        """Tokens a second, or requests a second of a model that makes no tokens."""
        return self.requests_per_s if self.tokens_per_s is None else self.tokens_per_s

    @property
    def errors_told(self) -> str:
        """`5 queue_full, 1 timeout`."""
        return ", ".join(f"{count} {code}" for code, count in self.errors.items())


def level_of(
    samples: Sequence[Sample], concurrency: int, service: ServiceFigures, *, interrupted: bool = False
) -> Level:
    """Sum a load up. Hits of the response cache are counted in the answers where the service's metrics don't tell."""
    whole = [sample for sample in samples if not sample.error]
    begin = min((sample.started_s for sample in samples), default=0.0)
    seconds = max((sample.ended_s for sample in samples), default=0.0) - begin
    tokens = sum(sample.tokens for sample in whole)
    hits = service.cache_hits if service.cache_hits is not None else sum(sample.from_cache for sample in whole)
    return Level(
        concurrency=concurrency,
        requests=len(samples),
        answered=len(whole),
        refused=sum(is_refusal(sample) for sample in samples),
        seconds=seconds,
        requests_per_s=len(whole) / seconds if seconds else 0.0,
        tokens=tokens,
        prompt_tokens=sum(sample.prompt_tokens for sample in whole),
        cached_tokens=sum(sample.cached_tokens for sample in whole),
        tokens_per_s=tokens / seconds if tokens and seconds else None,
        tokens_per_s_each=_middle(sample.tokens / sample.latency_s for sample in whole if sample.tokens),
        first_token_s=_spread(sample.time_to_first_token_s for sample in whole),
        per_token_s=_spread(sample.time_per_output_token_s for sample in whole),
        latency_s=_spread(sample.latency_s for sample in whole),
        errors=dict(sorted(Counter(sample.error for sample in samples if sample.error).items())),
        service=ServiceFigures(service.peak_memory_bytes, service.thermal_level, hits),
        interrupted=interrupted,
        bursts=sum(sample.came_in_bursts for sample in whole),
    )


def is_refusal(sample: Sample) -> bool:
    """Whether the service had no room: 429, or 503 with the time to come again."""
    return sample.status == 429 or (sample.status == 503 and sample.retry_after_s is not None)


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(percentile(known, 50), percentile(known, 95)) if known else None


def _middle(values: Iterable[float]) -> float | None:
    known = list(values)
    return percentile(known, 50) if known else None
