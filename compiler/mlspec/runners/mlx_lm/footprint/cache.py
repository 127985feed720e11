"""What mlx_lm (0.32.2, `models/cache.py`) keeps of each sequence, in bytes."""

from __future__ import annotations

from mlspec.runners.mlx_lm.architecture import Architecture, Layers
from mlspec.runners.mlx_lm.footprint.load import Load

STEP = 256
"""Caches grow by so many tokens at a time (`KVCache.step`)."""

GROUP = 64
"""Elements of a quantized cache that share a scale and a bias."""


def kv_bytes(architecture: Architecture, load: Load) -> int:
    """What the layers keep of all sequences when each has reached the context length, between two steps.

    In a batch whose sequences came at different times the room for each may be up to one step of tokens larger.
    """
    return load.concurrency * sequence_bytes(architecture, load)


def sequence_bytes(architecture: Architecture, load: Load) -> int:
    """What the layers keep of one sequence of the context length."""
    return sum(group.count * layer_bytes(group, load) for group in architecture.keeps)


def kv_bytes_per_token(architecture: Architecture, load: Load) -> int:
    """What one sequence takes more for a token more, once it is longer than any window."""
    growing = (group for group in architecture.keeps if group.cache in ("full", "latent"))
    return round(sum(group.count * _token_bytes(group, load) for group in growing))


def kv_quantizable(architecture: Architecture) -> bool:
    """Whether mlx_lm can quantize this model's cache: it has whole keys and values in groups of 64, and no windows
    (`RotatingKVCache.to_quantized` raises) nor latent attention (which reads the cache itself).
    """
    kinds = {group.cache for group in architecture.keeps}
    whole = [group for group in architecture.keeps if group.cache == "full"]
    even = all(group.key_dim % GROUP == 0 and group.value_dim % GROUP == 0 for group in whole)
    return bool(whole) and even and kinds <= {"full", "state", "none"}


def layer_bytes(group: Layers, load: Load) -> int:
    """What one layer of the group keeps of one sequence of the context length."""
    if group.cache == "state":
        return group.state_elements * load.element_bytes + group.state_float32 * (4 - load.element_bytes)
    return round(slots(group, load) * _token_bytes(group, load))


def slots(group: Layers, load: Load) -> int:
    """Tokens that there is room for in one layer of the group, after the last one: whole steps, or a window's size."""
    grown = up(load.context_length, STEP)
    if group.cache == "window":
        return min(grown, group.window or grown)
    if group.cache == "chunked":
        return min(grown, up((group.window or grown) + load.prefill_step, STEP))
    return grown


def slots_while_read(group: Layers, load: Load) -> int:
    """The same while the last tokens of a prompt are read: a window then holds what any of them looks back on
    (`RotatingKVCache._update_concat`).
    """
    if group.cache == "window" and group.window:
        return max(slots(group, load), min(load.context_length, group.window - 1 + load.prefill_step))
    return slots(group, load)


def plain_token_bytes(group: Layers, load: Load) -> int:
    """What one layer keeps of one token without quantization."""
    return group.kv_heads * (group.key_dim + group.value_dim) * load.element_bytes


def up(count: int, step: int) -> int:
    """`count`, rounded up to whole steps."""
    return -(-count // step) * step


def _token_bytes(group: Layers, load: Load) -> float:
    plain = plain_token_bytes(group, load)
    if group.cache != "full" or load.kv_bits is None:
        return plain
    # Packed bits, and of each group a scale and a bias in the type of the activations.
    quantized = load.kv_bits / 8 + 2 * load.element_bytes / GROUP
    return plain * quantized / load.element_bytes
