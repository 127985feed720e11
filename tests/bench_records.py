"""Records of measurements, made up, for what shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlspec.bench.measures import Level, ServiceFigures, Spread
from mlspec.bench.record import Asked, Record, Subject

GIB = 2**30


def level(concurrency: int, tokens_per_s: float | None, **changes: Any) -> Level:
    """A load of 32 requests that went well, unless changed."""
    made = Level(
        concurrency=concurrency,
        requests=32,
        answered=32,
        refused=0,
        seconds=20.0,
        requests_per_s=1.6,
        tokens=640,
        prompt_tokens=32 * 70,
        tokens_per_s=tokens_per_s,
        tokens_per_s_each=30.0,
        first_token_s=Spread(0.081, 0.138),
        per_token_s=Spread(0.02, 0.025),
        latency_s=Spread(1.36, 1.9),
        service=ServiceFigures(GIB, None, 0),
    )
    return replace(made, **changes)


def record(*levels: Level, asked: dict[str, Any] | None = None, **subject: Any) -> Record:
    """A record of a planned service on a Mac."""
    about: dict[str, Any] = {
        "spec": "specs/support.yaml",
        "name": "support",
        "project": "shop",
        "target": "studio",
        "task": "generate",
        "machine": "Mac Studio 2023, M2 Max, 64 GB",
        "computed_at_once": 8,
        "queue": 64,
        "footprint_bytes": 6 * GIB,
        "budget_bytes": 40 * GIB,
        "decode_tokens_per_s": (39.0, 52.0, 68.0),
    }
    how: dict[str, Any] = {
        "endpoint": "/predict/stream",
        "prompts": "prompts of 64 words",
        "max_tokens": 64,
        "requests": 32,
        "duration_s": None,
    }
    return Record(
        "2026-03-01T10:00:00+00:00", "0.4.0", Subject(**{**about, **subject}), Asked(**{**how, **(asked or {})}), levels
    )
