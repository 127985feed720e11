"""The families of language models that mlx_lm 0.32 serves, a row each in the files beside. A new one is a new row.

Taken from mlx_lm's models (MIT): the keys and defaults of their ModelArgs, `make_cache`, `sanitize`, `quant_predicate`
and `cast_predicate`. The tests build a small model of each and compare.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families.dense import DENSE
from mlspec.runners.mlx_lm.families.experts import EXPERTS
from mlspec.runners.mlx_lm.families.hybrid import HYBRID
from mlspec.runners.mlx_lm.families.latent import LATENT
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.seeing import SEEING
from mlspec.runners.mlx_lm.families.tensors import awq, convolutions, left_out

FAMILIES: Mapping[str, Family] = {**DENSE, **EXPERTS, **LATENT, **HYBRID, **SEEING}

REMAPPED: Mapping[str, str] = {
    "mistral": "llama",
    "llava": "mistral3",
    "phi-msft": "phixtral",
    "falcon_mamba": "mamba",
    "joyai_llm_flash": "deepseek_v3",
    "kimi_k2": "deepseek_v3",
    "qwen2_5_vl": "qwen2_vl",
    "minimax_m2": "minimax",
    "iquestcoder": "llama",
    "xverse": "llama",
    "gemma4_unified": "gemma4",
}
"""Model types that mlx_lm serves by the code of another family (mlx_lm.utils, `MODEL_REMAPPING`)."""

REMAPPED_ARCHITECTURES: Mapping[tuple[str, str], str] = {
    ("bailing_hybrid", "BailingMoeV3ForCausalLM"): "bailing_moe_v3",
}
"""The same by model type and architecture (`MODEL_ARCHITECTURE_REMAPPING`)."""

FIRST_STEPS = (left_out, convolutions, awq)
"""Steps that are taken for each family before its own."""
