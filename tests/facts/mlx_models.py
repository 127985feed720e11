"""Small models as mlx_lm makes them of a configuration. Everything here imports mlx when it is called."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from mlspec.model_files import Tensor

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "uint32": "U32", "uint8": "U8", "int32": "I32"}
TOKENS = 5


def build(config: Mapping[str, Any]) -> Any:
    """The model with random weights, in float32."""
    from mlx_lm.utils import _get_classes

    own = copy.deepcopy(dict(config))
    model_class, args_class = _get_classes(own)
    model = model_class(args_class.from_dict(own))
    model.eval()
    return model


def parameters(model: Any) -> dict[str, Any]:
    from mlx.utils import tree_flatten

    return dict(tree_flatten(model.parameters()))


def cast(model: Any, dtype: str, *, converting: bool = False) -> None:
    """All floats to a type; `converting` as mlx_lm.convert does, which leaves some."""
    import mlx.core as mx
    from mlx.utils import tree_map_with_path

    wanted = getattr(model, "cast_predicate", lambda _: True) if converting else lambda _: True

    def one(name: str, value: Any) -> Any:
        floats = mx.issubdtype(value.dtype, mx.floating) and wanted(name)
        return value.astype(getattr(mx, dtype)) if floats else value

    model.update(tree_map_with_path(one, model.parameters()))


def quantize_experts(model: Any) -> None:
    """MLX on a CPU multiplies experts in float32 or quantized alone: in bfloat16 they would stop a run."""
    import mlx.nn as nn
    from mlx_lm.models.switch_layers import SwitchLinear

    nn.quantize(model, 64, 4, class_predicate=lambda _, module: isinstance(module, SwitchLinear))


def header(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors as a safetensors header tells them."""
    return {name: Tensor(dtype_of(value), tuple(value.shape), value.nbytes) for name, value in tensors.items()}


def dtype_of(value: Any) -> str:
    return DTYPES[str(value.dtype).rpartition(".")[2]]


def cached(model: Any) -> Counter[tuple[str, int | None]]:
    """What the caches hold after a few tokens: elements a token by the kind of cache and its window, and of constant
    states the bytes (under `state`).
    """
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    caches = make_prompt_cache(model)
    mx.eval(model(mx.array([list(range(TOKENS))]), cache=caches))
    found: Counter[tuple[str, int | None]] = Counter()
    for one in _parts(caches):
        found.update(_held(one))
    return found


def _parts(caches: Iterable[Any]) -> Iterable[Any]:
    for one in caches:
        yield from _parts(one.caches) if hasattr(one, "caches") else (one,)


def _held(cache: Any) -> dict[tuple[str, int | None], int]:
    if hasattr(cache, "cache"):
        return {("state", None): sum(array.nbytes for array in cache.cache if array is not None)}
    if cache.keys is None:
        return {}
    elements = sum(array.shape[1] * array.shape[3] for array in (cache.keys, cache.values))
    window = getattr(cache, "chunk_size", None) or getattr(cache, "max_size", None)
    kind = "chunked" if hasattr(cache, "chunk_size") else "full" if window is None else "window"
    return {(kind, window): elements}


def plain(name: str) -> str:
    """A parameter's name with a `*` for each number."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", name)
