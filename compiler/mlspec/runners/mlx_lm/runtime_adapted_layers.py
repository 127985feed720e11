"""Layers with several low-rank adapters at once, a slot for each: `LoRALinear` and its kin of mlx_lm (0.32.2), which
have one, compute the same.

Rows without an adapter cost nothing where all are so; rows of one adapter cost its two products; with several, each
row is multiplied by the matrices of its own slot (`gather_mm`), as fast as plain products of as many rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from .runtime_adapter_files import LORA_A, LORA_B, MAGNITUDE
from .runtime_adapter_rows import Rows, Selection
from .runtime_low_rank import delta, norms, scaled, shape_of
from .runtime_slot_tensors import Room, Tensors


class AdaptedLayer(Module):
    """What the layers have in common. The layer that is adapted keeps the place that mlx_lm gives it."""

    def __init__(self, selection: Selection, tensors: Tensors) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.selection = selection
        self.tensors = tensors

    def put(self, slot: int, scale: float, given: Mapping[str, mx.array]) -> None:
        """Put an adapter's tensors into a slot. With `m` it is DoRA's."""
        a, b, m = given[LORA_A], given[LORA_B], given.get(MAGNITUDE)
        self.tensors.put(slot, a, b, None if m is None else m / self._norms(scale, a, b))

    def _norms(self, scale: float, a: mx.array, b: mx.array) -> mx.array:
        """Of the weights of each output as this adapter changes them."""
        raise NotImplementedError


class AdaptedLinear(AdaptedLayer):
    """Around `nn.Linear` and `nn.QuantizedLinear`: `a` [slots, inputs, rank], `b` [slots, rank, outputs]."""

    can_mix = True

    def __init__(self, linear: Any, selection: Selection, room: Room) -> None:
        outputs, inputs = shape_of(linear)
        super().__init__(selection, Tensors(room, (inputs, room.rank), (room.rank, outputs), outputs))
        self.linear = linear
        # DoRA's factor is for all but the bias.
        if room.magnitudes and "bias" in linear:
            self.bias = linear.pop("bias")

    @staticmethod
    def shapes(linear: Any) -> dict[str, tuple[int | None, ...]]:
        """Of an adapter's tensors; the rank is open."""
        outputs, inputs = shape_of(linear)
        return {LORA_A: (inputs, None), LORA_B: (None, outputs), MAGNITUDE: (outputs,)}

    def _norms(self, scale: float, a: mx.array, b: mx.array) -> mx.array:
        return norms(self.linear, scale * b.T, a.T)

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.linear(x)
        rows = self.selection.rows
        if not rows.slots.isdisjoint(self.tensors.held):
            y = scaled(y + delta(x, rows, self.tensors), rows, self.tensors)
        return y + self.bias if "bias" in self else y


class AdaptedEmbedding(AdaptedLayer):
    """Around `nn.Embedding` and `nn.QuantizedEmbedding`: `a` [slots, vocabulary, rank], `b` [slots, rank, width]."""

    can_mix = True

    def __init__(self, embedding: Any, selection: Selection, room: Room) -> None:
        tokens, width = shape_of(embedding)
        super().__init__(selection, Tensors(room, (tokens, room.rank), (room.rank, width), tokens))
        self.embedding = embedding

    @staticmethod
    def shapes(embedding: Any) -> dict[str, tuple[int | None, ...]]:
        """Of an adapter's tensors; the rank is open."""
        tokens, width = shape_of(embedding)
        return {LORA_A: (tokens, None), LORA_B: (None, width), MAGNITUDE: (tokens,)}

    def _norms(self, scale: float, a: mx.array, b: mx.array) -> mx.array:
        return norms(self.embedding, scale * a, b)

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.embedding(x)
        rows = self.selection.rows
        if rows.slots.isdisjoint(self.tensors.held):
            return y
        if rows.one is not None:
            a, b = self.tensors.of(rows.one.slot)
            z = rows.one.scale * (a[x] @ b)
        else:
            a, b = self.tensors.all
            z = mx.gather_mm(a[rows.index(len(x), 2), x], b, rhs_indices=rows.index(len(x)))
            z = rows.scales(z) * z
        return self._scaled_tokens(y + z.astype(y.dtype), x, rows)

    def _scaled_tokens(self, y: mx.array, x: mx.array, rows: Rows) -> mx.array:
        factor = self.tensors.factor(rows)
        if factor is None:
            return y
        of_tokens = factor[x] if rows.one is not None else factor[rows.index(len(x), 2), x]
        return of_tokens[..., None].astype(y.dtype) * y

    def as_linear(self, x: mx.array) -> mx.array:
        """The logits, where they are computed with the embedding's weights."""
        y: mx.array = self.embedding.as_linear(x)
        rows = self.selection.rows
        if rows.slots.isdisjoint(self.tensors.held):
            return y
        return scaled(y + delta(x, rows, self.tensors, transposed=True), rows, self.tensors)


class AdaptedSwitchLinear(AdaptedLayer):
    """Around the experts' layers: `a` [slots, experts, rank, inputs], `b` [slots, experts, outputs, rank]. They are
    called with tokens sorted by expert, of which nothing says to which row they belong: one adapter at a time.
    """

    can_mix = False

    def __init__(self, linear: Any, selection: Selection, room: Room) -> None:
        experts, outputs, inputs = linear.num_experts, linear.output_dims, linear.input_dims
        a, b = (experts, room.rank, inputs), (experts, outputs, room.rank)
        super().__init__(selection, Tensors(room, a, b, outputs))
        self.linear = linear

    @staticmethod
    def shapes(linear: Any) -> dict[str, tuple[int | None, ...]]:
        """Of an adapter's tensors; the rank is open. mlx_lm has no DoRA of experts."""
        experts = linear.num_experts
        return {LORA_A: (experts, None, linear.input_dims), LORA_B: (experts, linear.output_dims, None)}

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        y: mx.array = self.linear(x, indices, sorted_indices=sorted_indices)
        rows = self.selection.rows
        if rows.slots.isdisjoint(self.tensors.held):
            return y
        if rows.one is None:
            raise RuntimeError("rows of several adapters met in a layer of experts")
        z = x
        for matrices in self.tensors.of(rows.one.slot):
            z = mx.gather_mm(z, matrices.swapaxes(-1, -2), rhs_indices=indices, sorted_indices=sorted_indices)
        return y + (rows.one.scale * z).astype(x.dtype)


Adapted = AdaptedLinear | AdaptedEmbedding | AdaptedSwitchLinear


def adapted_class(module: Any) -> type[Adapted] | None:
    """How a layer is adapted; None where mlx_lm doesn't load an adapter of it either."""
    if hasattr(module, "to_lora"):
        return None
    if isinstance(module, Linear | QuantizedLinear):
        return AdaptedLinear
    if isinstance(module, Embedding | QuantizedEmbedding):
        return AdaptedEmbedding
    return AdaptedSwitchLinear if isinstance(module, SwitchLinear | QuantizedSwitchLinear) else None
