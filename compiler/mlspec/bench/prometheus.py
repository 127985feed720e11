"""The few of a service's metrics that belong beside a load's figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from mlspec.bench.measures import ServiceFigures
from mlspec.serving import ask

_LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*(?:\{[^}]*\})?) (?P<value>\S+)(?: \d+)?$", re.ASCII | re.MULTILINE)
_PEAK = 'mlspec_memory_bytes{kind="peak"}'
_THERMAL = "mlspec_thermal_level"
_HITS = ('mlspec_response_cache_requests_total{result="hit"}', 'mlspec_response_cache_requests_total{result="joined"}')
_CACHE = "mlspec_response_cache_entries"


class Watched:
    """The metrics of the service at a URL, from when this was made on. A service without any tells nothing."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._hits_before = _hits(self._now())

    def figures(self) -> ServiceFigures:
        """What they say now."""
        told = self._now()
        peak, thermal, before, hits = told.get(_PEAK), told.get(_THERMAL), self._hits_before, _hits(told)
        return ServiceFigures(
            peak_memory_bytes=None if peak is None else int(peak),
            thermal_level=None if thermal is None or thermal < 0 else int(thermal),
            cache_hits=None if hits is None or before is None else int(hits - before),
        )

    def _now(self) -> Mapping[str, float]:
        answer = ask(f"{self._url}/metrics", timeout_s=10)
        return read(answer.body) if answer and answer.status == 200 and isinstance(answer.body, str) else {}


def read(text: str) -> dict[str, float]:
    """Each series of the text format with its value, as far as it is a finite number."""
    found = ((match["name"], _number(match["value"])) for match in _LINE.finditer(text))
    return {name: value for name, value in found if math.isfinite(value)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _hits(told: Mapping[str, float]) -> float | None:
    """None where the service has no response cache: then its answers tell, if anything does."""
    return sum(told.get(name, 0.0) for name in _HITS) if _CACHE in told else None
