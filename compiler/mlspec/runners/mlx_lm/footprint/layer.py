"""The arrays that one decoder layer of mlx_lm makes while it reads a prompt, counted in elements.

The numbers before the widths are arrays of that width that live at once, measured by growing one width at a time of a
small llama and a small qwen3_moe (MLX 0.32.4 on a CPU); they are what the layer's code makes, less what MLX reuses.
"""

from __future__ import annotations

from mlspec.runners.mlx_lm.architecture import Architecture, Layers
from mlspec.runners.mlx_lm.footprint.load import Load

FUSED_HEAD_DIMS = (64, 72, 80, 96, 128)
"""For these Metal's attention keeps no scores (`steel_attention` in `mlx.metallib`). Its kernels for 192 and 256 are
used only where they are asked for, which mlx_lm doesn't do."""

SCAN_BLOCK = 256
SCAN_ARRAYS = 9
"""`ssm_attn` reads so many tokens at a time, with so many arrays of block times block a head (measured)."""


def activations(architecture: Architecture, load: Load, *, adapters: bool) -> int:
    """Elements of one token in one layer: the residual, norms and outputs (7 of the hidden size), then whatever is more
    of attention (queries projected, turned, scaled, computed, put in order; keys and values, unless they are quantized)
    and experts (tokens copied to each, and back). A dense layer's gate and up come so soon that they are there besides.
    """
    kept = max((group.kv_heads * (group.key_dim + group.value_dim) for group in architecture.keeps), default=0)
    attention = 6 * architecture.heads * architecture.head_dim + (0 if load.kv_bits else 3 * kept)
    gate_and_up = 2 * architecture.intermediate
    extra = architecture.intermediate + architecture.hidden if adapters else 0
    if architecture.experts is None:
        return 7 * architecture.hidden + attention + gate_and_up + extra
    sent = 3 * architecture.experts.active * architecture.hidden
    return 7 * architecture.hidden + max(attention, sent + gate_and_up) + extra


def scores(architecture: Architecture, load: Load) -> int:
    """Arrays of attention scores at once, of each head and of each token against each."""
    if any(group.cache == "latent" for group in architecture.keeps):
        return 2  # deepseek_v3 computes the rotary part's scores apart, whatever the kernel
    if load.accelerator != "metal":
        return 3 if architecture.sinks else 1  # with sinks they are put together, and cut out again
    fused = load.kv_bits is None and architecture.head_dim in FUSED_HEAD_DIMS
    return 0 if fused else 2


def span(architecture: Architecture, load: Load) -> int:
    """The most tokens that one looks back on in any layer."""
    return max((_span(group, load) for group in architecture.keeps), default=0)


def expansions(architecture: Architecture, load: Load) -> int:
    """Elements of the keys and values of one sequence that latent attention makes of what it keeps, one layer's."""
    latent = [group for group in architecture.keeps if group.cache == "latent"]
    sizes = [2 * (architecture.head_dim - group.value_dim) for group in latent]
    return load.context_length * architecture.heads * max(sizes, default=0)


def kept_inputs(architecture: Architecture) -> int:
    """Elements a token that convolutions hold on to while a prompt is read: what they keep is a view of all inputs."""
    return sum(group.count * _convolved(group, architecture.hidden) for group in architecture.keeps)


def _convolved(group: Layers, hidden: int) -> int:
    """Inputs a token: before a scan the last three are kept, by lfm2 the last two. Gated delta rules copy theirs; other
    kinds are not known.
    """
    if group.scan_heads:
        return (group.state_elements - group.state_float32) // 3
    return group.state_elements // 2 if group.cache == "state" and group.state_elements <= 4 * hidden else 0


def scan(architecture: Architecture, step: int) -> int:
    """Elements of one sequence in one layer with a state space, while `step` tokens of it are read."""
    block = min(step, SCAN_BLOCK)
    return max((_scan(group, step, block) for group in architecture.keeps), default=0)


def _scan(group: Layers, step: int, block: int) -> int:
    if not group.scan_heads:
        return 0
    return SCAN_ARRAYS * group.scan_heads * block * block + 8 * step * _convolved(group, 0)


def _span(group: Layers, load: Load) -> int:
    if group.cache in ("full", "latent"):
        return load.context_length
    if group.window is not None:
        return min(load.context_length, group.window - 1 + load.prefill_step)
    return 0
