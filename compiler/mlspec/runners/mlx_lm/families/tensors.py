"""The tensors of a model as mlx_lm loads them: what its `sanitize` renames, joins, splits, unpacks and leaves out.

Each step takes rows of a table and gives rows. Nothing is computed but shapes and types. What no family of mlx_lm loads
(towers that see or hear, heads that predict several tokens, tables of rotary embeddings) is left out for all: a family
that didn't leave it out would refuse the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlspec.runners.mlx_lm.families.config import Config
from mlspec.runners.mlx_lm.tensor_table import Row, below, covers, size

Rows = list[Row]
Step = Callable[[Rows, Config], Rows]

_LEFT_OUT = re.compile(
    r"rotary_emb\.|(^|\.)(vision_tower|vision_model|visual|multi_modal_projector|mm_projector|audio_tower|embed_audio"
    r"|embed_vision|vision_embedder|vision_adapter|vision_projection|patch_merge_mlp|mtp|mtp_\w+)\."
)
_LAYER = re.compile(r"(^|\.)(model|backbone|language_model|transformer)\.(layers|h)\.\*\.")
_EXPERT = re.compile(r"\bexperts\.\*\.(\w+)\.(weight|scales|biases|bias)$")
_PROJECTIONS = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


def left_out(rows: Rows, config: Config) -> Rows:
    """Without what no family loads: other towers, and layers after the last, which predict further tokens."""
    kept = (_in_model(row, config) for row in rows if not _LEFT_OUT.search(row.name))
    return [row for row in kept if row is not None]


def _in_model(row: Row, config: Config) -> Row | None:
    return below(row, config.layers) if _LAYER.search(row.name) else row


def convolutions(rows: Rows, config: Config) -> Rows:
    """Convolutions of one channel each have their channels last in mlx."""
    return [_convolution(row) for row in rows]


def _convolution(row: Row) -> Row:
    if len(row.shape) != 3 or row.shape[1] != 1 or not re.search(r"conv\w*\.weight$", row.name):
        return row
    return row.but(shape=(row.shape[0], row.shape[2], 1))


def untied(rows: Rows, config: Config) -> Rows:
    """Without a head of its own where the embedding is the head."""
    if not config.flag("tie_word_embeddings"):
        return rows
    return [row for row in rows if not re.search(r"(^|\.)lm_head\.\w+$", row.name)]


def dequantized(rows: Rows, config: Config) -> Rows:
    """8-bit floats with a scale for each block become bfloat16 as they are loaded; the scales go."""
    scaled = {name.removesuffix("_scale_inv") for row in rows if (name := row.name).endswith("_scale_inv")}
    kept = [row for row in rows if not row.name.endswith(("_scale_inv", "activation_scale"))]
    return [row.but(dtype="BF16") if row.name in scaled else row for row in kept]


def unpacked(rows: Rows, config: Config) -> Rows:
    """4-bit weights of compressed-tensors, AWQ and GPTQ become mlx's: words, scales and biases."""
    return [new for row in rows for new in _unpacked(row)]


