"""What the planner of language models knows before it decides anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from mlspec.hardware.budget import Budget, budget, origin
from mlspec.model.facts import Facts, ModelFacts
from mlspec.model.machine import Machine
from mlspec.model.plan import MemoryPart
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners.mlx_lm.architecture import Architecture
from mlspec.runners.mlx_lm.facts.adapter_modules import modules, slot_bytes
from mlspec.runners.mlx_lm.footprint import footprint, kv_bytes
from mlspec.runners.mlx_lm.footprint.load import Load
from mlspec.runners.mlx_lm.model import MlxLmModel
from mlspec.runners.mlx_lm.planning.options import options
from mlspec.runners.mlx_lm.planning.policy import CONTEXT_STEP, MODEST_CONTEXT, Option, Point, Question, Range
from mlspec.runners.mlx_lm.planning.useful import Useful, useful
from mlspec.runners.mlx_lm.tensor_table import Row
from mlspec.runners.mlx_lm.weights import loaded_rows

STEPS = (2048, 1024, 512, 256, 128)
"""Prefill steps that `auto` takes, mlx_lm's own (`prefill_step_size`) first."""

PASSIVE_STEPS = (512, 256, 128)
"""Without a fan: shorter bursts, and a request in flight waits less for a long prompt."""

SHORTEST_CONTEXT = 1024

USUAL_PREFIX_TOKENS = 8192
"""A prompt cache that doesn't hold one prefix of this length isn't worth having; a context that is longer leaves room
for it: conversations gain more from it than from the last tokens of a context."""

