"""The shape of models whose family is known, of those whose isn't, and of what is no model's configuration at all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from facts import looked_at
from facts.small_configs import CONFIGS
from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model.spec import Source
from mlspec.model_files import Tensor
from mlspec.runners.mlx_lm.architecture import Architecture, Experts, Layers
from mlspec.runners.mlx_lm.facts import base_details
from mlspec.runners.mlx_lm.families import architecture, family_of, shape_of
from mlspec.runners.mlx_lm.families.known import FAMILIES, REMAPPED
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import Row, below, covers, numbers, runs, size, table
from mlspec.runners.mlx_lm.weights import quantizable, weight_bytes

CONFIG = CONFIGS["llama"]


def tensors(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Tensors in bfloat16; `__` in a name stands for a dot."""
    found = {}
    for name, shape in shapes.items():
        elements = 1
        for length in shape:
            elements *= length
        found[name.replace("__", ".")] = Tensor("BF16", shape, 2 * elements)
    return found


def attention(layers: int, keys: str = "k_proj", values: str = "v_proj", **more: tuple[int, ...]) -> dict[str, Tensor]:
    named = {f"model__layers__{n}__self_attn__{keys}__weight": (96, 128) for n in range(layers)}
    named |= {f"model__layers__{n}__self_attn__{values}__weight": (96, 128) for n in range(layers)}
    return tensors(model__embed_tokens__weight=(320, 128), **named, **more)


# What is known


def test_there_are_many() -> None:
    assert len(FAMILIES) > 100
    assert len({family_of(config)[0] for config in CONFIGS.values()}) >= 95
    assert all(family_of(config)[0] for config in CONFIGS.values())
    assert set(REMAPPED.values()) <= FAMILIES.keys()
    assert all(inside in FAMILIES for family in FAMILIES.values() for inside in family.inside.values())


def test_a_window_is_what_mlx_lm_keeps_and_not_what_the_configuration_tells() -> None:
    """mistral's sliding_window is nothing to mlx_lm, which keeps all tokens of it."""
    assert architecture(CONFIGS["mistral"], {}).keeps == (Layers(4, "full", 2, 48, 48),)
    window = Layers(3, "window", 2, 48, 48, window=8)
    assert architecture(CONFIGS["llama window"], {}).keeps == (window, Layers(1, "full", 2, 48, 48))


def test_latent_attention_is_kept_whole_where_mlx_lm_unfolds_it() -> None:
    assert architecture(CONFIGS["deepseek_v2"], {}).keeps == (Layers(4, "full", 4, 80, 48),)
    assert architecture(CONFIGS["deepseek_v3"], {}).keeps == (Layers(4, "latent", 1, 64, 16),)


def test_what_does_not_grow() -> None:
    state = Layers(2, "state", state_elements=3 * 256 + 4 * 32 * 32, state_float32=4 * 32 * 32)
    assert architecture(CONFIGS["qwen3_next"], {}).keeps == (state, Layers(2, "full", 2, 48, 48))


def test_both_in_one_layer() -> None:
    keeps = architecture(CONFIGS["falcon_h1"], {}).keeps
    assert [(group.count, group.cache, group.scan_heads) for group in keeps] == [(4, "state", 4), (4, "full", 0)]


