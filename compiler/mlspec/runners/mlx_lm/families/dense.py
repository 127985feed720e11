"""Families without experts that keep keys and values of each head."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families import caches
from mlspec.runners.mlx_lm.families.common import GPT, NUM_LAYERS, TIED, sizes
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.special import head_from_embedding, without_shared
from mlspec.runners.mlx_lm.families.tensors import Split, dequantized, renamed, turned, unnested, untied, without

_GEMMA3 = {**sizes(26, 1152, 4, 1, 256), "sliding_window": 512, "sliding_window_pattern": 6}
_GEMMA4 = {
    **sizes(35, 1536, 8, 1, 256),
    **TIED,
    "global_head_dim": 512,
    "num_kv_shared_layers": 20,
    "sliding_window": 512,
    "sliding_window_pattern": 5,
}
_PLAMO3 = {**sizes(32, 4096, 32, 4, 128), **TIED, "window_size": 2048, "sliding_window_pattern": 8}
_GLIMMER = {**sizes(52, 6656, 32, 2, 128), "sliding_window": 2048, "sliding_window_pattern": 4}

DENSE: Mapping[str, Family] = {
    "llama": Family(caches.named_windows, (dequantized, untied), defaults=TIED, own_head_dim=True),
    "ministral3": Family(caches.named_windows, (dequantized, untied), defaults=TIED, own_head_dim=True),
    "qwen": Family(caches.every_head, defaults=sizes(24, 2048, 16, 16)),
    "qwen2": Family(loads=(untied,), defaults=TIED),
    "qwen3": Family(loads=(untied,), own_head_dim=True),
    "phi3": Family(),
    "phi": Family(defaults=sizes(32, 2560, 32, 32)),
    "gemma": Family(own_head_dim=True),
    "gemma2": Family(own_head_dim=True),
    "gemma3_text": Family(caches.pattern_windows, defaults=_GEMMA3, own_head_dim=True),
    "gemma4_text": Family(
        caches.shared_windows,
        (
            without(r"(input|output)_(max|min)$"),
            without_shared,
            Split(
                r"experts\.gate_up_proj$", ("experts.switch_glu.gate_proj.weight", "experts.switch_glu.up_proj.weight")
            ),
            renamed((r"experts\.down_proj$", "experts.switch_glu.down_proj.weight")),
        ),
        {"num_experts_per_tok": "top_k_experts"},
        _GEMMA4,
        own_head_dim=True,
        eight_bits=("router.proj",),
    ),
    "granite": Family(loads=(untied,), defaults=TIED, eight_bits=("self_attn.o_proj", "mlp.down_proj", "lm_head")),
    "olmo2": Family(defaults=TIED, own_head_dim=True),
    "olmo3": Family(caches.named_full, defaults={"sliding_window_pattern": 4}, own_head_dim=True),
    "starcoder2": Family(defaults=TIED),
    "smollm3": Family(caches.grouped, (untied,), defaults=TIED, own_head_dim=True),
    "glm": Family(loads=(untied,), defaults=TIED, own_head_dim=True),
    "glm4": Family(own_head_dim=True),
    "cohere": Family(defaults=sizes(40, 8192, 64, 64)),
    "cohere2": Family(
        caches.pattern_windows,
        defaults={**sizes(32, 4096, 32, 8, 128), "sliding_window": 4096, "sliding_window_pattern": 4},
        own_head_dim=True,
    ),
    "stablelm": Family(),
    "exaone": Family(names=NUM_LAYERS, defaults=TIED, own_head_dim=True),
    "exaone4": Family(caches.letter_windows, own_head_dim=True),
    "internlm2": Family(loads=(without(r"attention\.rope\.inv_freq$"),)),
    "internlm3": Family(loads=(without(r"attention\.rope\.inv_freq$"),)),
    "helium": Family(),
    "minicpm": Family(loads=(head_from_embedding,)),
    "apertus": Family(loads=(untied,)),
    "bitnet": Family(loads=(untied,), defaults=TIED, own_head_dim=True, fixed=("_proj",)),
    "ernie4_5": Family(own_head_dim=True),
    "gpt2": Family(
        caches.every_head,
        loads=(
            without(r"(^|\.)h\.\*\.attn\.(bias|masked_bias)$"),
            turned(r"^h\.\*\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$"),
            renamed((r"^(?!model\.)", "model.")),
        ),
        names=GPT,
    ),
    "gpt_bigcode": Family(caches.multi_query, names=GPT, defaults={**TIED, "multi_query": True}),
    "gpt_neox": Family(
        loads=(
            without(r"\.attention\.(bias|masked_bias)$"),
            renamed((r"^(?!model\.)", "model."), (r"\.gpt_neox\.layers\.", ".h."), (r"\.gpt_neox\.", ".")),
        )
    ),
    "gptj": Family(
        caches.every_head,
        (without(r"\.attn\.(bias|masked_bias)$"), renamed((r"transformer\.", "model."))),
        GPT,
        sizes(28, 4096, 16, 16),
    ),
    "hunyuan_v1_dense": Family(loads=(untied,), own_head_dim=True),
    "iquestloopcoder": Family(
        caches.two_loops, own_head_dim=True, defaults={"loop_window_size": 64}, fixed=("gate_projections.*",)
    ),
    "lille-130m": Family(names={**GPT, "num_key_value_heads": "n_kv_heads"}, defaults=TIED),
    "mimo": Family(loads=(untied,)),
    "muse_glimmer": Family(caches.typed_windows, (unnested,), defaults=_GLIMMER, own_head_dim=True),
    "nanbeige": Family(caches.loops, own_head_dim=True, defaults={"num_loops": 1}),
    "nanochat": Family(defaults=sizes(20, 1280, 10, 10)),
    "nemotron": Family(own_head_dim=True),
    "nemotron-nas": Family(caches.searched_blocks, (untied,), defaults=sizes(80, 8192, 64, 64)),
    "openelm": Family(
        caches.heads_per_layer,
        names={"num_hidden_layers": "num_transformer_layers", "hidden_size": "model_dim"},
    ),
    "plamo": Family(names={"num_key_value_heads": "n_shared_head"}),
    "plamo3": Family(caches.plamo_windows, (untied,), defaults=_PLAMO3, own_head_dim=True),
    "seed_oss": Family(loads=(untied,), defaults=TIED, own_head_dim=True),
    "spark2_5": Family(
        caches.typed_windows,
        (renamed((r"^model\.embed_tokens\.", "model.embedding.")), untied),
        defaults=TIED | {"sliding_window_pattern": 4},
        own_head_dim=True,
        fixed=("self_attn.g_proj",),
    ),
    "talkie": Family(
        caches.every_head, (without(r"rotary|(cos|sin)$"),), defaults=sizes(40, 5120, 40, 40, 128), own_head_dim=True
    ),
    "telechat3": Family(own_head_dim=True),
    "afm7": Family(
        caches.reused,
        names={
            "hidden_size": "hidden_dim",
            "num_hidden_layers": "num_layers",
            "num_attention_heads": "num_heads",
            "num_key_value_heads": "num_kv_heads",
        },
        fixed=("",),  # mlx_lm 0.32.2 can't: its FusedLinear.to_quantized doesn't take the mode
    ),
}
