"""What is decided about the model: context, quantization, its cache, adapters, sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlspec.hardware.budget import gib
from mlspec.model.plan import Decision
from mlspec.model.spec import Spec
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.model import MlxLmModel, Quantization
from mlspec.runners.mlx_lm.planning.options import kv_stays, why_not
from mlspec.runners.mlx_lm.planning.policy import CONTEXT_STEP, Choice, Option, Point, Question
from mlspec.runners.mlx_lm.planning.situation import Situation

AS_THE_SPEC_SAYS = "as the spec says"
BUDGET = "plan:memory.budget_bytes"


def longest_context(situation: Situation, faults: Faults) -> int | None:
    """The most tokens that a context can have: what the spec says, or the model's own. None after a fault."""
    wanted, known = situation.model.context_length, situation.base.details["context_length"]
    if wanted == "auto":
        if known is None:
            message = "the base model's config.json doesn't tell its context length"
            faults.error("context-length", message, (), help="set model.context_length, in tokens")
        return known if known is None else int(known)
    if known is not None and wanted > known:
        message = f"{wanted} tokens of context: the base model was made for {known}"
        faults.error("context-length", message, ("context_length",), help=f"at most {known}; leave it out for that")
        return None
    return wanted


def decide_context(situation: Situation, question: Question, point: Point) -> Decision:
    key, spec = "model.context_length", "spec:/model/context_length"
    if situation.model.context_length != "auto":
        return Decision(key, point.context, AS_THE_SPEC_SAYS, (spec,), given=True)
    longest = int(situation.base.details["context_length"])
    own = (spec, "facts:base/context_length")
    if point.context == longest:
        return Decision(key, longest, "the model's own, from its config.json", own)
    if point.context == question.context.most:
        return _as_long_as_is_read(situation, longest, point.context)
    fitting = f"{requests(point.concurrency)} at once fit" if point.concurrency > 1 else "1 request fits"
    rule = f"the longest with which {fitting}, in steps of {CONTEXT_STEP}"
    inputs = (*own, "spec:/service/prefer", "plan:service.concurrency", "plan:model.quantization", BUDGET)
    rejected = over(question, [("the model's own", replace(point, context=longest))])
    return Decision(key, point.context, rule, inputs, tuple(f"{longest:,}, {text}" for text in rejected))


def _as_long_as_is_read(situation: Situation, longest: int, context: int) -> Decision:
    """A context that ends where a whole prompt takes as long to read as a request may take."""
    timeout_s = situation.spec.service.limits.timeout_s
    rule = f"the longest that is read within the timeout of {timeout_s:g} s, in steps of {CONTEXT_STEP}"
    if (situation.readable_tokens or 0) < context:
        rule = f"no longer than usual: reading {context:,} tokens takes the timeout of {timeout_s:g} s and more"
    inputs = (
        *("spec:/model/context_length", "facts:base/context_length", "spec:/service/limits/timeout_s"),
        *("facts:base/architecture", *situation.of_machine("chip.gpu_cores"), "data:speed/prefill"),
    )
    rejected = f"{longest:,}, the model's own: reading it takes {situation.reading_s(longest):,.0f} s, by the estimate"
    return Decision("model.context_length", context, rule, inputs, (rejected,))


def decide_quantization(situation: Situation, question: Question, choice: Choice) -> Decision:
    """The weights as they are served: bits, group size and mode, or `none`."""
    key, spec = "model.quantization", "spec:/model/quantization"
    wanted, value = situation.model.quantization, _value(situation, choice.point.option)
    if isinstance(wanted, Quantization):
        usual = "" if wanted.group_size else f"; groups of {value['group_size']} are usual for {value['mode']}"
        return Decision(key, value, AS_THE_SPEC_SAYS + usual, (spec,), given=True)
    if wanted == "none":
        given = "quantization" in situation.model.model_fields_set
        rule = AS_THE_SPEC_SAYS if given else "the spec doesn't ask for one: the model is served as it is"
        return Decision(key, value, rule, (spec,), given=given)
    if reason := why_not(situation.model, situation.facts):
        return Decision(key, value, f"{reason}: it is served as it is", (spec, "facts:base/quantization"))
    if situation.budget is None:
        rule = "as it is: without a known memory nothing says that less is needed"
        return Decision(key, value, rule, (spec, *situation.of_machine("memory_bytes")))
    inputs = (spec, "spec:/service/prefer", "facts:base/parameter_bytes", BUDGET)
    milder = question.options[: question.options.index(choice.point.option)]
    last = choice.point.option.last_resort
    tried = [replace(question.least(), option=option) if last else question.floor(option) for option in milder]
    points = [(point.option.title, point) for point in tried]
    return Decision(key, value, _why_quantized(question, choice), inputs, over(question, points))


