"""The arithmetic of low-rank adapters, of one for all rows or another for each."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear

from .runtime_adapter_rows import Rows
from .runtime_slot_tensors import Tensors

NORMS_AT_ONCE = 1024
"""Of so many outputs the weights are unpacked at once, while DoRA's factors are computed."""


def delta(x: mx.array, rows: Rows, tensors: Tensors, *, transposed: bool = False) -> mx.array:
    """What the adapters add to the outputs of `x` [rows, ..., inputs]."""
    if rows.one is not None:
        a, b = tensors.of(rows.one.slot)
        if transposed:
            a, b = b.T, a.T
        return (rows.one.scale * ((x @ a) @ b)).astype(x.dtype)
    a, b = tensors.all
    if transposed:
        a, b = b.swapaxes(-1, -2), a.swapaxes(-1, -2)
    # A matrix for each row, whose tokens are the next to last dimension.
    flat = x[:, None] if x.ndim == 2 else x
    index = rows.index(len(flat), flat.ndim - 2)
    z = mx.gather_mm(mx.gather_mm(flat, a, rhs_indices=index), b, rhs_indices=index)
    z = (rows.scales(z) * z).astype(x.dtype)
    return z[:, 0] if x.ndim == 2 else z


def scaled(y: mx.array, rows: Rows, tensors: Tensors) -> mx.array:
    """DoRA's factor of each output; 1 for what has none."""
    factor = tensors.factor(rows)
    if factor is None:
        return y
    if rows.one is None:
        factor = factor[rows.index(len(y), y.ndim - 1)]
    return factor.astype(y.dtype) * y


def shape_of(module: Any) -> tuple[int, int]:
    """Of the weights of a linear layer [outputs, inputs] or an embedding [tokens, width], unpacked."""
    rows, columns = module.weight.shape
    packed = isinstance(module, QuantizedLinear | QuantizedEmbedding)
    return (rows, columns * 32 // module.bits) if packed else (rows, columns)


def norms(module: Any, left: mx.array, right: mx.array) -> mx.array:
    """Of each row of the module's weights with `left` times `right` added."""
    found = []
    for start in range(0, len(left), NORMS_AT_ONCE):
        rows = slice(start, start + NORMS_AT_ONCE)
        found.append(mx.linalg.norm(_weight(module, rows) + left[rows] @ right, axis=1))
        mx.eval(found[-1])
    return mx.concatenate(found)


def _weight(module: Any, rows: slice) -> mx.array:
    """Some rows of its weights, unpacked."""
    weight: mx.array = module.weight[rows]
    if not isinstance(module, QuantizedLinear | QuantizedEmbedding):
        return weight
    biases = module.get("biases")
    packing = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
    return mx.dequantize(weight, module.scales[rows], None if biases is None else biases[rows], **packing)
