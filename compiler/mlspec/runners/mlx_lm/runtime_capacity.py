"""How many requests fit into the memory of the computer that a bundle meets, which may have less than was planned."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from mlspec_runtime.errors import ServiceError

from .runtime_settings import PlannedMemory

LOG = logging.getLogger("mlspec.mlx_lm")
GIB = 1 << 30


@dataclass(frozen=True)
class Fit:
    """`concurrency` requests of the whole context fit, with so much for kept prefixes. `reason` is for people, empty
    where all is as planned.
    """

    concurrency: int
    prompt_cache_bytes: int
    reason: str = ""


def fit(planned: PlannedMemory, concurrency: int, prompt_cache_bytes: int, available_bytes: int | None) -> Fit:
    """What of the planned concurrency and prompt cache fits into what is available: first the prompt cache gets
    smaller, then the requests get fewer. Where either is unknown it is as planned. Raises ServiceError if not even one
    request fits: Metal would end the process in the middle of it.
    """
    fixed, each = planned.fixed_bytes, planned.request_bytes
    as_planned = Fit(concurrency, prompt_cache_bytes)
    if fixed is None or each is None or available_bytes is None:
        return as_planned
    total = fixed + concurrency * each
    # What each takes is rounded up.
    if total < available_bytes + concurrency:
        return as_planned
    least = max(0, fixed - prompt_cache_bytes)
    if least + each > available_bytes:
        raise _too_small(least + each, available_bytes)
    fitting = min(concurrency, (available_bytes - least) // each) if each else concurrency
    kept = min(prompt_cache_bytes, available_bytes - least - fitting * each) if fitting == concurrency else 0
    reason = f"this computer gives {gib(available_bytes)}, {gib(total)} were planned"
    reason += f"; {gib(kept)} of prefixes are kept, not {gib(prompt_cache_bytes)}" if prompt_cache_bytes else ""
    LOG.warning("%d of %d requests at once: %s", fitting, concurrency, reason)
    return Fit(fitting, kept, reason)


def gib(size_bytes: int) -> str:
    """A size as people are shown it."""
    return f"{size_bytes / GIB:.1f} GiB"


def _too_small(estimated_bytes: int, available_bytes: int) -> ServiceError:
    message = (
        f"one request of the whole context needs {gib(estimated_bytes)} ({estimated_bytes} bytes) with the model, this "
        f"computer gives {gib(available_bytes)} ({available_bytes} bytes); build for a machine with this memory"
    )
    return ServiceError("memory_too_small", message, 503)