def decide_kv_bits(situation: Situation, point: Point) -> Decision:
    key, value, spec = "model.kv_bits", situation.model.kv_bits, "spec:/model/kv_bits"
    if "kv_bits" in situation.model.model_fields_set:
        return Decision(key, value, AS_THE_SPEC_SAYS, (spec,), given=True)
    if reason := kv_stays(situation.architecture):
        return Decision(key, value, f"the model's own type: {reason}", (spec, "facts:base/architecture"))
    lost = "would end batching" if point.concurrency > 1 else "costs quality, and the spec doesn't ask for one"
    inputs = (spec, "plan:service.concurrency")
    return Decision(key, value, f"the model's own type: a quantized cache {lost}", inputs)


def decide_speculation(situation: Situation) -> Decision:
    rule, inputs = "not supported by this runner: a draft model ends mlx_lm's batching", ["spec:/model"]
    if situation.machine is not None and situation.machine.cooling == "passive":
        rule += "; and without a fan a second model's work is heat"
        inputs += situation.of_machine("cooling")
    return Decision("model.speculative_decoding", "off", rule, tuple(inputs))


def decide_adapter(model: MlxLmModel) -> Decision:
    key, inputs = "model.default_adapter", ("spec:/model/default_adapter", "spec:/model/adapters")
    if model.default_adapter is not None:
        return Decision(key, model.default_adapter, AS_THE_SPEC_SAYS, inputs[:1], given=True)
    if model.adapters:
        return Decision(key, model.adapters[0].name, "the first adapter", inputs, ("base",))
    return Decision(key, "base", "the spec names no adapter", inputs)


def decide_conversation(model: MlxLmModel) -> tuple[Decision, ...]:
    """What the spec puts in the place of the model's own: a template by its place in the bundle, and a first turn."""
    template = None if model.chat_template is None else f"user/{model.chat_template}"
    values = {"chat_template": template, "system_prompt": model.system_prompt}
    return tuple(
        Decision(f"model.{name}", value, AS_THE_SPEC_SAYS, (f"spec:/model/{name}",), ("the model's own",), given=True)
        for name, value in values.items()
        if value is not None
    )


def decide_sampling(spec: Spec) -> Decision:
    """What a request gets that doesn't say otherwise; never more tokens than it may ask for."""
    sampling = dict(spec.model.sampling)
    given = "sampling" in spec.model.model_fields_set
    rule, inputs = AS_THE_SPEC_SAYS if given else "greedy: the spec says nothing", ["spec:/model/sampling"]
    limit = spec.service.limits.max_tokens
    if sampling["max_tokens"] > limit:
        sampling["max_tokens"] = limit
        rule, inputs = f"{rule}; max_tokens as the limit has it", [*inputs, "spec:/service/limits/max_tokens"]
    return Decision("model.sampling", sampling, rule, tuple(inputs), given=given)


def over(question: Question, points: Sequence[tuple[str, Point]]) -> tuple[str, ...]:
    """Of the points those that don't fit, each with what it would take: `8-bit: 9.1 GiB, 1.4 GiB over`."""
    allowed, told = question.budget_bytes, []
    for title, point in points:
        needed = question.needs(point)
        if allowed is not None and needed > allowed:
            told.append(f"{title}: {gib(needed)}, {gib(needed - allowed)} over")
    return tuple(told)


def requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"


def _why_quantized(question: Question, choice: Choice) -> str:
    wanted = question.floor(choice.point.option)
    told = f"{requests(wanted.concurrency)} of {wanted.context:,} tokens"
    if choice.point.option.last_resort:
        return "the last resort: with more bits not even the smallest service fits"
    if choice.floor == wanted:
        return f"the mildest with which {told} {'fits' if wanted.concurrency == 1 else 'fit'}"
    return f"the strongest that isn't a last resort: none leaves room for {told}"


def _value(situation: Situation, option: Option) -> Any:
    if option.quantization is not None:
        quantization = option.quantization
        return {"bits": quantization.bits, "group_size": quantization.group_size, "mode": quantization.mode}
    return situation.base.details["quantization"] or "none"
