"""The predicted memory of language models: by hand, by public figures, and in its directions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.runners.mlx_lm.architecture import Architecture, Experts, Layers
from mlspec.runners.mlx_lm.footprint import footprint, kv_bytes, kv_bytes_per_token, kv_quantizable
from mlspec.runners.mlx_lm.footprint.load import Load
from models.shapes import SHAPES

KIB, MIB = 2**10, 2**20
GB = 10**9


def _model(hidden: int, heads: int, head_dim: int, width: int, vocabulary: int, *keeps: Layers) -> Architecture:
    layers = sum(group.count for group in keeps)
    return Architecture(True, layers, hidden, heads, head_dim, width, vocabulary, 0, 0, keeps)


LLAMA_8B = _model(4096, 32, 128, 14336, 128256, Layers(32, "full", 8, 128, 128))
MISTRAL_7B = _model(4096, 32, 128, 14336, 32768, Layers(32, "full", 8, 128, 128))
QWEN3_4B = _model(2560, 32, 128, 9728, 151936, Layers(36, "full", 8, 128, 128))
QWEN3_30B_A3B = replace(
    _model(2048, 32, 128, 8 * 768, 151936, Layers(48, "full", 4, 128, 128)), experts=Experts(128, 8)
)
DEEPSEEK_V3 = replace(
    _model(7168, 128, 128 + 64, 18432, 129280, Layers(61, "latent", 1, 512, 64)), experts=Experts(256, 8)
)
GEMMA3_27B = _model(
    5376, 32, 128, 21504, 262208, Layers(52, "window", 16, 128, 128, window=1024), Layers(10, "full", 16, 128, 128)
)
ONE = Load(1, 4096, 2048, 2, "metal")


def _peak(shape: Architecture, weights: float, load: Load) -> float:
    return sum(part.bytes for part in footprint(shape, int(weights), 0, load) if part.name != "runtime")


def _prefill(shape: Architecture, load: Load) -> int:
    return next(part.bytes for part in footprint(shape, 0, 0, load) if part.name == "prefill")


def test_llama_3_1_8b_keeps_128_kib_a_token() -> None:
    assert kv_bytes_per_token(LLAMA_8B, ONE) == 128 * KIB
    assert kv_bytes(LLAMA_8B, ONE) == 4096 * 128 * KIB
    assert kv_bytes(LLAMA_8B, replace(ONE, element_bytes=4)) == 4096 * 256 * KIB


@pytest.mark.parametrize(("bits", "share"), [(8, 0.53125), (4, 0.28125)])
def test_a_quantized_cache_takes_its_share_of_a_plain_one(bits: int, share: float) -> None:
    assert kv_bytes(LLAMA_8B, replace(ONE, kv_bits=bits)) == share * kv_bytes(LLAMA_8B, ONE)
    assert kv_bytes_per_token(LLAMA_8B, replace(ONE, kv_bits=bits)) == share * 128 * KIB


def test_latent_attention_keeps_the_rank_and_the_rotary_part() -> None:
    assert kv_bytes_per_token(DEEPSEEK_V3, ONE) == 61 * 576 * 2


def test_windows_bound_what_is_kept() -> None:
    whole = 10 * 2 * 16 * 128 * 2
    windows = 52 * 1024 * 2 * 16 * 128 * 2
    assert kv_bytes_per_token(GEMMA3_27B, ONE) == whole
    assert kv_bytes(GEMMA3_27B, replace(ONE, context_length=32768)) == 32768 * whole + windows
    assert kv_bytes(GEMMA3_27B, replace(ONE, context_length=512)) == 512 * (whole + windows // 1024)


def test_states_are_of_one_size_and_their_float32_part_stays_so() -> None:
    shape = _model(512, 8, 64, 1536, 4096, Layers(3, "state", state_elements=1000, state_float32=900))
    short, long = ONE, replace(ONE, context_length=100_000)
    assert kv_bytes(shape, short) == kv_bytes(shape, long) == 3 * (100 * 2 + 900 * 4)
    assert kv_bytes_per_token(shape, long) == 0


def test_caches_grow_by_256_tokens() -> None:
    sizes = [kv_bytes(LLAMA_8B, replace(ONE, context_length=length)) for length in (1, 256, 257, 512, 513)]
    assert [size // (128 * KIB) for size in sizes] == [256, 256, 512, 512, 768]


def test_chunked_attention_keeps_a_chunk_and_what_was_read_last() -> None:
    shape = _model(512, 8, 64, 1536, 4096, Layers(1, "chunked", 1, 64, 64, window=8192))
    assert kv_bytes(shape, replace(ONE, context_length=100_000)) == (8192 + 2048) * 128 * 2


# Peaks that others measured on Macs; weights are parameters at the bits a weight of that quantization.
PUBLIC_PEAKS = {
    # mlx_lm/BENCHMARKS.md (mlx_lm 0.28.2, mlx 0.29.2, M4 Max): 2048 tokens read, 128 answered
    "Qwen3-4B bf16": (QWEN3_4B, 4.022e9 * 2, 2176, 9.02),
    "Qwen3-4B 8 bit": (QWEN3_4B, 4.022e9 * 8.5 / 8, 2176, 5.254),
    "Qwen3-4B 4 bit": (QWEN3_4B, 4.022e9 * 4.5 / 8, 2176, 3.35),
    "Qwen3-30B-A3B 8 bit": (QWEN3_30B_A3B, 30.53e9 * 8.5 / 8, 2176, 33.46),
    "Qwen3-30B-A3B 4 bit": (QWEN3_30B_A3B, 30.53e9 * 4.5 / 8, 2176, 18.20),
    # github.com/ml-explore/mlx-lm/pull/40 (M2 Ultra): 33898 tokens read
    "Mistral 7B 4 bit": (MISTRAL_7B, 7.248e9 * 4.5 / 8, 33998, 9.111),
}


@pytest.mark.parametrize("name", PUBLIC_PEAKS)
def test_peaks_on_metal_are_those_that_others_measured(name: str) -> None:
    shape, weights, context, peak = PUBLIC_PEAKS[name]
    assert _peak(shape, weights, replace(ONE, context_length=context)) == pytest.approx(peak * GB, rel=0.06)


def test_latent_attention_on_metal_grows_with_the_context_as_others_measured() -> None:
    # github.com/ml-explore/mlx-lm/pull/839: DeepSeek-V3 took 383.213 GB at 4096 tokens, 398.605 at 16384
    at = [_peak(DEEPSEEK_V3, 0, replace(ONE, context_length=length)) for length in (4096, 16384)]
    assert at[1] - at[0] == pytest.approx((398.605 - 383.213) * GB, rel=0.06)


def test_a_fused_kernel_keeps_no_scores() -> None:
    fused, other = (replace(LLAMA_8B, head_dim=size, heads=4096 // size) for size in (128, 256))
    scores = 2 * 16 * 2048 * 4096 * 2
    assert _prefill(other, ONE) - _prefill(fused, ONE) == scores
    on_cpu = replace(ONE, accelerator="cpu")
    assert _prefill(fused, on_cpu) > 32 * 2048 * 4096 * 2
    assert _prefill(fused, replace(ONE, kv_bits=8)) > 2 * 32 * 2048 * 4096 * 2


def test_eight_prompts_are_read_at_once_at_most() -> None:
    eight, more = (_prefill(LLAMA_8B, replace(ONE, concurrency=count)) for count in (8, 12))
    assert eight == more > _prefill(LLAMA_8B, replace(ONE, concurrency=7))


def test_one_prompt_is_read_at_once_if_the_cache_is_quantized() -> None:
    one, many = (_prefill(LLAMA_8B, replace(ONE, kv_bits=8, concurrency=count)) for count in (1, 4))
    assert one == many


def test_short_steps_leave_lining_prompts_up_as_the_fullest_moment() -> None:
    parts = footprint(LLAMA_8B, 0, 0, replace(ONE, concurrency=4, prefill_step=64))
    assert "shifted into line" in next(part.rule for part in parts if part.name == "prefill")
    assert _prefill(LLAMA_8B, replace(ONE, concurrency=4, prefill_step=64)) == 4 * 5 * 4096 * 4 * KIB


def test_the_parts_are_named_and_what_is_given_is_counted() -> None:
    parts = footprint(LLAMA_8B, 7, 11, replace(ONE, prompt_cache_bytes=13))
    assert [part.name for part in parts] == ["weights", "adapters", "kv cache", "prompt cache", "prefill", "runtime"]
    assert [part.bytes for part in parts[:4]] == [7, 11, 4096 * 128 * KIB, 13]
    assert parts[5].bytes == 512 * MIB
    assert parts[2].rule == "what the layers keep of one sequence of 4096 tokens"
    assert all(isinstance(part.bytes, int) and part.rule for part in parts)


def test_which_caches_can_be_quantized() -> None:
    can = {name for name, shape in SHAPES.items() if kv_quantizable(shape.architecture)}
    assert can == {"grouped", "multi-head", "16-bit", "8-bit", "4-bit", "qwen3-moe", "lfm2", "falcon-h1"}
    assert not kv_quantizable(_model(512, 8, 80, 1536, 4096, Layers(1, "full", 8, 80, 80)))


LOADS = st.builds(
    Load,
    concurrency=st.integers(1, 40),
    context_length=st.integers(1, 200_000),
    prefill_step=st.sampled_from((64, 256, 512, 1000, 2048)),
    element_bytes=st.sampled_from((2, 4)),
    accelerator=st.sampled_from(("metal", "cpu", "cuda12")),
    kv_bits=st.sampled_from((None, 4, 8)),
    prompt_cache_bytes=st.sampled_from((0, GB)),
)
ALL = st.sampled_from([shape.architecture for shape in SHAPES.values()] + [LLAMA_8B, DEEPSEEK_V3, GEMMA3_27B])


@given(ALL, LOADS)
def test_more_of_anything_never_takes_less(shape: Architecture, load: Load) -> None:
    more = (
        replace(load, concurrency=load.concurrency + 1),
        replace(load, context_length=load.context_length + 300),
        replace(load, prefill_step=2 * load.prefill_step),
        replace(load, prompt_cache_bytes=load.prompt_cache_bytes + GB),
    )
    now = _peak(shape, 0, load)
    assert all(_peak(shape, 0, greater) >= now for greater in more)
    assert _peak(shape, 0, replace(load, concurrency=load.concurrency + 8)) > now


@given(ALL, LOADS)
def test_what_is_kept_is_near_what_the_tokens_take(shape: Architecture, load: Load) -> None:
    """Asymptotically so much a token a sequence, besides what doesn't grow."""
    far, farther = (replace(load, context_length=256 * steps) for steps in (4_000, 8_000))
    grown = kv_bytes(shape, farther) - kv_bytes(shape, far)
    expected = load.concurrency * 256 * 4_000 * kv_bytes_per_token(shape, load)
    assert math.isclose(grown, expected, rel_tol=1e-3)