def test_gemma_3_as_it_is_published() -> None:
    """Its configuration leaves out the heads and what is in each: 8 and 4 heads of 256 (google/gemma-3-4b-it)."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
    config = {"model_type": "gemma3", "text_config": text | {"sliding_window": 1024}, "vision_config": {}}
    found = architecture(config, {})
    assert (found.known, found.heads, found.head_dim) == (True, 8, 256)
    assert found.keeps == (Layers(29, "window", 4, 256, 256, window=1024), Layers(5, "full", 4, 256, 256))


def test_active_parameters() -> None:
    experts = {f"model.layers.0.mlp.experts.{e}.up_proj.weight": Tensor("BF16", (64, 128), 16384) for e in range(4)}
    found = architecture(CONFIGS["qwen3_moe"], {**attention(1), **experts})
    assert found.experts == Experts(4, 2)
    # The embedding is the head here: there is no other.
    assert found.parameters - found.active_parameters == 2 * 64 * 128
    headed = architecture(CONFIGS["qwen3_moe"], {**attention(1, lm_head__weight=(320, 128)), **experts})
    assert headed.parameters - headed.active_parameters == 2 * 64 * 128 + 320 * 128


def test_it_survives_a_plan() -> None:
    for config in CONFIGS.values():
        found = architecture(config, {})
        assert Architecture.from_data(json.loads(json.dumps(found.as_data()))) == found


# What isn't


def test_an_unknown_family_is_estimated_and_told(tmp_path: Path) -> None:
    shapes = [(name, ("BF16", tensor.shape)) for name, tensor in attention(3).items()]
    facts, heard = looked_at.base(tmp_path / "new", {**CONFIG, "model_type": "brand_new"}, shapes)
    assert facts is not None
    found = Architecture.from_data(facts.details["architecture"])
    assert (found.known, found.layers, found.keeps) == (False, 3, (Layers(3, "full", 2, 48, 48),))
    assert heard.all == [
        (
            "warning",
            "unknown-family",
            "base: mlspec doesn't know the family 'brand_new': its memory is estimated from the shapes of its tensors",
            ("base",),
        )
    ]


@pytest.mark.parametrize(
    ("found", "keeps"),
    [
        (attention(2, "wk", "wv"), (Layers(2, "full", 2, 48, 48),)),
        (tensors(h__0__attn__c_attn__weight=(384, 128)), (Layers(1, "full", 2, 48, 48),)),
        (tensors(h__0__attn__qkv_proj__weight=(300, 128)), (Layers(1, "full", 2, 50, 50),)),
        (tensors(h__0__attn__kv_b_proj__weight=(448, 64)), (Layers(1, "full", 2, 224, 224),)),
        (tensors(h__0__mixer__in_proj__weight=(448, 64)), ()),
        ({}, ()),
    ],
)
def test_estimates(found: dict[str, Tensor], keeps: tuple[Layers, ...]) -> None:
    assert architecture({**CONFIG, "model_type": "brand_new"}, found).keeps == keeps


@pytest.mark.parametrize("value", [None, "4", -4, 0, 4.0, True, 1e400, 10**30, [4], {"a": 4}, float("nan")])
@pytest.mark.parametrize("key", ["num_hidden_layers", "num_attention_heads"])
def test_a_number_that_is_none_is_named(tmp_path: Path, key: str, value: Any) -> None:
    shapes = [(name, ("BF16", tensor.shape)) for name, tensor in attention(3).items()]
    facts, heard = looked_at.base(tmp_path / "odd", {**CONFIG, "head_dim": None, key: value}, shapes)
    assert facts is not None
    assert not facts.details["architecture"]["known"]
    ((severity, code, message, _),) = heard.all
    assert (severity, code) == ("warning", "unknown-family")
    told = f"base: config.json lacks '{key}': " if value is None else "base: config.json has "
    assert message.startswith(told)
    assert f"'{key}'" in message
    json.dumps(facts.details, allow_nan=False)


def plain(name: str, packed: bool = False) -> dict[str, Any]:
    """The tensors that the contradictions are looked for in, of a family of the usual shape."""
    config = CONFIGS[name]
    hidden, width = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"] if FAMILIES[name].own_head_dim else hidden // config["num_attention_heads"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        for part in ("k_proj", "v_proj"):
            shapes[f"model.layers.{layer}.self_attn.{part}.weight"] = (config["num_key_value_heads"] * head, hidden)
        for part in ("gate_proj", "up_proj"):
            shapes[f"model.layers.{layer}.mlp.{part}.weight"] = (width, hidden)
    if not packed:
        return {tensor: ("BF16", shape) for tensor, shape in shapes.items()}
    found: dict[str, Any] = {}
    for tensor, (rows, columns) in shapes.items():
        module = tensor.removesuffix(".weight")
        found |= {tensor: ("U32", (rows, columns // 8))}
        found |= {f"{module}.{leaf}": ("BF16", (rows, columns // 64)) for leaf in ("scales", "biases")}
    return found


KEY = "model.layers.0.self_attn.k_proj.weight"
CONTRADICTIONS: list[tuple[str, Any, str]] = [
    ("hidden_size", 1, "hidden_size 1, but model.embed_tokens.weight has 128 columns"),
    ("hidden_size", "128", "hidden_size '128', but model.embed_tokens.weight has 128 columns"),
    ("hidden_size", -4, "hidden_size -4, but model.embed_tokens.weight has 128 columns"),
    ("hidden_size", True, "hidden_size true, but model.embed_tokens.weight has 128 columns"),
    ("hidden_size", [128], "hidden_size [128], but model.embed_tokens.weight has 128 columns"),
    ("vocab_size", "x", "vocab_size 'x', but model.embed_tokens.weight has 320 rows"),
    ("vocab_size", float("nan"), "vocab_size NaN, but model.embed_tokens.weight has 320 rows"),
    ("vocab_size", -1, "vocab_size -1, but model.embed_tokens.weight has 320 rows"),
    ("intermediate_size", "x", "intermediate_size 'x', but model.layers.0.mlp.gate_proj.weight has 192 rows"),
    ("intermediate_size", float("nan"), "intermediate_size NaN, but model.layers.0.mlp.gate_proj.weight has 192 rows"),
    ("intermediate_size", 191, "intermediate_size 191, but model.layers.0.mlp.gate_proj.weight has 192 rows"),
    ("num_key_value_heads", 0, f"num_key_value_heads 0, but {KEY} has {{}} rows"),
    ("num_key_value_heads", "2", f"num_key_value_heads '2', but {KEY} has {{}} rows"),
    ("num_key_value_heads", None, f"no num_key_value_heads (4 key heads of {{1}}), but {KEY} has {{0}} rows"),
    ("num_key_value_heads", 1, f"num_key_value_heads 1 (1 key head of {{1}}), but {KEY} has {{0}} rows"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3_moe"])
@pytest.mark.parametrize(("key", "value", "said"), CONTRADICTIONS)
def test_a_size_that_the_tensors_contradict(
    tmp_path: Path, key: str, value: Any, said: str, name: str, packed: bool
) -> None:
    quantization = {"quantization": {"bits": 4, "group_size": 64}} if packed else {}
    config, shapes = {**CONFIGS[name], **quantization}, plain(name, packed)
    facts, heard = looked_at.base(tmp_path / "right", config, shapes.items())
    assert facts is not None, heard.all
    facts, heard = looked_at.base(tmp_path / "wrong", {**config, key: value}, shapes.items())
    assert facts is None
    rows = shapes[KEY][1][0]
    told = f"base: config.json says {said.format(rows, rows // 2)}"
    assert heard.all == [("error", "bad-model-file", told, ("base",))]


def test_a_type_that_is_none(tmp_path: Path) -> None:
    strange = {**plain("llama"), "model.norm.weight": ("X", (128,))}
    facts, heard = looked_at.base(tmp_path / "base", CONFIG, strange.items())
    assert facts is None
    told = "base: the tensor 'model.norm.weight' has the type 'X', which is none"
    assert heard.all == [("error", "bad-model-file", told, ("base",))]


def test_a_million_layers_are_not_looped_over() -> None:
    assert not architecture({**CONFIG, "num_hidden_layers": 1_000_000}, {}).known


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    [None] * 9,
]
ODD += [["sliding_attention"] * 4, [1, "x", {}], {}, {"x": 1}, {"text_config": {}}, {"num_heads": -1}]


def odd_tensors(chance: random.Random) -> dict[str, Tensor]:
    """Names of all sorts with shapes of all sorts."""
    found = {}
    words = (
        "model",
        "layers",
        "*",
        "0",
        "3",
        "99999999999",
        "experts",
        "self_attn",
        "k_proj",
        "v_proj",
        "gate_up_proj",
    )
    words += (
        "kv_b_proj",
        "qkv_proj",
        "conv1d",
        "scales",
        "biases",
        "weight",
        "weight_scale_inv",
        "qweight",
        "\ud800",
        "",
    )
    for _ in range(chance.randint(0, 12)):
        name = ".".join(chance.choices(words, k=chance.randint(1, 7)))
        shape = tuple(chance.choices((0, 1, 2, 7, 64, 2**40), k=chance.randint(0, 4)))
        found[name] = Tensor(chance.choice(("BF16", "U32", "F8_E4M3", "I32", "X9")), shape, 1)
    return found


def spoiled(config: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A configuration with some of its keys spoiled, and some quantization."""
    text = config.get("text_config", config)
    changed = {**text, **{key: chance.choice(ODD) for key in chance.sample(sorted(text), k=chance.randint(0, 3))}}
    outer = {**config, "text_config": changed} if text is not config else changed
    packed = [None, None, *ODD, {"group_size": 64, "bits": 4, "model.layers.3.k_proj": {"bits": 8}}]
    methods = [None, *ODD, *({"quant_method": method} for method in ("fp8", "mxfp4", "awq", "modelopt", []))]
    return {**outer, "quantization": chance.choice(packed), "quantization_config": chance.choice(methods)}


