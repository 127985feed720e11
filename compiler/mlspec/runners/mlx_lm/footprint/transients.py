"""What lives for a moment only while mlx_lm reads prompts or computes answers: the fullest of three moments.

Reading: the activations of about one decoder layer live at once, as MLX queues operations ahead of those that run; of
each prompt that is read so many tokens as `prefill_step` says. Attention scores, unless a fused kernel saves them.
Lining up: prompts of different lengths are shifted against each other, which copies their caches layer by layer.
Answering: logits, and caches that grow or lose a row.

How many arrays live at once was measured on a CPU (MLX 0.32.4, mlx_lm 0.32.2, `tests/benchmarks/footprint.py`). For
Metal these counts were never run by us: that its kernels are fused is read from MLX's sources and `mlx.metallib`, what
its queue holds is fitted to public peaks (`tests/test_footprint.py` names them). For CUDA the CPU's counts are assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.runners.mlx_lm.architecture import Architecture
from mlspec.runners.mlx_lm.footprint.cache import (
    STEP,
    kv_bytes_per_token,
    layer_bytes,
    plain_token_bytes,
    sequence_bytes,
    slots,
    slots_while_read,
    up,
)
from mlspec.runners.mlx_lm.footprint.layer import activations, expansions, kept_inputs, scan, scores, span
from mlspec.runners.mlx_lm.footprint.load import Load

PREFILL_ROWS = 8
"""Prompts that are read at once at most: the runtime's `prefill_batch_size`."""

METAL_AHEAD_LAYERS = 1.5
METAL_AHEAD_BYTES = 400 * 10**6
"""Metal's queue: ten command buffers (`MAX_ACTIVE_TASKS`), each closed at some 40 to 50 MB; less for small models."""

LINED_UP_LAYERS = 5
"""`BatchKVCache.finalize` shifts ten tensors at once, measured: the keys and values of five layers."""

LOGITS = 4
"""Logits, their logarithms, and what a sampler sorts and sums of them."""


@dataclass(frozen=True)
class Transients:
    """The most bytes of any moment, and what that moment is."""

    bytes: int
    rule: str


def transients(architecture: Architecture, load: Load, *, adapters: bool = False) -> Transients:
    """What comes on top of weights and caches at the fullest moment; `adapters`: their products are computed, too."""
    moments = (
        Transients(reading_bytes(architecture, load, adapters=adapters), _reading_rule(load)),
        Transients(lining_up_bytes(architecture, load), "prompts of different lengths are shifted into line"),
        Transients(answering_bytes(architecture, load), "logits, and caches that grow or lose a row"),
    )
    return max(moments, key=lambda moment: moment.bytes)


def prompts_read(load: Load) -> int:
    """Prompts that are read at once. With a quantized cache each sequence is generated for itself."""
    return 1 if load.kv_bits else min(PREFILL_ROWS, load.concurrency)


def reading_bytes(architecture: Architecture, load: Load, *, adapters: bool) -> int:
    """While the last tokens of all prompts are read."""
    step = min(load.prefill_step, load.context_length)
    layer = step * activations(architecture, load, adapters=adapters) * load.element_bytes
    one = layer + _queued_bytes(load, prompts_read(load) * layer) // prompts_read(load)
    one += expansions(architecture, load) * load.element_bytes
    one += scan(architecture, step) * load.element_bytes + step * kept_inputs(architecture) * load.element_bytes
    scored = one + step * _scores_bytes(architecture, load, span(architecture, load))
    rows = prompts_read(load)
    return rows * max(scored + _windows_bytes(architecture, load), one + _first_step_bytes(architecture, load))


def lining_up_bytes(architecture: Architecture, load: Load) -> int:
    """While prompts that differ in length, and have been read, are brought into line."""
    if prompts_read(load) == 1:
        return 0
    layers = [layer_bytes(group, load) for group in architecture.keeps for _ in range(group.count)]
    return prompts_read(load) * sum(sorted(layers)[-LINED_UP_LAYERS:])


def answering_bytes(architecture: Architecture, load: Load) -> int:
    """While the next tokens are computed. Once sequences have come and gone a cache's room is no longer a whole number
    of steps, but anything up to one step more; what goes to the prompt cache is copied out of the batch.
    """
    logits = LOGITS * load.concurrency * architecture.vocabulary * load.element_bytes
    copied = load.concurrency * max((layer_bytes(group, load) for group in architecture.keeps), default=0)
    room = load.concurrency * STEP * kv_bytes_per_token(architecture, load)
    return logits + copied + room + (sequence_bytes(architecture, load) if load.prompt_cache_bytes else 0)


def _queued_bytes(load: Load, layer_bytes: int) -> int:
    """What Metal's queue holds beyond the layer that runs."""
    return min(METAL_AHEAD_BYTES, int(METAL_AHEAD_LAYERS * layer_bytes)) if load.accelerator == "metal" else 0


def _scores_bytes(architecture: Architecture, load: Load, length: int) -> int:
    """Of one token against `length` others: in each head a number, and twice a mask (`create_causal_mask`)."""
    return length * (architecture.heads * scores(architecture, load) * load.element_bytes + 2)


def _windows_bytes(architecture: Architecture, load: Load) -> int:
    """What windows hold of one sequence while they are read beyond what they hold later."""
    return sum(
        group.count * (slots_while_read(group, load) - slots(group, load)) * plain_token_bytes(group, load)
        for group in architecture.keeps
    )


def _first_step_bytes(architecture: Architecture, load: Load) -> int:
    """`generate_step` quantizes a cache after the first step: until then there is a plain one."""
    step = min(load.prefill_step, load.context_length)
    scored = step * _scores_bytes(architecture, load, step)
    if not load.kv_bits:
        return scored
    plain = sum(group.count * plain_token_bytes(group, load) for group in architecture.keeps)
    return scored + up(step, STEP) * (plain - kv_bytes_per_token(architecture, load))


def _reading_rule(load: Load) -> str:
    rows = prompts_read(load)
    prompts = "one prompt is" if rows == 1 else f"{rows} prompts are"
    return f"activations while {prompts} read, {min(load.prefill_step, load.context_length)} tokens at a time"
