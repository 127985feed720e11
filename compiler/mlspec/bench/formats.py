"""Measured numbers for a person: three digits or so, and no more than were measured."""

from __future__ import annotations

from mlspec.bench.measures import Spread


def number(value: float | None) -> str:
    """`1,234`, `61.2`, `0.85`; nothing for None."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def milliseconds(spread: Spread | None) -> str:
    """`41.2 / 55.0`, p50 and p95."""
    return "" if spread is None else f"{number(spread.p50 * 1000)} / {number(spread.p95 * 1000)}"


def change(ratio: float) -> str:
    """`+12%` for 1.12."""
    return f"{ratio - 1:+.0%}"


def moment(measured_at: str) -> str:
    """`2026-03-01 10:00 UTC`."""
    return f"{measured_at[:16].replace('T', ' ')} UTC"