@pytest.mark.parametrize("seed", range(8))
def test_nothing_crashes(seed: int) -> None:
    """Any family, any of its keys spoiled, any tensors: an estimate or the truth, and data that a plan can hold."""
    chance = random.Random(seed)
    for config in CONFIGS.values():
        given, found = spoiled(config, chance), odd_tensors(chance)
        details = base_details(given, found, shape_of(given, found))
        assert json.loads(json.dumps(details, allow_nan=False)) == details
        assert quantizable(details) in (True, False)
        for quantization in (None, Quantization(), Quantization(mode="nvfp4")):
            assert weight_bytes(details, quantization, chance.choice((None, 2, 4))) >= 0
        adapter = {f"{name}.lora_a": tensor for name, tensor in odd_tensors(chance).items()}
        rows = [row.as_data() for row in table(adapter)]
        told = {"fine_tune_type": "lora", "rank": 8, "scale": 1.0, "base_model": None, "tensors": rows}
        looked_at.misfit(facts_of("base", details), facts_of("adapters/a", told))


def facts_of(role: str, details: dict[str, Any]) -> ModelFacts:
    return ModelFacts(ModelRef(role, Source(path="x"), ()), (), 0, details)


# The table of tensors


def test_rows_of_a_table() -> None:
    found = table(
        {
            **{
                f"model.layers.{n}.mlp.experts.{e}.w.weight": Tensor("BF16", (4, 8), 64)
                for n in (0, 1, 2, 5)
                for e in (0, 1)
            },
            "model.layers.3.mlp.w.weight": Tensor("F32", (4,), 16),
            "norm.weight": Tensor("F32", (4,), 16),
        }
    )
    assert found == (
        Row("model.layers.*.mlp.experts.*.w.weight", "BF16", (4, 8), 8, ((0, 2), (5, 5))),
        Row("model.layers.*.mlp.w.weight", "F32", (4,), 1, ((3, 3),)),
        Row("norm.weight", "F32", (4,), 1, None),
    )
    assert [Row.from_data(json.loads(json.dumps(row.as_data()))) for row in found] == list(found)
    assert found[0].elements == 256
    assert below(found[0], 2) == found[0].but(count=4, layers=((0, 1),))
    assert (below(found[1], 3), below(found[2], 0)) == (None, found[2])


