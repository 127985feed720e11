"""Models as they lie on the hub: the names, shapes and types that mlx_lm's `sanitize` meets, made from mlx_lm's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""The type and shape of each tensor by its name."""
Change = Callable[[Tensors], Tensors]

W = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def apart(inside: str = "switch_mlp", names: Mapping[str, str] | None = None) -> Change:
    """Experts one by one, as nearly all are published."""
    pattern = re.compile(rf"^(.*)\.{inside}\.(\w+)\.weight$")

    def change(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, (dtype, shape) in tensors.items():
            match = pattern.match(name)
            if match is None or len(shape) != 3:
                found[name] = (dtype, shape)
                continue
            for expert in range(shape[0]):
                found[f"{match[1]}.experts.{expert}.{(names or {}).get(match[2], match[2])}.weight"] = (
                    dtype,
                    shape[1:],
                )
        return found

    return change


def joined(into: str, parts: tuple[str, str], *, turned: bool = False, axis: int = -2) -> Change:
    """Two tensors as one, `parts` below the same module; `turned` ones lie the other way."""
    first, second = parts

    def change(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, (dtype, shape) in tensors.items():
            if name.endswith(second):
                continue
            if name.endswith(first):
                both = list(shape)
                both[axis] *= 2
                if turned:
                    both[-2:] = both[-1], both[-2]
                found[name.removesuffix(first) + into] = (dtype, tuple(both))
            else:
                found[name] = (dtype, shape)
        return found

    return change


def renamed(*rules: tuple[str, str]) -> Change:
    def change(tensors: Tensors) -> Tensors:
        found = {}
        for name, value in tensors.items():
            for old, new in rules:
                name = re.sub(old, new, name)
            found[name] = value
        return found

    return change


def turned(pattern: str) -> Change:
    def change(tensors: Tensors) -> Tensors:
        return {
            name: (dtype, (*shape[:-2], shape[-1], shape[-2]) if re.search(pattern, name) else shape)
            for name, (dtype, shape) in tensors.items()
        }

    return change


def also(**more: tuple[str, tuple[int, ...]]) -> Change:
    """Tensors that mlx_lm leaves out; `__` in a name stands for a dot."""
    return lambda tensors: tensors | {name.replace("__", "."): value for name, value in more.items()}


def folded(heads: int) -> Change:
    """Latent attention before it is absorbed: keys and values of all heads in one projection."""

    def change(tensors: Tensors) -> Tensors:
        found: Tensors = {}
        for name, (dtype, shape) in tensors.items():
            if name.endswith("embed_q.weight"):
                values = tensors[name.replace("embed_q", "unembed_out")][1][1]
                found[name.replace("embed_q", "kv_b_proj")] = (dtype, (heads * (shape[2] + values), shape[1]))
            elif not name.endswith("unembed_out.weight"):
                found[name] = (dtype, shape)
        return found

    return change


def in_eight_bits(tensors: Tensors) -> Tensors:
    """Weights of projections as 8-bit floats, with a scale for each block of 128 x 128."""
    found: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if not re.search(r"(_proj|\.w[123])\.weight$", name) or len(shape) != 2:
            found[name] = (dtype, shape)
            continue
        found[name] = ("F8_E4M3", shape)
        found[f"{name}_scale_inv"] = ("F32", (-(-shape[0] // 128), -(-shape[1] // 128)))
    return found


def in_four_bits(tensors: Tensors) -> Tensors:
    """Experts as compressed-tensors packs them: eight to a word, a scale for 32."""
    found: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if ".experts." not in name or not name.endswith(".weight"):
            found[name] = (dtype, shape)
            continue
        found[f"{name}_packed"] = ("I32", (shape[0], shape[1] // 8))
        found[f"{name}_scale"] = (dtype, (shape[0], shape[1] // 32))
        found[f"{name}_shape"] = ("I32", (2,))
    return found


def oss_blocks(tensors: Tensors) -> Tensors:
    """gpt_oss as published: experts in blocks of 32 values, gates and other rows alternating."""
    found: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        match = re.match(r"^(.*\.experts)\.(gate|up|down)_proj\.(weight|bias)$", name)
        if match is None:
            found[name] = (dtype, shape)
        elif match[2] != "up":
            module = f"{match[1]}.{'gate_up' if match[2] == 'gate' else 'down'}_proj"
            rows = 2 * shape[1] if match[2] == "gate" else shape[1]
            if match[3] == "bias":
                found[f"{module}_bias"] = (dtype, (shape[0], rows))
            else:
                found[f"{module}_blocks"] = ("U8", (shape[0], rows, shape[2] // 32, 16))
                found[f"{module}_scales"] = ("U8", (shape[0], rows, shape[2] // 32))
    return found


def all_experts_in_one(tensors: Tensors) -> Tensors:
    """dbrx: the experts one below the other, the last projection the other way."""
    found: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        match = re.match(r"^(.*\.experts)\.(\d+)\.(w1|v1|w2)\.weight$", name)
        if match is None:
            found[name] = (dtype, shape)
            continue
        rows, columns = shape[::-1] if match[3] == "w2" else shape
        found[f"{match[1]}.mlp.{match[3]}"] = (dtype, (4 * rows, columns))
    return found


def hunyuan_joined(tensors: Tensors) -> Tensors:
    """hunyuan without experts: queries, keys and values in one, and both projections of an MLP in one."""
    found: Tensors = {}
    for name, (dtype, shape) in tensors.items():
        if re.search(r"\.(k_proj|v_proj|gate_proj)\.weight$", name):
            continue
        if name.endswith("q_proj.weight"):
            keys = tensors[name.replace("q_proj", "k_proj")][1][0]
            found[name.replace("q_proj", "qkv_proj")] = (dtype, (shape[0] + 2 * keys, shape[1]))
        elif name.endswith("up_proj.weight"):
            found[name.replace("up_proj", "gate_and_up_proj")] = (dtype, (2 * shape[0], shape[1]))
        else:
            found[name] = (dtype, shape)
    return found


CONV = turned(r"conv1d\.weight$|conv\.weight$")
EXTRA = also(model__layers__0__self_attn__rotary_emb__inv_freq=("F32", (16,)))
HEAD = also(lm_head__weight=("F32", (320, 128)))
TOWER = also(vision_tower__patch__weight=("F32", (64, 64)), multi_modal_projector__linear__weight=("F32", (64, 64)))
VISUAL = also(visual__patch__weight=("F32", (64, 64)))
NEXT = also(mtp__layers__0__norm__weight=("F32", (128,)))
FIFTH = also(model__layers__4__norm__weight=("F32", (128,)), model__layers__4__eh_proj__weight=("F32", (128, 256)))
GATE = (r"\.gate\.gate_proj\.", ".gate.")
NESTED = (r"^language_model\.model\.", "model.language_model."), (r"^language_model\.lm_head\.", "lm_head.")

GRANITE = (
    joined("input_linear.weight", ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight")),
    renamed((r"switch_mlp\.down_proj\.weight$", "output_linear.weight")),
)
FUSED = (
    joined("experts.gate_up_proj", ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight")),
    renamed((r"switch_mlp\.down_proj\.weight$", "experts.down_proj")),
)

FORMATS: dict[str, tuple[str, tuple[Change, ...]]] = {
    "llama": ("llama", (EXTRA,)),
    "llama, tied": ("llama tied", (EXTRA, HEAD)),
    "qwen3, tied": ("qwen3", (HEAD,)),
    "mixtral": ("mixtral", (apart(names=W),)),
    "qwen2_moe": ("qwen2_moe", (apart(),)),
    "qwen3_moe": ("qwen3_moe", (apart(),)),
    "olmoe": ("olmoe", (apart(),)),
    "phimoe": ("phimoe", (apart(names=W),)),
    "minimax": ("minimax", (apart(names=W),)),
    "minimax in 8 bits": ("minimax", (apart(names=W), in_eight_bits)),
    "granitemoe": ("granitemoe", GRANITE),
    "granitemoehybrid": ("granitemoehybrid", (*GRANITE, CONV)),
    "granitemoehybrid dense": (
        "granitemoehybrid dense",
        (
            joined("shared_mlp.input_linear.weight", ("mlp.gate_proj.weight", "mlp.up_proj.weight")),
            renamed((r"(?<=\d\.)mlp\.down_proj", "shared_mlp.output_linear")),
            HEAD,
        ),
    ),
    "gpt_oss": ("gpt_oss", (oss_blocks,)),
    "dbrx": ("dbrx", (all_experts_in_one,)),
    "deepseek_v2": ("deepseek_v2", (apart(),)),
    "deepseek_v3": ("deepseek_v3", (apart(), folded(4), EXTRA)),
    "deepseek_v3 in 8 bits": ("deepseek_v3", (apart(), folded(4), in_eight_bits)),
    "kimi_k2 in 4 bits": ("kimi_k2", (apart(), folded(4), in_four_bits)),
    "deepseek_v32": ("deepseek_v32", (apart(), folded(4), FIFTH)),
    "glm4_moe": ("glm4_moe", (apart(), FIFTH)),
    "glm4_moe_lite": ("glm4_moe_lite", (apart(), folded(4), FIFTH)),
    "mistral4": ("mistral4", (*FUSED, folded(4))),
    "kimi_k25": ("kimi_k25", (apart(), folded(4), TOWER)),
    "longcat_flash": ("longcat_flash", (apart(), folded(4), also(model__mtp__norm__weight=("F32", (128,))))),
    "dots1": ("dots1", (apart("experts"), EXTRA)),
    "afmoe": ("afmoe", (apart("experts"), EXTRA)),
    "Klear": ("Klear", (apart("experts"),)),
    "ernie4_5_moe": ("ernie4_5_moe", (apart(), also(model__mtp_block__0__norm__weight=("F32", (128,))))),
    "exaone_moe": ("exaone_moe", (apart(), NEXT, renamed((r"gate\.e_score", "e_score")))),
    "bailing_moe": ("bailing_moe", (apart(), renamed(GATE))),
    "bailing_hybrid": ("bailing_hybrid", (apart(), renamed(GATE), folded(4), FIFTH)),
    "bailing_moe_v3": ("bailing_moe_v3", (apart(), folded(4), CONV)),
    "laguna": ("laguna", (apart(), renamed((r"gate\.proj\.", "gate.")))),
    "mellum": ("mellum", (apart(),)),
    "mimo": ("mimo", (also(model__mtp_layers__0__norm__weight=("F32", (128,))),)),
    "mimo_v2_flash in 8 bits": ("mimo_v2_flash", (apart(), in_eight_bits)),
    "step3p5": (
        "step3p5",
        (
            renamed(
                (r"\.mlp\.switch_mlp\.", ".moe."),
                (r"\.mlp\.gate\.gate\.", ".moe.gate."),
                (r"\.mlp\.gate\.router_bias", ".moe.router_bias"),
                (r"\.mlp\.share_expert\.", ".share_expert."),
            ),
            FIFTH,
        ),
    ),
    "hunyuan": ("hunyuan", (apart(),)),
    "hunyuan, joined": ("hunyuan dense", (hunyuan_joined,)),
    "jamba": ("jamba", (apart(), CONV)),
    "mamba": ("mamba", (CONV,)),
    "falcon_h1": ("falcon_h1", (CONV,)),
    "nemotron_h": ("nemotron_h", (apart(names={"fc1": "up_proj", "fc2": "down_proj"}), CONV, NEXT)),
    "lfm2": ("lfm2", (CONV,)),
    "lfm2_moe": (
        "lfm2_moe",
        (
            apart(names=W),
            renamed((r"gate_proj\.w", "w1.w"), (r"down_proj\.w", "w2.w"), (r"up_proj\.w", "w3.w")),
            CONV,
        ),
    ),
    "qwen3_next": ("qwen3_next", (apart(), CONV, NEXT)),
    "qwen3_5": ("qwen3_5", (renamed(*NESTED), CONV, NEXT)),
    "qwen3_5 that sees": ("qwen3_5 nested", (renamed(*NESTED), CONV, also(model__visual__x__weight=("F32", (8, 8))))),
    "qwen3_5_moe": ("qwen3_5_moe", (*FUSED, renamed(*NESTED), CONV)),
    "kimi_linear": (
        "kimi_linear",
        (
            apart(names=W),
            folded(4),
            renamed(
                (r"(?<=layers\.[1-9])\.mlp\.", ".block_sparse_moe."),
                (r"\.block_sparse_moe\.e_score", ".block_sparse_moe.gate.e_score"),
                (r"_conv\.conv\.", "_conv1d."),
            ),
            CONV,
        ),
    ),
    "gemma3": ("gemma3", (TOWER,)),
    "gemma4": (
        "gemma4",
        (
            joined("gate_up_proj", ("switch_glu.gate_proj.weight", "switch_glu.up_proj.weight")),
            renamed((r"switch_glu\.down_proj\.weight$", "down_proj"), *NESTED),
            also(model__vision_tower__patch__weight=("F32", (8, 8))),
        ),
    ),
    "gemma4_text": ("gemma4_text", (also(model__layers__3__self_attn__k_proj__weight=("F32", (96, 128))),)),
    "qwen2_vl": ("qwen2_vl", (renamed((r"^language_model\.", "")), VISUAL)),
    "qwen3_vl": ("qwen3_vl", (renamed(*NESTED), also(model__visual__x__weight=("F32", (8, 8))))),
    "qwen3_vl_moe": (
        "qwen3_vl_moe",
        (
            joined("experts.gate_up_proj", ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight"), turned=True),
            turned(r"switch_mlp\.down_proj\.weight$"),
            renamed((r"switch_mlp\.down_proj\.weight$", "experts.down_proj"), *NESTED),
            also(model__visual__x__weight=("F32", (8, 8))),
        ),
    ),
    "mistral3": ("mistral3", (renamed(*NESTED), TOWER)),
    "llama4": (
        "llama4",
        (
            joined("experts.gate_up_proj", ("experts.gate_proj.weight", "experts.up_proj.weight"), turned=True),
            turned(r"experts\.down_proj\.weight$"),
            renamed((r"experts\.down_proj\.weight$", "experts.down_proj")),
            also(vision_model__x__weight=("F32", (8, 8))),
        ),
    ),
    "gpt2": (
        "gpt2",
        (
            renamed((r"^model\.", "")),
            turned(r"(c_attn|c_proj|c_fc)\.weight$"),
            also(h__0__attn__bias=("F32", (1, 1, 64, 64))),
        ),
    ),
    "gpt_neox": (
        "gpt_neox",
        (
            renamed((r"^model\.h\.", "gpt_neox.layers."), (r"^model\.(embed_in|final_layer_norm)", r"gpt_neox.\1")),
            renamed((r"^model\.", "")),
            also(gpt_neox__layers__0__attention__bias=("U8", (1, 1, 64, 64))),
        ),
    ),
    "minicpm": ("minicpm", (lambda tensors: {n: t for n, t in tensors.items() if n != "lm_head.weight"},)),
    "talkie": ("talkie", (also(model__rotary__cos=("F32", (8,))),)),
}
"""By what is looked at: a small configuration, and the changes that make mlx_lm's tensors the published ones."""

SAYS: dict[str, dict[str, Any]] = {
    "gpt_oss": {"quantization_config": {"quant_method": "mxfp4"}},
    "kimi_k2 in 4 bits": {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
}
"""What their config.json has besides."""
