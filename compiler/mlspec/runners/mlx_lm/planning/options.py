"""The candidates: how the base model's weights may be held, what each takes, and what mlx can't do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.model.facts import Facts
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.architecture import Architecture, Cache
from mlspec.runners.mlx_lm.footprint.cache import GROUP, kv_quantizable
from mlspec.runners.mlx_lm.model import GroupSize, MlxLmModel, Mode, Quantization
from mlspec.runners.mlx_lm.planning.policy import Option
from mlspec.runners.mlx_lm.weights import quantizable, weight_bytes
from mlspec.suggest import listed

AUTO_BITS = (8, 6, 5, 4)
"""What `auto` tries, in groups of 64, from mildest to strongest."""

LAST_RESORT_BITS = 3
"""Answers get visibly worse: better than no service, and not worth a longer context or more requests."""

_KV_STAYS: Mapping[Cache, str] = {
    "window": "a sliding window",
    "chunked": "attention in chunks",
    "latent": "latent attention",
}

SHAPES: Mapping[Mode, Mapping[int, tuple[GroupSize, ...]]] = {
    "affine": dict.fromkeys((2, 3, 4, 5, 6, 8), (64, 32, 128)),
    "mxfp4": {4: (32,)},
    "mxfp8": {8: (32,)},
    "nvfp4": {4: (16,)},
}
"""Bits and group sizes that `mx.quantize` (0.32.4) takes in each mode, the usual group size first."""


def whole(given: Quantization) -> Quantization:
    """The quantization with what the spec leaves open filled in: the mode's usual bits and group size."""
    shapes = SHAPES[given.mode]
    bits = given.bits if "bits" in given.model_fields_set or given.bits in shapes else min(shapes)
    group_size = given.group_size or shapes.get(bits, next(iter(shapes.values())))[0]
    return Quantization.model_construct(bits=bits, group_size=group_size, mode=given.mode)


def options(model: MlxLmModel, facts: Facts, loaded_bytes: int | None, element_bytes: int) -> tuple[Option, ...]:
    """What may be chosen, from mildest to strongest; one alone unless the spec says `auto`.

    Floats of a model as it is are cast to `loaded_bytes` each, None leaves them as they are stored; those of a model
    that the build quantizes are written with `element_bytes`.
    """
    details = facts.of("base").details
    if isinstance(model.quantization, Quantization):
        return (_option(details, whole(model.quantization), element_bytes),)
    as_it_is = _option(details, None, loaded_bytes)
    if model.quantization == "none" or why_not(model, facts) is not None:
        return (as_it_is,)
    bits = (*AUTO_BITS, LAST_RESORT_BITS)
    affine = (Quantization.model_construct(bits=b, group_size=64, mode="affine") for b in bits)
    return (as_it_is, *(_option(details, quantization, element_bytes) for quantization in affine))


def why_not(model: MlxLmModel, facts: Facts) -> str | None:
    """Why the base can't be quantized at build; None if it can."""
    details = facts.of("base").details
    if details["quantization"] is not None:
        return "the model is quantized already"
    kinds = {facts.of(f"adapters/{adapter.name}").details["fine_tune_type"] for adapter in model.adapters}
    if "full" in kinds:
        return "an adapter of kind full exchanges whole weights, which don't fit into quantized ones"
    return None if quantizable(details) else "no layer of the model can be quantized"


def check_quantization(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    """That mlx can do what the spec asks of weights and cache; False after a fault was reported."""
    return _check_weights(model, facts, faults) & _check_cache(model, facts, faults)


def _check_weights(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    if not isinstance(model.quantization, Quantization):
        return True
    reason, pointer = why_not(model, facts), ("quantization",)
    if reason is None:
        return _check_shape(model.quantization, faults)
    if facts.of("base").details["quantization"] is not None:
        help = "write 'none' or 'auto', or name the model that it was made from"
        faults.error("already-quantized", f"{reason}: it can't be quantized again", pointer, help=help)
    else:
        faults.error("not-quantizable", reason, pointer, help="leave 'quantization' out")
    return False


def _check_shape(given: Quantization, faults: Faults) -> bool:
    """That `mx.quantize` takes these bits and this group size together."""
    shapes, chosen = SHAPES[given.mode], whole(given)
    groups = shapes.get(chosen.bits, ())
    if chosen.group_size in groups:
        return True
    if not groups:
        message, pointer = f"{given.mode} has no {chosen.bits} bits", ("quantization", "bits")
        help = f"it has {listed((str(bits) for bits in shapes), 'or')}"
    else:
        message, pointer = f"{given.mode} has no groups of {chosen.group_size}", ("quantization", "group_size")
        help = f"it has groups of {listed((str(size) for size in sorted(groups)), 'or')}"
    faults.error("quantization-mode", message, pointer, help=help)
    return False


def _check_cache(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    """That every cache of the model has the form that mlx_lm can quantize."""
    architecture = Architecture.from_data(facts.of("base").details["architecture"])
    reason = None if model.kv_bits == 16 else kv_stays(architecture)
    if reason is not None:
        message = f"kv_bits {model.kv_bits}: {reason}"
        faults.error("kv-bits", message, ("kv_bits",), help="leave 'kv_bits' out; a shorter context saves memory, too")
        return False
    if model.kv_bits != 16 and model.prompt_cache_mb not in ("auto", 0):
        message = f"kv_bits {model.kv_bits}: the service keeps no prefixes with a quantized cache"
        faults.error("kv-bits", message, ("prompt_cache_mb",), help="leave one of 'kv_bits' and 'prompt_cache_mb' out")
        return False
    return True


def kv_stays(architecture: Architecture) -> str | None:
    """Why mlx_lm (0.32.2) can't quantize this model's cache; None if it can."""
    if kv_quantizable(architecture):
        return None
    kinds = {group.cache for group in architecture.keeps}
    told = next((text for kind, text in _KV_STAYS.items() if kind in kinds), None)
    if told is not None:
        return f"mlx_lm can't quantize the cache of {told}"
    sizes = sorted({size for group in architecture.keeps for size in (group.key_dim, group.value_dim) if size})
    return f"the model's heads have {listed(map(str, sizes))} elements, no multiple of {GROUP}"


def _option(details: Mapping[str, Any], quantization: Quantization | None, element_bytes: int | None) -> Option:
    size_bytes = weight_bytes(details, quantization, element_bytes)
    last_resort = quantization is not None and quantization.bits <= LAST_RESORT_BITS
    return Option(quantization, size_bytes, last_resort)
