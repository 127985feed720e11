"""Small networks with adapters by chance: as the service has them in a batch, and as mlx_lm has one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec_runtime.generate.job import Step
from mlspec_runtime.generate.messages import Sampling
from models.shapes import Shape, network

STRENGTH = {"lora": 1.0, "dora": 0.3, "full": 0.02}


def seeded(shape: Shape) -> Any:
    """A network of this shape, always the same."""
    import mlx.core as mx

    mx.random.seed(1)
    return network(shape)


def make_adapter(folder: Path, shape: Shape, seed: int, **options: Any) -> Path:
    """An adapter of a network of this shape."""
    return write_adapter(folder, seeded(shape), seed, **options)


def write_adapter(
    folder: Path,
    model: Any,
    seed: int,
    *,
    kind: str = "lora",
    keys: Sequence[str] = ("self_attn.q_proj", "self_attn.v_proj"),
    **changes: Any,
) -> Path:
    """An adapter of a model, which is not usable any more, as mlx_lm writes it; `changes` are of its rank, scale and
    number of layers.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers

    parameters = {"rank": 4, "scale": 3.0, "dropout": 0.5, "keys": list(keys), **changes}
    layers = parameters.pop("num_layers", 3)
    if kind != "full":
        model.freeze()
        linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
    mx.random.seed(100 + seed)
    tensors = dict(tree_flatten(model.trainable_parameters()))
    moved = {name: tensor + STRENGTH[kind] * _noise(tensor) for name, tensor in tensors.items()}
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), moved)
    config = {"fine_tune_type": kind, "num_layers": layers, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _noise(tensor: Any) -> Any:
    import mlx.core as mx

    return mx.random.normal(tensor.shape) / max(tensor.shape[-1], 16) ** 0.5


class Alone:
    """mlx_lm itself: its own layers, one adapter, one prompt after another."""

    def __init__(self, shape: Shape, adapter: Path | None) -> None:
        from mlx_lm.tuner.utils import load_adapters

        self._model = seeded(shape)
        if adapter is not None:
            load_adapters(self._model, str(adapter))  # type: ignore[arg-type]
        self._model.eval()

    def answer(self, prompt: Sequence[int], tokens: int) -> list[int]:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        return [int(token) for token, _ in generate_step(mx.array(list(prompt)), self._model, max_tokens=tokens)]


class Loaded:
    """What `LoadedModel` is, of a network without files or tokenizer."""

    stop_tokens: tuple[int, ...] = ()

    def __init__(self, shape: Shape, folders: Mapping[str, Path], **options: Any) -> None:
        from mlspec.runners.mlx_lm.runtime_adapters import Adapters

        self.model = seeded(shape)
        self.adapters = Adapters(self.model, folders, **options)

    def wire(self) -> None:
        """No limit was planned."""


class Together:
    """The runner's batch; rows are known by their numbers."""

    def __init__(self, loaded: Loaded, **options: Any) -> None:
        from mlspec.runners.mlx_lm.runtime_mlx import BatchedModel

        usual = {"concurrency": 8, "prefill_step": 16}
        self.model = BatchedModel(loaded, **{**usual, **options})  # type: ignore[arg-type]
        self.answers: dict[int, list[int]] = {}
        self.reused: dict[int, int] = {}
        self.ended: set[int] = set()

    def start(self, prompt: Sequence[int], adapter: str, tokens: int = 12) -> int:
        """The number of a new row."""
        started = self.model.start(list(prompt), Sampling(max_tokens=tokens), adapter)
        self.answers[started.row], self.reused[started.row] = [], started.reused_tokens
        return started.row

    def drop(self, row: int) -> None:
        self.model.drop([row])
        self.ended.add(row)

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for step in self.model.step():
                self._take(step)
            self.model.settle()

    def _take(self, step: Step) -> None:
        self.answers[step.row].append(step.token)
        if step.finish_reason is not None:
            self.ended.add(step.row)

    def finish(self) -> None:
        """Go on until all rows have ended."""
        while self.answers.keys() - self.ended:
            self.step()

    def answer(self, prompt: Sequence[int], adapter: str, tokens: int = 12) -> list[int]:
        """Of one row by itself."""
        row = self.start(prompt, adapter, tokens)
        self.finish()
        return self.answers[row]
