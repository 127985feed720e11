"""The machines that were tried, as JSON data."""

from __future__ import annotations

from typing import Any

from mlspec.reporting.plan.records import VERSION, machine_record, memory_record
from mlspec.reporting.plan.serving_machines import Candidate, decided
from mlspec.reporting.plan.serving_summary import unknown


def as_document(spec: str, target: str | None, candidates: list[Candidate]) -> dict[str, Any]:
    """What `mlspec plan --machines --output-format json` prints; see schema/plan-report.schema.json."""
    fitting = [candidate for candidate in candidates if candidate.fits]
    return {
        "version": VERSION,
        "spec": spec,
        "target": target,
        "smallest": fitting[0].title if fitting else None,
        "machines": [_record(candidate) for candidate in candidates],
    }


def _record(candidate: Candidate) -> dict[str, Any]:
    plan = candidate.plan
    return {
        "title": candidate.title,
        "fits": candidate.fits,
        "why": unknown(candidate) if candidate.fits is None else candidate.why,
        "machine": machine_record(candidate.machine),
        "memory": memory_record(plan.memory) if plan else None,
        "quantization": decided(plan, "model.quantization") if plan else None,
        "concurrency": decided(plan, "service.concurrency") if plan else None,
        "context_length": decided(plan, "model.context_length") if plan else None,
        "decode_tokens_per_s": list(plan.speed.decode_tokens_per_s) if plan and plan.speed else None,
    }
