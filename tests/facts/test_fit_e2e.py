"""Adapters that mlx_lm makes of a model fit it, whatever the model's format; mlx_lm refuses those that don't."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from facts import looked_at, mlx_models
from facts.hub_formats import FORMATS, SAYS
from facts.small_configs import CONFIGS
from mlspec.model.facts import ModelFacts

pytestmark = pytest.mark.e2e

RANK = 8
NO_LAYERS_OF_ITS_OWN = {"afm7", "bitnet"}
"""Their layers have adapters of another form."""


def tensors_of(model: Any) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    return [
        (name, (mlx_models.dtype_of(value), tuple(value.shape))) for name, value in mlx_models.parameters(model).items()
    ]


def inspected(folder: Path, config: dict[str, Any], tensors: Any) -> ModelFacts:
    facts, heard = looked_at.base(folder, config, tensors)
    assert facts is not None, heard.all
    assert not heard.all
    return facts


def adapted(model: Any, kind: str) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    """The tensors of an adapter of this kind on all that mlx_lm adapts by itself."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters = {"rank": RANK, "scale": 2.0, "dropout": 0.0}
    linear_to_lora_layers(model, len(model.layers), parameters, use_dora=kind == "dora")
    leaves = ("lora_a", "lora_b", "m")
    return [(name, value) for name, value in tensors_of(model) if name.rpartition(".")[2] in leaves]


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - NO_LAYERS_OF_ITS_OWN))
def test_low_rank(name: str, tmp_path: Path) -> None:
    from mlx_lm.utils import quantize_model

    config = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": RANK, "scale": 2.0}}
    model = mlx_models.build(CONFIGS[name])
    bases = [inspected(tmp_path / "plain", CONFIGS[name], tensors_of(model))]
    for hub_format, (own, changes) in FORMATS.items():
        if own == name:
            tensors = dict(tensors_of(model))
            for change in changes:
                tensors = change(tensors)
            bases.append(
                inspected(tmp_path / f"hub{len(bases)}", {**CONFIGS[name], **SAYS.get(hub_format, {})}, tensors.items())
            )
    adapter = looked_at.adapter(tmp_path / "adapter", config, adapted(mlx_models.build(CONFIGS[name]), "lora"))
    with contextlib.redirect_stdout(io.StringIO()):
        packed, packed_config = quantize_model(model, dict(CONFIGS[name]), 64, 4)
    bases.append(inspected(tmp_path / "packed", packed_config, tensors_of(packed)))
    for base in bases:
        assert looked_at.misfit(base, adapter) is None


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "phi3"])
def test_dora(name: str, tmp_path: Path) -> None:
    config = {"fine_tune_type": "dora", "num_layers": 4, "lora_parameters": {"rank": RANK, "scale": 2.0}}
    base = inspected(tmp_path / "base", CONFIGS[name], tensors_of(mlx_models.build(CONFIGS[name])))
    adapter = looked_at.adapter(tmp_path / "adapter", config, adapted(mlx_models.build(CONFIGS[name]), "dora"))
    assert looked_at.misfit(base, adapter) is None
    config["lora_parameters"] = {"rank": RANK + 1, "scale": 2.0}
    adapter = looked_at.adapter(tmp_path / "adapter", config, adapted(mlx_models.build(CONFIGS[name]), "dora"))
    assert "the base and the rank in its configuration want" in (looked_at.misfit(base, adapter) or "")


@pytest.mark.parametrize("other", ["llama", "qwen3", "gemma2", "mixtral", "deepseek_v3"])
def test_that_of_another_model(other: str, tmp_path: Path) -> None:
    """What mlx_lm says when it loads it, said at build."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters

    config = {"fine_tune_type": "lora", "num_layers": 4, "lora_parameters": {"rank": RANK, "scale": 2.0}}
    config["lora_parameters"] |= {"dropout": 0.0}
    model = mlx_models.build({**CONFIGS["llama"], "num_hidden_layers": 3, "head_dim": 64})
    base = inspected(tmp_path / "base", {**CONFIGS["llama"], "num_hidden_layers": 3, "head_dim": 64}, tensors_of(model))
    tensors = adapted(mlx_models.build(CONFIGS[other]), "lora")
    adapter = looked_at.adapter(tmp_path / "adapter", config, tensors)
    assert looked_at.misfit(base, adapter) is not None
    zeros = {name: mx.zeros(shape) for name, (_, shape) in tensors}
    mx.save_safetensors(str(tmp_path / "adapter" / "adapters.safetensors"), zeros)
    with pytest.raises((ValueError, KeyError)):
        load_adapters(model, str(tmp_path / "adapter"))
