"""The build side of MLX language models: their facts, the plan and the requirements."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import Decision, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.mlx_lm.facts import inspect_adapter, inspect_base
from mlspec.runners.mlx_lm.model import MlxLmModel, check_model

_HERE = Path(__file__).parent

_ADAPTERS = "adapters/"

AUTO_CONCURRENCY = 8
"""mlx_lm's own prefill batch (`BatchGenerator`, `prefill_batch_size`): what it takes in at once."""

OPENBLAS = "libopenblas.so.0"
"""Loaded before MLX on a Linux CPU: MLX's wheel links reference BLAS, whose float32 products are many times slower."""


class MlxLmRunner:
    """The runner `mlx-lm`; as `lora` it asks for an adapter."""

    runner_api = RUNNER_API
    tasks = ("generate",)
    package = "mlx_lm"
    modules = ("mlx", "mlx_lm")
    model_type = MlxLmModel

    def __init__(self, name: str = "mlx-lm", *, needs_adapter: bool = False) -> None:
        self.name = name
        self._needs_adapter = needs_adapter

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: MlxLmModel, faults: Faults) -> None:
        check_model(model, faults, needs_adapter=self._needs_adapter)

    def models(self, model: MlxLmModel) -> tuple[ModelRef, ...]:
        adapters = (
            ModelRef(_ADAPTERS + adapter.name, adapter, ("adapters", index))
            for index, adapter in enumerate(model.adapters)
        )
        return (ModelRef("base", model.base, ("base",)), *adapters)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        inspect = inspect_adapter if ref.role.startswith(_ADAPTERS) else inspect_base
        return inspect(ref, folder, faults)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        context = _context_length(spec.model, facts.of("base"), faults)
        if context is None or not _of_one_kind(spec.model, facts, faults):
            return None
        chosen = (context, _default_adapter(spec.model), _sampling(spec), _preload(target))
        concurrency = _concurrency(spec)
        settings = {
            "context_length": context.value,
            "adapters": [adapter.name for adapter in spec.model.adapters],
            "default_adapter": chosen[1].value,
            "sampling": chosen[2].value,
            "preload_blas": chosen[3].value,
        }
        packages = ("libopenblas0-pthread",) if settings["preload_blas"] else ()
        return RunnerPlan((*chosen, concurrency), settings, concurrency.value, {"HF_HUB_OFFLINE": "1"}, packages)

    def requirements(self, model: MlxLmModel, target: Target) -> tuple[str, ...]:
        lines = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8")
        return tuple(lines.splitlines())

    def runtime_files(self) -> Mapping[str, Path]:
        return {path.name: path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: MlxLmModel) -> Mapping[Pointer, str]:
        return {}


def _context_length(model: MlxLmModel, base: ModelFacts, faults: Faults) -> Decision | None:
    known: int | None = base.details.get("context_length")
    inputs = ("spec:/model/context_length", "facts:base/context_length")
    if model.context_length == "auto":
        if known is None:
            message = "the base model's config.json doesn't tell its context length"
            faults.error("context-length", message, (), help="set model.context_length, in tokens")
            return None
        return Decision("model.context_length", known, "the model's own, from its config.json", inputs)
    if known is not None and model.context_length > known:
        message = f"{model.context_length} tokens of context: the base model was made for {known}"
        faults.error("context-length", message, ("context_length",), help=f"at most {known}; leave it out for that")
        return None
    return Decision("model.context_length", model.context_length, "as the spec says", inputs[:1])


def _of_one_kind(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    """A swap exchanges tensors of layers that are wrapped once, for one kind of adapter."""
    kinds = [facts.of(_ADAPTERS + adapter.name).details["fine_tune_type"] for adapter in model.adapters]
    strange = next((index for index, kind in enumerate(kinds) if kind != kinds[0]), None)
    if strange is None:
        return True
    first, other = model.adapters[0].name, model.adapters[strange].name
    message = f"'{other}' is an adapter of kind {kinds[strange]}, '{first}' of kind {kinds[0]}: no service has both"
    faults.error("model-format", message, ("adapters", strange), help="give each kind a service of its own")
    return False


def _default_adapter(model: MlxLmModel) -> Decision:
    key, inputs = "model.default_adapter", ("spec:/model/default_adapter", "spec:/model/adapters")
    if model.default_adapter is not None:
        return Decision(key, model.default_adapter, "as the spec says", inputs[:1])
    if model.adapters:
        return Decision(key, model.adapters[0].name, "the first adapter", inputs, ("base",))
    return Decision(key, "base", "the spec names no adapter", inputs)


def _sampling(spec: Spec) -> Decision:
    """What a request gets that doesn't say otherwise; never more tokens than it may ask for."""
    sampling = dict(spec.model.sampling)
    rule, inputs = "as the spec says; what it leaves open is greedy", ["spec:/model/sampling"]
    limit = spec.service.limits.max_tokens
    if sampling["max_tokens"] > limit:
        sampling["max_tokens"] = limit
        rule, inputs = f"{rule}; max_tokens as the limit has it", [*inputs, "spec:/service/limits/max_tokens"]
    return Decision("model.sampling", sampling, rule, tuple(inputs))


def _preload(target: Target) -> Decision:
    if target.accelerator == "cpu":
        rule = "on a Linux CPU MLX's own BLAS is the reference one: OpenBLAS loaded before it is many times faster"
        return Decision("runtime.preload_blas", OPENBLAS, rule, ("target:accelerator",))
    return Decision("runtime.preload_blas", None, "the model runs on the GPU", ("target:accelerator",))


def _concurrency(spec: Spec) -> Decision:
    key, inputs = "service.concurrency", ("spec:/service/concurrency",)
    if spec.service.concurrency == "auto":
        rule = "one batch: as many as mlx_lm takes in at once"
        return Decision(key, AUTO_CONCURRENCY, rule, inputs)
    return Decision(key, spec.service.concurrency, "as the spec says", inputs)


PART = MlxLmRunner()
