"""What is predicted of a published model's tensors is what mlx_lm's own `sanitize` makes of them."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from facts import mlx_models
from facts.hub_formats import FORMATS, SAYS
from facts.small_configs import CONFIGS
from facts.sparse_model import BYTES
from mlspec.model_files import Tensor
from mlspec.runners.mlx_lm.families import shape_of
from mlspec.runners.mlx_lm.tensor_table import table

pytestmark = pytest.mark.e2e

READ_AS = {"F8_E4M3": "uint8", "F32": "float32", "U8": "uint8", "I32": "int32"}
"""As mx.load reads them."""


def zeros(dtype: str, shape: tuple[int, ...]) -> Any:
    import mlx.core as mx

    return mx.zeros(shape, getattr(mx, READ_AS[dtype]))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_is_loaded(name: str) -> None:
    config, changes = FORMATS[name]
    model = mlx_models.build(CONFIGS[config])
    own = mlx_models.parameters(model)
    tensors = {key: (mlx_models.dtype_of(value), tuple(value.shape)) for key, value in own.items()}
    for change in changes:
        tensors = change(tensors)
    sanitized = model.sanitize({key: zeros(*value) for key, value in tensors.items()})
    header = {key: Tensor(dtype, shape, prod(shape) * BYTES[dtype]) for key, (dtype, shape) in tensors.items()}
    found = shape_of({**CONFIGS[config], **SAYS.get(name, {})}, header)
    assert (found.architecture.known, found.loaded != found.stored) == (True, True)
    predicted = {(row.name, row.dtype, row.shape, row.count, row.layers) for row in found.loaded}
    real = table(mlx_models.header(sanitized))
    assert predicted == {(row.name, row.dtype, row.shape, row.count, row.layers) for row in real}
    if "bits" not in name and name != "gpt_oss":
        assert {key: value.shape for key, value in sanitized.items()} == {
            key: value.shape for key, value in own.items()
        }
        assert found.architecture.parameters == sum(value.size for value in own.values())
    assert found.architecture.active_parameters <= found.architecture.parameters
