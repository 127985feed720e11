"""The bytes of weights, by what is known of mlx's formats; against mlx itself they are held in test_families_e2e."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facts import looked_at
from facts.small_configs import CONFIGS
from mlspec.model_files import tensors
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.weights import bits_per_weight, loaded_rows, quantizable, weight_bytes

TINY = Path(__file__).parents[2] / "specs" / "models" / "tiny"


def details(folder: Path, config: dict[str, Any], *shapes: tuple[str, tuple[str, tuple[int, ...]]]) -> Any:
    facts, _ = looked_at.base(folder, config, shapes)
    assert facts is not None
    return facts.details


@pytest.mark.parametrize(
    ("mode", "bits", "group_size", "found"),
    [
        ("affine", 4, 64, 4.5),
        ("affine", 8, None, 8.5),
        ("affine", 4, 32, 5.0),
        ("affine", 3, 128, 3.25),
        ("mxfp4", 4, None, 4.25),
        ("mxfp8", 8, 32, 8.25),
        ("nvfp4", 4, 16, 4.5),
    ],
)
def test_bits_of_a_weight(tmp_path: Path, mode: Any, bits: Any, group_size: Any, found: float) -> None:
    assert bits_per_weight(bits, group_size, mode) == found
    own = details(tmp_path / "x", CONFIGS["llama"], ("lm_head.weight", ("BF16", (256, 128))))
    quantization = Quantization(bits=bits, group_size=group_size, mode=mode)
    assert weight_bytes(own, quantization, None) == found * 256 * 128 / 8


def test_what_cannot_be_quantized_stays(tmp_path: Path) -> None:
    shapes: list[tuple[str, tuple[str, tuple[int, ...]]]] = [
        ("model.layers.0.self_attn.q_proj.weight", ("BF16", (96, 96))),
        ("model.layers.0.self_attn.q_proj.bias", ("BF16", (96,))),
        ("model.norm.weight", ("BF16", (128,))),
    ]
    own = details(tmp_path / "x", CONFIGS["llama"], *shapes)
    assert weight_bytes(own, Quantization(), None) == weight_bytes(own, None, None) == 2 * (96 * 96 + 96 + 128)
    assert weight_bytes(own, Quantization(group_size=32), None) == 96 * 96 * 5 // 8 + 2 * (96 + 128)
    assert weight_bytes(own, None, 4) == 4 * (96 * 96 + 96 + 128)


def test_a_head_that_is_the_embedding(tmp_path: Path) -> None:
    """A file may hold it besides; mlx_lm leaves it out where the configuration ties both."""
    shapes: list[tuple[str, tuple[str, tuple[int, ...]]]] = [
        (name, ("BF16", (320, 128))) for name in ("lm_head.weight", "model.embed_tokens.weight")
    ]
    tied = details(tmp_path / "tied", {**CONFIGS["llama"], "tie_word_embeddings": True}, *shapes)
    apart = details(tmp_path / "apart", CONFIGS["llama"], *shapes)
    assert weight_bytes(apart, None, None) == 2 * weight_bytes(tied, None, None) == 4 * 320 * 128
    assert [row.name for row in loaded_rows(tied)] == ["model.embed_tokens.weight"]


def test_the_shipped_model() -> None:
    """In the file's own type it is what the file holds."""
    heard = looked_at.Heard()
    facts = looked_at.inspect_base(looked_at.ModelRef("base", looked_at.Source(path="x"), ("base",)), TINY, heard)
    assert facts is not None
    assert not heard.all
    stored = sum(tensor.size_bytes for tensor in tensors(TINY / "model.safetensors").values())
    assert weight_bytes(facts.details, None, None) == facts.parameter_bytes == stored
    assert quantizable(facts.details)
    assert facts.details["architecture"]["known"]
    assert 7 < stored / weight_bytes(facts.details, Quantization(), 2) < 7.2


def test_what_is_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    config = {**CONFIGS["llama"], "quantization": {"group_size": 64, "bits": 4}}
    shapes: list[tuple[str, tuple[str, tuple[int, ...]]]] = [
        ("lm_head.weight", ("U32", (320, 16))),
        ("lm_head.scales", ("BF16", (320, 2))),
        ("lm_head.biases", ("BF16", (320, 2))),
    ]
    own = details(tmp_path / "x", config, *shapes)
    assert not quantizable(own)
    assert weight_bytes(own, Quantization(bits=8), None) == weight_bytes(own, None, None) == 320 * (64 + 8)
    assert weight_bytes(own, None, 4) == 320 * (64 + 16)
    assert own["architecture"]["parameters"] == 320 * 128
    assert own["packing"]["settings"] == {"bits": 4, "group_size": 64}
