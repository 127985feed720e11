"""An adapter that doesn't fit its base is told at build, by the tensor that shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facts import looked_at
from facts.small_configs import CONFIGS
from mlspec.model.facts import ModelFacts
from mlspec.model.spec import Source

Shapes = list[tuple[str, tuple[str, tuple[int, ...]]]]
Q, K = "self_attn.q_proj", "self_attn.k_proj"
LORA = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": 8, "scale": 2.0}}


def layer(number: int, bits: int | None = None) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    shapes = {Q: (192, 128), K: (96, 128), "self_attn.v_proj": (96, 128), "self_attn.o_proj": (128, 192)}
    shapes |= {"mlp.gate_proj": (192, 128), "mlp.up_proj": (192, 128), "mlp.down_proj": (128, 192)}
    for name, (rows, columns) in shapes.items():
        module = f"model.layers.{number}.{name}"
        if bits is None:
            yield f"{module}.weight", ("BF16", (rows, columns))
            continue
        yield f"{module}.weight", ("U32", (rows, columns * bits // 32))
        yield f"{module}.scales", ("BF16", (rows, columns // 64))
        yield f"{module}.biases", ("BF16", (rows, columns // 64))
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"model.layers.{number}.{name}.weight", ("BF16", (128,))


def llama(bits: int | None = None) -> Shapes:
    """Four layers, 128 wide, four heads of 48, two of keys."""
    tensors = [tensor for number in range(4) for tensor in layer(number, bits)]
    ends = [("model.embed_tokens.weight", ("BF16", (320, 128))), ("lm_head.weight", ("BF16", (320, 128)))]
    return [*tensors, *ends, ("model.norm.weight", ("BF16", (128,)))]


def low_rank(module: str = Q, number: int = 3, columns: int = 128, rows: int = 192, rank: int = 8) -> Shapes:
    name = f"model.layers.{number}.{module}"
    return [(f"{name}.lora_a", ("F32", (columns, rank))), (f"{name}.lora_b", ("F32", (rank, rows)))]


def on(module: str, first: int, second: int, rank: int = 8) -> Shapes:
    return [(f"{module}.lora_a", ("F32", (first, rank))), (f"{module}.lora_b", ("F32", (rank, second)))]


@pytest.fixture
def base(tmp_path: Path) -> ModelFacts:
    facts, heard = looked_at.base(tmp_path / "base", CONFIGS["llama"], llama())
    assert facts is not None
    assert not heard.all
    return facts


@pytest.fixture
def packed(tmp_path: Path) -> ModelFacts:
    config = {**CONFIGS["llama"], "quantization": {"group_size": 64, "bits": 4}}
    facts, heard = looked_at.base(tmp_path / "packed", config, llama(4))
    assert facts is not None
    assert not heard.all
    return facts


def reason(base: ModelFacts, folder: Path, tensors: Shapes, source: Source | None = None, **config: Any) -> str | None:
    return looked_at.misfit(base, looked_at.adapter(folder / "adapter", LORA | config, tensors), source)


def test_one_that_fits(base: ModelFacts, packed: ModelFacts, tmp_path: Path) -> None:
    for own in (base, packed):
        assert (
            reason(own, tmp_path, [*low_rank(), *low_rank(K, 0, rows=96), *low_rank("mlp.down_proj", 2, 192, 128)])
            is None
        )


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            low_rank(number=4),
            "its tensor 'model.layers.4.self_attn.q_proj.lora_a' is of layer 4, the base's last layer is 3",
        ),
        (
            low_rank("self_attn.qkv_proj", 1),
            "the base has no module 'model.layers.1.self_attn.qkv_proj' for its tensor "
            "'model.layers.1.self_attn.qkv_proj.lora_a'",
        ),
        (
            low_rank(columns=96),
            "its tensor 'model.layers.3.self_attn.q_proj.lora_a' is 96 x 8, the base and the rank in its configuration "
            "want 128 x 8",
        ),
        (
            low_rank(rows=96),
            "its tensor 'model.layers.3.self_attn.q_proj.lora_b' is 8 x 96, the base and the rank in its configuration "
            "want 8 x 192",
        ),
        (
            low_rank(rank=16),
            "its tensor 'model.layers.3.self_attn.q_proj.lora_a' is 128 x 16, the base and the rank in its "
            "configuration want 128 x 8",
        ),
        (
            on("model.layers.0.input_layernorm", 128, 128),
            "its tensor 'model.layers.0.input_layernorm.lora_a' adapts a tensor of one dimension: "
            "mlx_lm adapts matrices",
        ),
        (
            on("lm_head", 320, 128),
            "its tensor 'lm_head.lora_a' is 320 x 8, the base and the rank in its configuration want 128 x 8",
        ),
        (on("lm_head", 128, 320), None),
        (on("model.embed_tokens", 320, 128), None),
        (
            on("model.layers.0.self_attn.q_proj.inner", 128, 192),
            "the base has no module 'model.layers.0.self_attn.q_proj.inner' for its tensor "
            "'model.layers.0.self_attn.q_proj.inner.lora_a'",
        ),
        (
            [("model.layers.0.self_attn.q_proj.lora_a", ("F32", (1024,))), *low_rank()],
            "its tensor "
            "'model.layers.0.self_attn.q_proj.lora_a' is 1024, the base and the rank in its configuration want 128 x 8",
        ),
    ],
)
def test_the_tensor_is_named(
    base: ModelFacts, packed: ModelFacts, tmp_path: Path, tensors: Shapes, told: str | None
) -> None:
    """Of a quantized base, too: its words stand for as many weights."""
    for own in (base, packed):
        assert reason(own, tmp_path, tensors) == told


def test_layers_are_told_first(base: ModelFacts, tmp_path: Path) -> None:
    tensors = [tensor for number in range(32) for tensor in low_rank("self_attn.qkv", number)]
    told = reason(base, tmp_path, tensors)
    assert told == "its tensor 'model.layers.4.self_attn.qkv.lora_a' is of layer 4, the base's last layer is 3"


def test_dora(base: ModelFacts, tmp_path: Path) -> None:
    magnitudes = lambda size: [*low_rank(), (f"model.layers.3.{Q}.m", ("F32", (size,)))]  # noqa: E731
    assert reason(base, tmp_path, magnitudes(192), fine_tune_type="dora") is None
    told = reason(base, tmp_path, magnitudes(128), fine_tune_type="dora")
    assert told == "its tensor 'model.layers.3.self_attn.q_proj.m' is 128, the base wants 192"


def test_full(base: ModelFacts, packed: ModelFacts, tmp_path: Path) -> None:
    weight = lambda *shape: [(f"model.layers.1.{Q}.weight", ("BF16", shape))]  # noqa: E731
    assert reason(base, tmp_path, weight(192, 128), fine_tune_type="full") is None
    told = "its tensor 'model.layers.1.self_attn.q_proj.weight' is 128 x 128, the base wants 192 x 128"
    assert reason(base, tmp_path, weight(128, 128), fine_tune_type="full") == told
    told = "its tensor 'model.layers.1.self_attn.q_proj.weight' is 192 x 128, the base wants 192 x 16"
    assert reason(packed, tmp_path, weight(192, 128), fine_tune_type="full") == told
    bias: Shapes = [("model.layers.1.self_attn.q_proj.bias", ("BF16", (192,)))]
    told = "the base has no tensor 'model.layers.1.self_attn.q_proj.bias'"
    assert reason(base, tmp_path, bias, fine_tune_type="full") == told


@pytest.mark.parametrize(
    ("keys", "strange"),
    [
        ([Q, K], None),
        (["lm_head", "model.embed_tokens", "model.layers.3.self_attn.q_proj"], None),
        ([Q, "self_attn.qkv_proj"], "self_attn.qkv_proj"),
        (["q_proj"], "q_proj"),
        (["self_attn"], "self_attn"),
    ],
)
def test_keys(base: ModelFacts, tmp_path: Path, keys: list[str], strange: str | None) -> None:
    told = reason(base, tmp_path, low_rank(), lora_parameters={"rank": 8, "scale": 2.0, "keys": keys})
    wanted = strange and f"its lora_parameters name the module '{strange}', which no layer of the base has"
    assert told == wanted


@pytest.mark.parametrize(
    ("trained_on", "base_name", "fits"),
    [
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B", True),
        ("mlx-community/Qwen3-4B-4bit", "Qwen/Qwen3-4B", True),
        ("mlx-community/Qwen3-4B-4bit-DWQ", "mlx-community/qwen3-4b-MLX-8bit", True),
        ("lmstudio-community/Qwen3-4B-MLX-bf16", "Qwen/Qwen3-4B", True),
        ("mlx-community/gpt-oss-20b-MXFP4-Q8", "openai/gpt-oss-20b", True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-4B", False),
        ("Qwen/Qwen3-4B-Instruct", "Qwen/Qwen3-4B", False),
        ("/home/somebody/models/Qwen3-8B", "Qwen/Qwen3-4B", True),
        ("models/Qwen3-8B", "Qwen/Qwen3-4B", True),
        ("./Qwen3-8B", "Qwen/Qwen3-4B", True),
        ("../a/b", "Qwen/Qwen3-4B", True),
        ("C:\\models\\b", "Qwen/Qwen3-4B", True),
        (17, "Qwen/Qwen3-4B", True),
        ("Qwen/Qwen3-8B", None, True),
    ],
)
def test_another_base(base: ModelFacts, tmp_path: Path, trained_on: Any, base_name: str | None, fits: bool) -> None:
    source = Source(hf=base_name, revision="0" * 40) if base_name else Source(path="x")
    told = reason(base, tmp_path, low_rank(), source, model=trained_on)
    wanted = f"its configuration says that it was trained on '{trained_on}', the spec's base is '{base_name}'"
    assert told == (None if fits else wanted)


def test_no_path_of_this_computer_becomes_a_fact(tmp_path: Path) -> None:
    config = {**LORA, "model": str(tmp_path / "base"), "data": str(tmp_path), "adapter_path": "/home/x"}
    facts = looked_at.adapter(tmp_path / "a", config, low_rank())
    assert facts.details["base_model"] is None
    assert str(tmp_path) not in str(facts.details)
    assert "/home" not in str(facts.details)


def test_a_family_that_is_not_known(tmp_path: Path) -> None:
    """Its modules may have other names in mlx_lm: what is there must fit, what isn't says nothing."""
    facts, heard = looked_at.base(tmp_path / "base", {**CONFIGS["llama"], "model_type": "new"}, llama())
    assert facts is not None
    assert [code for _, code, _, _ in heard.all] == ["unknown-family"]
    assert reason(facts, tmp_path, low_rank("self_attn.qkv_proj")) is None
    assert reason(facts, tmp_path, low_rank(rows=96)) is not None
    assert reason(facts, tmp_path, low_rank(number=4)) is not None


