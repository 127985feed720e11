"""The `model` block of MLX language models, and the rules that a schema can't state."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.spec import Source
from mlspec.runners import Faults
from mlspec.suggest import did_you_mean, listed

Bits = Literal[2, 3, 4, 5, 6, 8]
GroupSize = Literal[16, 32, 64, 128]
Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
KvBits = Literal[4, 8, 16]

BASE = "base"
"""What a request names to get the model without an adapter."""


class Adapter(Source):
    """An adapter, in mlx_lm's format or PEFT's, and the name by which requests choose it. With `preload` it is in
    memory from the start, else from its first request on.
    """

    name: str
    preload: bool = True


class Sampling(Frozen):
    """What a request gets that doesn't say otherwise. `temperature` 0 is greedy; `top_k` and `min_p` 0 are off."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Quantization(Frozen):
    """How a build quantizes the base model. `group_size` None is the mode's usual one."""

    bits: Bits = 4
    group_size: GroupSize | None = None
    mode: Mode = "affine"


class MlxLmModel(Frozen):
    """`context_length` is in tokens, prompt and answer together; `kv_bits` 16 is a cache in the model's own type.

    `prefill_step` is in tokens, `prompt_cache_mb` in 2^20 bytes. `chat_template` is a file of the project, None the
    model's own; `max_loaded_adapters` are in memory at once.
    """

    runner: str
    task: Literal["generate"] = "generate"
    base: Source
    adapters: tuple[Adapter, ...] = ()
    default_adapter: str | None = None
    max_loaded_adapters: int | Literal["auto"] = "auto"
    chat_template: str | None = None
    system_prompt: str | None = None
    context_length: int | Literal["auto"] = "auto"
    quantization: Quantization | Literal["auto", "none"] = "none"
    kv_bits: KvBits = 16
    prefill_step: int | Literal["auto"] = "auto"
    prompt_cache_mb: int | Literal["auto"] = "auto"
    sampling: Sampling = Field(default_factory=Sampling.model_construct)


def check_model(model: MlxLmModel, faults: Faults, *, needs_adapter: bool = False) -> None:
    """That the adapters are there, and that the default is one of them."""
    if needs_adapter and not model.adapters:
        help = "add one under 'adapters', or take the runner 'mlx-lm', which needs none"
        faults.error("missing-adapter", f"the runner '{model.runner}' needs an adapter", ("runner",), help=help)
    _check_default(model, faults)
    for index, adapter in enumerate(model.adapters):
        if adapter.name == BASE:
            message = f"'{BASE}' is the model without an adapter: no adapter can have this name"
            faults.error("reserved-name", message, ("adapters", index, "name"), help="give it another name")


def _check_default(model: MlxLmModel, faults: Faults) -> None:
    names = (*(adapter.name for adapter in model.adapters), BASE)
    if model.default_adapter is None or model.default_adapter in names:
        return
    message = f"there is no adapter {quoted(model.default_adapter)}"
    help = did_you_mean(model.default_adapter, names) or f"this spec has {listed(names)}"
    faults.error("unknown-adapter", message, ("default_adapter",), help=help)