ADAPTERS_SHARE = 8
"""Adapters that nobody counted get at most one part in so many of the budget: requests and prefixes need the rest."""

ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
STORED = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class Situation:
    """A spec, the facts of its models and one target; what follows from them is worked out once."""

    spec: Spec
    facts: Facts
    target: Target

    @property
    def model(self) -> MlxLmModel:
        model: MlxLmModel = self.spec.model
        return model

    @property
    def base(self) -> ModelFacts:
        return self.facts.of("base")

    @property
    def machine(self) -> Machine | None:
        return self.target.machine

    @property
    def kv_bits(self) -> int | None:
        return None if self.model.kv_bits == 16 else self.model.kv_bits

    @cached_property
    def architecture(self) -> Architecture:
        return Architecture.from_data(self.base.details["architecture"])

    @cached_property
    def budget(self) -> Budget | None:
        return budget(self.target)

    @cached_property
    def useful(self) -> Useful:
        return useful(self.target, self.kv_bits)

    @property
    def on_cpu(self) -> bool:
        return self.target.accelerator == "cpu"

    @cached_property
    def stored_type(self) -> str:
        """The type of most of the model's floats: of a quantized model that is its scales'."""
        elements = Counter[str]()
        for row in loaded_rows(self.base.details):
            if row.dtype in STORED:
                elements[STORED[row.dtype]] += row.elements
        return elements.most_common(1)[0][0] if elements else "bfloat16"

    @property
    def computed_type(self) -> str:
        """The type that the model computes in: on a Linux CPU only float32 is fast."""
        return "float32" if self.on_cpu else self.stored_type

    @cached_property
    def adapters(self) -> tuple[ModelFacts, ...]:
        return tuple(self.facts.of(f"adapters/{adapter.name}") for adapter in self.model.adapters)

    @cached_property
    def adapter_slots(self) -> int:
        """How many adapters are in memory at once: what the spec says, or as many as fit into a part of the budget."""
        count, given = len(self.adapters), self.model.max_loaded_adapters
        if given != "auto":
            return min(given, count)
        if self.budget is None:
            return count
        share = self.budget.bytes // ADAPTERS_SHARE
        return next((slots for slots in range(count, 1, -1) if self.adapters_bytes_of(slots) <= share), min(count, 1))

    @property
    def preloaded_adapters(self) -> list[str]:
        """Those that are in memory from the start: no more than have room."""
        default = self.model.default_adapter
        wanted = [adapter.name for adapter in self.model.adapters if adapter.preload]
        return sorted(wanted, key=lambda name: name != default)[: self.adapter_slots]

    @cached_property
    def adapters_bytes(self) -> int:
        """What adapters take in memory."""
        return self.adapters_bytes_of(self.adapter_slots)

    def adapters_bytes_of(self, slots: int) -> int:
        """The same with so many of them in memory. Each slot of low-rank adapters has room for any of them, and one
        more is the base's, which is all zeros.
        """
        if not slots:
            return 0
        if self.adapters[0].details["fine_tune_type"] == "full":
            return sum(sorted(map(self._held, self.adapters))[-slots:])
        return (slots + 1) * self._slot_bytes

    @cached_property
    def _slot_bytes(self) -> int:
        found = [modules(map(Row.from_data, adapter.details["tensors"])) for adapter in self.adapters]
        return slot_bytes(found, ELEMENT_BYTES["float32"] if self.on_cpu else None)

    def _held(self, adapter: ModelFacts) -> int:
        """A fine-tune's bytes in memory: cast like the model whose tensors it replaces."""
        if not self.on_cpu:
            return adapter.parameter_bytes
        rows = map(Row.from_data, adapter.details["tensors"])
        return sum(row.elements for row in rows) * ELEMENT_BYTES["float32"]

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """On a GPU a model that isn't converted keeps its floats as they are stored, whatever types there are."""
        computed = ELEMENT_BYTES[self.computed_type]
        return options(self.model, self.facts, computed if self.on_cpu else None, computed)

    def of_machine(self, *names: str) -> tuple[str, ...]:
        """The inputs of a decision that came of the machine, or of there being none."""
        return origin(self.machine, *names) if self.machine is not None else ("target:machine",)

    def load(self, point: Point, prompt_cache_bytes: int = 0) -> Load:
        return Load(
            concurrency=point.concurrency,
            context_length=point.context,
            prefill_step=point.step,
            element_bytes=ELEMENT_BYTES[self.computed_type],
            accelerator=self.target.accelerator,
            kv_bits=self.kv_bits,
            prompt_cache_bytes=prompt_cache_bytes,
        )

    def parts(self, point: Point, prompt_cache_bytes: int) -> tuple[MemoryPart, ...]:
        """What each thing takes at this point."""
        load = self.load(point, prompt_cache_bytes)
        return footprint(self.architecture, point.option.weights_bytes, self.adapters_bytes, load)

    def needs(self, point: Point) -> int:
        """All bytes at this point, with the prompt cache that the spec asks for."""
        return sum(part.bytes for part in self.parts(point, self.asked_prompt_cache_bytes))

    def needs_with_prefix(self, point: Point) -> int:
        """The same; a context that is chosen longer than usual leaves room for one usual prefix."""
        return sum(part.bytes for part in self.parts(point, self.asked_prompt_cache_bytes or self._prefix_room(point)))

    @cached_property
    def readable_tokens(self) -> int | None:
        """Of how many tokens a prompt is read within the timeout, by the estimate; None where there is none."""
        rate = self._prefill_tokens_per_s
        return None if rate is None else int(rate * self.spec.service.limits.timeout_s)

    def reading_s(self, tokens: int) -> float:
        """Seconds that a prompt of so many tokens takes by the estimate; 0 where there is none."""
        return tokens / self._prefill_tokens_per_s if self._prefill_tokens_per_s else 0.0

    @cached_property
    def _prefill_tokens_per_s(self) -> float | None:
        if self.machine is None or self.machine.chip is None:
            return None
        from mlspec.hardware.speed import prefill_tokens_per_s  # reads tables: only for a machine

        return prefill_tokens_per_s(self.machine, self.machine.chip, self.architecture.active_parameters)

    @property
    def asked_prompt_cache_bytes(self) -> int:
        return 0 if self.model.prompt_cache_mb == "auto" else self.model.prompt_cache_mb * 2**20

    @property
    def keeps_prefixes(self) -> bool:
        """Whether `auto` may: the runtime keeps none with a quantized cache."""
        return self.model.prompt_cache_mb == "auto" and self.kv_bits is None and self.budget is not None

    def prefix_bytes(self, point: Point, tokens: int) -> int:
        """What the layers keep of one prefix."""
        return kv_bytes(self.architecture, self.load(replace(point, concurrency=1, context=tokens)))

    def _prefix_room(self, point: Point) -> int:
        chosen = self.model.context_length == "auto" and self.spec.service.prefer != "context"
        longer = chosen and point.context > USUAL_PREFIX_TOKENS
        return self.prefix_bytes(point, USUAL_PREFIX_TOKENS) if longer and self.keeps_prefixes else 0

    def question(self, longest: int, *, prefix: bool = False) -> Question:
        """What there is to choose; `longest` is the model's own context, or what the spec says.

        With `prefix`, the context doesn't grow into the room for one usual prefix.
        """
        allowed = self.budget
        return Question(
            options=self.options,
            concurrency=self._concurrency(),
            context=self._context(longest),
            steps=self._steps(),
            prefer=self.spec.service.prefer,
            budget_bytes=allowed.bytes if allowed else None,
            needs=self.needs_with_prefix if prefix else self.needs,
        )

    def _concurrency(self) -> Range:
        given = self.spec.service.concurrency
        return Range(1, self.useful.concurrency) if given == "auto" else Range(given, given)

    def _context(self, longest: int) -> Range:
        """An answer should find room beside a prompt as long. One that is chosen grows beyond a modest length only as
        far as a prompt is read within the timeout.
        """
        if self.model.context_length != "auto":
            return Range(longest, longest)
        answers = -(-2 * self.spec.service.limits.max_tokens // CONTEXT_STEP) * CONTEXT_STEP
        read = longest if self.readable_tokens is None else self.readable_tokens // CONTEXT_STEP * CONTEXT_STEP
        return Range(min(longest, SHORTEST_CONTEXT, answers), min(longest, max(read, MODEST_CONTEXT)))

    def _steps(self) -> tuple[int, ...]:
        if self.model.prefill_step != "auto":
            return (self.model.prefill_step,)
        passive = self.machine is not None and self.machine.cooling == "passive"
        return PASSIVE_STEPS if passive else STEPS
