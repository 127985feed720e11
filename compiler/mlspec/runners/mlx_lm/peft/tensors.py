"""The tensors of an adapter in PEFT's format, by module, and what they become."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from mlspec.characters import quoted
from mlspec.model_files import BadModelFileError, Tensor
from mlspec.runners.mlx_lm.peft.configuration import Obstacle, PeftConfiguration

PEFT_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
LEAVES: Mapping[str, str] = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b", "lora_magnitude_vector": "m"}
"""The ends of the tensors' names, and what mlx_lm calls them."""

ELEMENT_BYTES: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
_EMBEDDINGS = ("lora_embedding_A", "lora_embedding_B")


class NotConvertibleError(ValueError):
    """A tensor that mlx_lm has nothing for."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.reason)
        self.obstacle = obstacle


@dataclass(frozen=True)
class Module:
    """An adapted module: its path in the model, its tensors as stored by mlx_lm's name, its rank and scale."""

    path: str
    tensors: Mapping[str, Tensor]
    rank: int
    scale: float


@dataclass(frozen=True)
class PeftAdapter:
    """mlx_lm has one rank and one scale for an adapter: all are filled up with zeros to the largest `rank`, and what a
    module's scale differs from `scale` by goes into its lora_b.
    """

    dora: bool
    rank: int
    scale: float
    modules: tuple[Module, ...]

    @property
    def kind(self) -> str:
        return "dora" if self.dora else "lora"

    def converted(self) -> dict[str, Tensor]:
        """The tensors that mlx_lm will have, by name."""
        return {
            f"{module.path}.{leaf}": _converted(leaf, tensor, self.rank)
            for module in self.modules
            for leaf, tensor in module.tensors.items()
        }

    def factor(self, module: Module) -> float:
        """What a module's lora_b is to be multiplied by."""
        return module.scale / self.scale if self.scale else 1.0


def read_adapter(configuration: PeftConfiguration, found: Mapping[str, Tensor]) -> PeftAdapter:
    """The adapter of this configuration and these tensors.

    Raises:
        NotConvertibleError: a tensor is none of a linear layer's adapter.
        BadModelFileError: tensors are missing, or don't go together.
    """
    by_module: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in found.items():
        path, leaf = _placed(name)
        by_module[path][leaf] = tensor
    if not by_module:
        raise BadModelFileError(f"{PEFT_WEIGHTS}: holds no tensor")
    modules = tuple(_module(path, tensors, configuration) for path, tensors in sorted(by_module.items()))
    rank = max(module.rank for module in modules)
    return PeftAdapter(configuration.dora, rank, _commonest(modules), modules)


def _placed(name: str) -> tuple[str, str]:
    """The path of the module that a tensor belongs to, and mlx_lm's name for it there."""
    for end, leaf in LEAVES.items():
        if name.startswith(PREFIX) and name.endswith(f".{end}"):
            return name.removeprefix(PREFIX).removesuffix(f".{end}"), leaf
    if any(part in name for part in _EMBEDDINGS):
        reason = f"its tensor {quoted(name)} adapts an embedding: mlx_lm would adapt a head that is tied to it, too"
        raise NotConvertibleError(Obstacle(reason, "train it on linear layers alone"))
    reason = f"it holds the tensor {quoted(name)}, which belongs to no low-rank adapter of a linear layer"
    raise NotConvertibleError(Obstacle(reason, "train it on linear layers alone, with modules_to_save empty"))


def _module(path: str, tensors: Mapping[str, Tensor], configuration: PeftConfiguration) -> Module:
    wanted = [leaf for leaf in LEAVES.values() if leaf != "m" or configuration.dora]
    for name, leaf in LEAVES.items():
        if (leaf in tensors) != (leaf in wanted):
            told = "lacks its" if leaf in wanted else "has no use_dora in its configuration, but has a"
            raise _bad(path, f"{told} {name}")
    rank = configuration.rank_of(path)
    _check_shapes(path, tensors, rank)
    return Module(path, tensors, rank, configuration.scale_of(path))


def _check_shapes(path: str, tensors: Mapping[str, Tensor], rank: int) -> None:
    for name, leaf in LEAVES.items():
        tensor = tensors.get(leaf)
        if tensor is None:
            continue
        told = " x ".join(map(str, tensor.shape)) or "a number"
        if tensor.dtype not in ELEMENT_BYTES:
            raise _bad(path, f"has a {name} of type {quoted(tensor.dtype)}; read are {', '.join(ELEMENT_BYTES)}")
        if len(tensor.shape) != (1 if leaf == "m" else 2):
            raise NotConvertibleError(
                Obstacle(f"{quoted(path)} has a {name} of {told}: no linear layer's", "train it on linear layers alone")
            )
        own = {"lora_a": tensor.shape[0], "lora_b": tensor.shape[-1]}.get(leaf, rank)
        if own != rank:
            raise _bad(path, f"has a {name} of {told}, its rank by the configuration is {rank}")


def _converted(leaf: str, tensor: Tensor, rank: int) -> Tensor:
    shapes = {"lora_a": (tensor.shape[-1], rank), "lora_b": (rank, tensor.shape[0]), "m": tensor.shape}
    shape = shapes[leaf]
    return Tensor(tensor.dtype, shape, prod(shape) * ELEMENT_BYTES[tensor.dtype])


def _commonest(modules: tuple[Module, ...]) -> float:
    """The scale of most modules, so that as few as can be are multiplied; 0 only if all are."""
    counts = Counter(module.scale for module in modules if module.scale)
    return max(counts, key=lambda scale: (counts[scale], scale), default=0.0)


def _bad(path: str, reason: str) -> BadModelFileError:
    return BadModelFileError(f"{PEFT_WEIGHTS}: {quoted(path)} {reason}")
