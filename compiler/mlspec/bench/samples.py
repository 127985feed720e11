"""What is asked of a service, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A POST of JSON: `body` as it is sent. `path` goes behind the service's URL."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sample:
    """One request's course, in seconds since the load began.

    `request` is its number among those given. `status` is 0 where no answer came. `chunks_s` are the times at which
    pieces of text arrived, one or more tokens each. `tokens` is what the service told, else the pieces counted.
    `error` is empty where the answer is whole: else the service's code, or one of ours: `unreachable`,
    `connection_lost`, `timeout`, `not_http`, `incomplete` (a stream that ended without its end), `http_STATUS`.
    """

    request: int
    status: int
    started_s: float
    ended_s: float
    chunks_s: tuple[float, ...] = ()
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    from_cache: bool = False
    text: str = ""
    error: str = ""
    retry_after_s: float | None = None

    @property
    def latency_s(self) -> float:
        """From the request's begin, connecting included, to the end of its answer."""
        return self.ended_s - self.started_s

    @property
    def first_token_s(self) -> float | None:
        """When the first piece of text came; None without any."""
        return self.chunks_s[0] if self.chunks_s else None

    @property
    def time_to_first_token_s(self) -> float | None:
        return self.chunks_s[0] - self.started_s if self.chunks_s else None

    @property
    def time_per_output_token_s(self) -> float | None:
        """From the first piece to the end, for each token after the first; None for answers of one token, and where all
        text came at once, which tells nothing of the time between tokens.
        """
        if not self.chunks_s or self.tokens < 2 or self.chunks_s[0] == self.chunks_s[-1]:
            return None
        return (self.ended_s - self.chunks_s[0]) / (self.tokens - 1)

    @property
    def came_in_bursts(self) -> bool:
        """Whether most pieces came in one read with the piece before, though each was sent as it was made."""
        return not self.from_cache and self.gaps_s.count(0.0) > len(self.gaps_s) / 2

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Between the pieces."""
        return tuple(after - before for before, after in zip(self.chunks_s, self.chunks_s[1:], strict=False))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of them don't exceed (the nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    rank = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(0, rank - 1)]