def _unpacked(row: Row) -> Rows:
    name, shape = row.name, row.shape
    if name.endswith((".weight_shape", ".qzeros", ".weight_zero_point")):
        return []
    if name.endswith(".weight_packed"):
        return [words(row).but(name=name.removesuffix("_packed"))]
    if name.endswith(".weight_scale"):
        new = row.but(name=name.removesuffix("weight_scale") + "scales")
        return [new] if row.dtype == "U8" else [new, new.but(name=name.removesuffix("weight_scale") + "biases")]
    if name.endswith(".qweight") and len(shape) == 2:
        return [row.but(name=name.removesuffix("qweight") + "weight", dtype="U32", shape=(shape[1] * 8, shape[0] // 8))]
    return [row]


def awq(rows: Rows, config: Config) -> Rows:
    """The scales of AWQ and GPTQ lie the other way, and have biases in mlx."""
    packed = {row.name.removesuffix(".qweight") for row in rows if row.name.endswith(".qweight")}
    turned = (_turned(row, packed) for row in rows)
    return [new for part in turned for new in part]


def _turned(row: Row, packed: set[str]) -> Rows:
    module, _, leaf = row.name.rpartition(".")
    if module not in packed or leaf != "scales":
        return [row]
    scales = row.but(shape=row.shape[::-1])
    return [scales, scales.but(name=f"{module}.biases")]


def stacked(inside: str = "switch_mlp", **projections: str) -> Step:
    """Experts that lie one by one become one tensor with a row for each, below `inside`."""
    names = _PROJECTIONS | projections

    def step(rows: Rows, config: Config) -> Rows:
        return [_stacked(row, inside, names) for row in rows]

    return step


def _stacked(row: Row, inside: str, names: dict[str, str]) -> Row:
    found = _EXPERT.search(row.name)
    if found is None or row.layers is None:
        return row
    layers = size(row.layers)
    name = f"{row.name[: found.start()]}{inside}.{names.get(found[1], found[1])}.{found[2]}"
    return row.but(name=name, shape=(row.count // layers, *row.shape), count=layers)


@dataclass(frozen=True)
class Renamed:
    """Names by regular expressions, one after the other."""

    rules: tuple[tuple[str, str], ...]

    def __call__(self, rows: Rows, config: Config) -> Rows:
        return [row.but(name=self._name(row.name)) for row in rows]

    def _name(self, name: str) -> str:
        for old, new in self.rules:
            name = re.sub(old, new, name)
        return name


def renamed(*rules: tuple[str, str]) -> Step:
    return Renamed(rules)


@dataclass(frozen=True)
class Split:
    """A tensor that holds several of one size, one after the other along `axis`; `turned` ones lie the other way."""

    pattern: str
    names: tuple[str, ...]
    axis: int = -2
    turned: bool = False

    def __call__(self, rows: Rows, config: Config) -> Rows:
        return [new for row in rows for new in self._parts(row)]

    def _parts(self, row: Row) -> Rows:
        if not re.search(self.pattern, row.name) or len(row.shape) < 2:
            return [row]
        shape = list(row.shape)
        shape[self.axis] //= len(self.names)
        if self.turned:
            shape[-2:] = shape[-1], shape[-2]
        return [row.but(name=re.sub(self.pattern, name, row.name), shape=tuple(shape)) for name in self.names]


def turned(pattern: str) -> Step:
    """Tensors whose last two dimensions change places."""

    def step(rows: Rows, config: Config) -> Rows:
        return [
            row.but(shape=(*row.shape[:-2], row.shape[-1], row.shape[-2]))
            if re.search(pattern, row.name) and len(row.shape) >= 2
            else row
            for row in rows
        ]

    return step


def without(pattern: str) -> Step:
    def step(rows: Rows, config: Config) -> Rows:
        return [row for row in rows if not re.search(pattern, row.name)]

    return step


def absorbed(rows: Rows, config: Config) -> Rows:
    """Latent attention: what unfolds keys and values becomes two tensors with a row for each head."""
    if not any(".kv_b_proj." in row.name for row in rows):
        return rows
    heads, keys = config.heads, config.count("qk_nope_head_dim")
    values, rank = config.count("v_head_dim"), config.count("kv_lora_rank")
    return [new for row in rows for new in _absorbed(row, heads, keys, values, rank)]


def _absorbed(row: Row, heads: int, keys: int, values: int, rank: int) -> Rows:
    if ".kv_b_proj." not in row.name or len(row.shape) != 2:
        return [row]
    # Packed rows are shorter, and both parts stay as much shorter; what is stored wouldn't divide otherwise.
    last = row.shape[-1]
    embed, unembed = (row.name.replace(".kv_b_proj.", f".{name}.") for name in ("embed_q", "unembed_out"))
    return [
        row.but(name=embed, shape=(heads, rank, keys * last // rank)),
        row.but(name=unembed, shape=(heads, values, last)),
    ]


def nested(rows: Rows, config: Config) -> Rows:
    """All names below `language_model`, as models that see have them."""
    return [row.but(name=_nested(row.name)) for row in rows]


def _nested(name: str) -> str:
    if name.startswith("language_model."):
        return name
    if name.startswith("model.language_model."):
        return "language_model.model." + name.removeprefix("model.language_model.")
    return f"language_model.{name}"


def unnested(rows: Rows, config: Config) -> Rows:
    """The names of a language model that was stored below `language_model`."""
    rules = ((r"^model\.language_model\.", "model."), (r"^language_model\.", ""))
    return Renamed(rules)(rows, config)


def in_layers_of(rows: Iterable[Row], marker: str, number: int) -> bool:
    """Whether the layer holds a tensor with this in its name."""
    return any(marker in row.name and row.layers is not None and covers(row.layers, number) for row in rows)


def words(row: Row) -> Row:
    """The same bytes as words of 32 bits."""
    return (
        row.but(dtype="U32", shape=(*row.shape[:-1], row.shape[-1] // 4))
        if row.dtype != "I32"
        else row.but(dtype="U32")
    )