def test_runs() -> None:
    ranges = runs([7, 1, 2, 3, 9, 8])
    assert ranges == ((1, 3), (7, 9))
    assert (size(ranges), list(numbers(ranges)), covers(ranges, 8), covers(ranges, 4)) == (
        6,
        [1, 2, 3, 7, 8, 9],
        True,
        False,
    )


def test_layers_that_are_packed_otherwise() -> None:
    given = {"group_size": 64, "bits": 4, "mode": "affine", "lm_head": False, "x": "?"}
    given |= {f"model.layers.{n}.mlp.gate": {"group_size": 64, "bits": 8} for n in range(48)}
    packing = Packing.of({"quantization": given})
    assert [module.as_data() for module in packing.modules] == [
        {"name": "lm_head", "layers": None, "settings": None},
        {"name": "model.layers.*.mlp.gate", "layers": [[0, 47]], "settings": {"bits": 8, "group_size": 64}},
    ]
    assert Packing.from_data(json.loads(json.dumps(packing.as_data()))) == packing
    gate = "model.layers.*.mlp.gate"
    rows = (
        Row(f"{gate}.weight", "U32", (8, 32), 48, ((0, 47),)),
        Row(f"{gate}.scales", "BF16", (8, 2), 48, ((0, 47),)),
        Row(f"{gate}.biases", "BF16", (8, 2), 48, ((0, 47),)),
    )
    assert packing.unpacked(rows) == (rows[0].but(shape=(8, 128)),)