def test_experts_of_a_published_model(tmp_path: Path) -> None:
    """On the hub experts lie one by one; an adapter has them as mlx_lm does."""
    experts: Shapes = [
        (f"model.layers.{n}.block_sparse_moe.experts.{e}.{name}.weight", ("BF16", shape))
        for n in range(4)
        for e in range(4)
        for name, shape in (("w1", (192, 128)), ("w2", (128, 192)), ("w3", (192, 128)))
    ]
    shared = [tensor for tensor in llama() if ".mlp." not in tensor[0]]
    facts, heard = looked_at.base(
        tmp_path / "base", {**CONFIGS["mixtral"], "num_key_value_heads": 3}, [*shared, *experts]
    )
    assert facts is not None
    assert not heard.all
    module = "model.layers.1.block_sparse_moe.switch_mlp.down_proj"
    fitting: Shapes = [(f"{module}.lora_a", ("F32", (4, 8, 192))), (f"{module}.lora_b", ("F32", (4, 128, 8)))]
    assert reason(facts, tmp_path, fitting) is None
    five: Shapes = [(f"{module}.lora_a", ("F32", (5, 8, 192))), (f"{module}.lora_b", ("F32", (4, 128, 8)))]
    assert reason(facts, tmp_path, five) == (
        f"its tensor '{module}.lora_a' is 5 x 8 x 192, the base and the rank in its configuration want 4 x 8 x 192"
    )
