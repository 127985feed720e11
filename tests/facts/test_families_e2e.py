"""The families against mlx_lm: a small model of each is made, run and converted, and what was predicted of it is
compared with what it is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
from collections import Counter
from typing import Any

import pytest

from facts import mlx_models
from facts.small_configs import CONFIGS
from mlspec.runners.mlx_lm.architecture import Architecture, Layers
from mlspec.runners.mlx_lm.families import Shape, shape_of
from mlspec.runners.mlx_lm.families.contradictions import contradiction
from mlspec.runners.mlx_lm.families.known import FAMILIES, REMAPPED, REMAPPED_ARCHITECTURES
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.weights import quantizable, weight_bytes

pytestmark = pytest.mark.e2e

NEEDS_METAL = {"bitnet"}
"""Their kernels are Metal's own: no run on a CPU."""

CANT_QUANTIZE = {"afm7"}
"""mlx_lm 0.32.2 raises: its layers take no mode."""

SETTINGS: tuple[tuple[str, int, int | None], ...] = (
    ("affine", 4, 64),
    ("affine", 3, 32),
    ("affine", 8, 128),
    ("mxfp4", 4, None),
    ("mxfp8", 8, None),
    ("nvfp4", 4, None),
)


def shape(name: str, model: Any) -> Shape:
    return shape_of(CONFIGS[name], mlx_models.header(mlx_models.parameters(model)))


def details(found: Shape, config: dict[str, Any]) -> dict[str, Any]:
    """The facts that the bytes of weights follow from."""
    return {
        "families": list(found.families),
        "tensors": [row.as_data() for row in found.stored],
        "loaded": None if found.loaded == found.stored else [row.as_data() for row in found.loaded],
        "quantization": config.get("quantization"),
    }


def predicted(architecture: Architecture) -> Counter[tuple[str, int | None]]:
    found: Counter[tuple[str, int | None]] = Counter()
    for group in architecture.keeps:
        found[("full" if group.cache == "latent" else group.cache, group.window)] += group.count * held(group)
    return found


def held(group: Layers) -> int:
    """Elements a token, or the bytes of a state where the model's type has 16 bits."""
    if group.cache == "state":
        return 2 * group.state_elements + 2 * group.state_float32
    return group.kv_heads * (group.key_dim + group.value_dim)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parameters(name: str) -> None:
    model = mlx_models.build(CONFIGS[name])
    found, tensors = shape(name, model), mlx_models.parameters(model)
    assert (found.architecture.known, found.unreadable) == (True, None)
    assert found.architecture.parameters == sum(value.size for value in tensors.values())
    assert found.architecture.layers == len(model.layers)
    assert found.architecture.vocabulary == 320
    assert contradiction(CONFIGS[name], found) is None
    # What mlx_lm wrote it loads as it is.
    assert found.loaded == found.stored


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - NEEDS_METAL))
def test_caches(name: str) -> None:
    model = mlx_models.build(CONFIGS[name])
    found = shape(name, model)
    mlx_models.cast(model, "bfloat16")
    mlx_models.quantize_experts(model)
    assert +mlx_models.cached(model) == +predicted(found.architecture)


@pytest.mark.parametrize(("mode", "bits", "group_size"), SETTINGS)
@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - CANT_QUANTIZE))
def test_conversion(name: str, mode: Any, bits: Any, group_size: Any) -> None:
    from mlx_lm.utils import quantize_model

    model = mlx_models.build(CONFIGS[name])
    mlx_models.cast(model, "bfloat16")
    found = shape(name, model)
    facts, quantization = details(found, {}), Quantization.model_construct(bits=bits, group_size=group_size, mode=mode)
    assert quantizable(facts)
    # Half of the modes with a cast, as `mlx_lm.convert --dtype float32` makes it.
    element_bytes = 4 if mode in ("mxfp4", "affine") and bits == 4 else None
    if element_bytes:
        mlx_models.cast(model, "float32", converting=True)
    with contextlib.redirect_stdout(io.StringIO()):
        model, config = quantize_model(model, dict(CONFIGS[name]), group_size, bits, mode=mode)
    converted = mlx_models.parameters(model)
    real = sum(value.nbytes for value in converted.values())
    assert weight_bytes(facts, quantization, element_bytes) == real
    again = shape_of(config, mlx_models.header(converted))
    assert contradiction(config, again) is None
    facts = details(again, config)
    assert (weight_bytes(facts, None, None), quantizable(facts)) == (real, False)
    assert again.architecture.parameters == found.architecture.parameters
    assert again.architecture.active_parameters == found.architecture.active_parameters
    assert Packing.from_data(Packing.of(config).as_data()) == Packing.of(config)


@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen3_next", "deepseek_v3"])
@pytest.mark.parametrize("element_bytes", [None, 2, 4])
def test_casting(name: str, element_bytes: int | None) -> None:
    model = mlx_models.build(CONFIGS[name])
    facts = details(shape(name, model), {})
    if element_bytes == 2:
        mlx_models.cast(model, "float16")
    real = sum(value.nbytes for value in mlx_models.parameters(model).values())
    assert weight_bytes(facts, None, element_bytes) == real


def test_what_mlx_lm_cannot_quantize() -> None:
    for name in CANT_QUANTIZE:
        assert not quantizable(details(shape(name, mlx_models.build(CONFIGS[name])), {}))


def test_model_types_that_are_served_by_others() -> None:
    from mlx_lm import utils

    known = {old: new for old, new in utils.MODEL_REMAPPING.items() if new in FAMILIES}
    assert dict(REMAPPED) == known
    assert dict(REMAPPED_ARCHITECTURES) == utils.MODEL_ARCHITECTURE_REMAPPING


MODULES = {"qwen3_5_text": "qwen3_5", "kimi_k3_text": "kimi_k3"}


def defaults_of(name: str) -> dict[str, Any]:
    """What the ModelArgs of a family give keys that are missing."""
    module = importlib.import_module("mlx_lm.models." + MODULES.get(name, name))
    classes = [getattr(module, kind, None) for kind in ("TextModelArgs", "TextArgs", "TextConfig", "ModelArgs")]
    args = next(kind for kind in classes if kind is not None)
    return {field.name: field.default for field in dataclasses.fields(args) if type(field.default) in (int, bool)}


@pytest.mark.parametrize("name", sorted(name for name in FAMILIES if not FAMILIES[name].inside))
def test_defaults(name: str) -> None:
    """A key that a configuration lacks has the value that mlx_lm gives it."""
    family, theirs = FAMILIES[name], defaults_of(name)
    ours = {family.names.get(key, key): value for key, value in family.defaults.items()}
    assert {key: ours[key] for key in ours.keys() & theirs} == {key: theirs[key] for key in ours.keys() & theirs}


@pytest.mark.parametrize("name", sorted(name for name in CONFIGS if name in FAMILIES and not FAMILIES[name].inside))
def test_what_may_be_missing(name: str) -> None:
    """A configuration with what mlx_lm has no defaults for is enough."""
    config, missing = CONFIGS[name], defaults_of(name).keys() - {"num_experts_per_tok", "num_hidden_layers"}
    text = config.get("text_config", config)
    short = {key: value for key, value in text.items() if key not in missing}
    found = shape_of({**config, "text_config": short} if text is not config else short, {})
    assert (found.architecture.known, found.unreadable) == (True, None)
