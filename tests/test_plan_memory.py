"""The memory plan of language models, through the pipeline: on declared machines, from headers without weights."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from facts.sparse_model import write_model
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.hardware.budget import budget
from mlspec.hardware.machines import products
from mlspec.model.machine import Chip, Machine
from mlspec.model.plan import Decision, Derivation, Plan
from mlspec.model.target import Target
from mlspec.pipeline import Pipeline
from mlspec.runners.mlx_lm.build import MlxLmRunner
from mlspec.runners.mlx_lm.planning.useful import useful
from models import sparse
from projects import example, surroundings, with_spec

GIB = 2**30
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: chat, project: p}}
model:
  runner: mlx-lm
  base: {{path: models/{base}}}
{model}service: {service}
targets:
  - {target}
"""
AIR_8 = "{name: air, machine: {chip: Apple M1, memory_gb: 8, model: 'MacBookAir10,1', macos: '15.1'}}"
AIR_16 = "{name: air, machine: {chip: Apple M1, memory_gb: 16, model: 'MacBookAir10,1', macos: '15.1'}}"
STUDIO_64 = "{name: studio, machine: {chip: Apple M2 Max, memory_gb: 64, model: 'Mac14,13', macos: '26.1'}}"
STUDIO_512 = "{name: studio, machine: {chip: Apple M3 Ultra, memory_gb: 512, model: 'Mac15,14', macos: '26.1'}}"
SERVER_16 = "{name: server, platform: linux, machine: {memory_gb: 16, cpus: 8}}"
GPU_24 = "{name: gpu, platform: linux, accelerator: cuda12, machine: {memory_gb: 64, gpu_memory_gb: 24}}"
NO_MACHINE = "{name: mac}"

Planned = Callable[..., "tuple[Plan | None, Report]"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = example(tmp_path_factory.mktemp("project"))
    for name in ("Llama-3.1-8B", "Llama-3.3-70B", "Qwen3-30B-A3B", "DeepSeek-V3-671B"):
        sparse.write(folder / "models" / name, name)
    (folder / "models/tiny").symlink_to(folder / "specs/models/tiny")
    return folder


@pytest.fixture
def attempt(project: Path) -> Planned:
    """Compile one spec for its one target: its plan, if it has one, and what was reported."""

    def run(base: str, target: str, model: str = "", service: str = "{}") -> tuple[Plan | None, Report]:
        lines = "".join(f"  {line}\n" for line in model.splitlines())
        text = SPEC.format(base=base, target=target, model=lines, service=service)
        report, pipeline = Report(), Pipeline(surroundings(project))
        checked = pipeline.check(with_spec(project, text), report)
        assert checked is not None, list(report)
        compiled = list(pipeline.compile(checked, report))
        return (compiled[0].plan if compiled else None), report

    return run


@pytest.fixture
def planned(attempt: Planned) -> Callable[..., Plan]:
    """The plan of a spec that has no fault; a model that is slow on a machine is none."""

    def run(base: str, target: str, model: str = "", service: str = "{}") -> Plan:
        plan, report = attempt(base, target, model, service)
        assert plan is not None, list(report)
        assert {found.code for found in report} <= {"slow-prompt"}
        return plan

    return run


def decision(plan: Plan, key: str) -> Decision:
    return next(found for found in plan.decisions if found.key == key)


CHOSEN = ("model.quantization", "service.concurrency", "model.context_length", "runtime.prefill_step")
KEYS = {
    *CHOSEN,
    *("model.kv_bits", "model.speculative_decoding", "model.default_adapter", "model.sampling"),
    *("runtime.dtype", "runtime.preload_blas", "memory.budget_bytes", "memory.footprint_bytes"),
    *("memory.memory_limit_bytes", "memory.cache_limit_bytes", "memory.wired_limit_bytes"),
    "memory.prompt_cache_bytes",
    *("service.endpoints", "service.auth", "service.response_cache"),
}
"""What is decided of the model and its service on any target."""

FOUR = {"bits": 4, "group_size": 64, "mode": "affine"}
EIGHT = {**FOUR, "bits": 8}


@pytest.mark.parametrize(
    ("base", "target", "service", "quantization", "concurrency"),
    [
        ("Llama-3.1-8B", AIR_8, "{}", FOUR, 1),
        ("Llama-3.1-8B", AIR_16, "{}", FOUR, 4),
        ("Llama-3.1-8B", AIR_16, "{prefer: quality}", EIGHT, 2),
        ("Llama-3.1-8B", STUDIO_64, "{}", "none", 16),
        ("Llama-3.1-8B", STUDIO_64, "{prefer: context}", "none", 4),
        ("Llama-3.3-70B", STUDIO_64, "{}", FOUR, 4),
        ("Llama-3.3-70B", STUDIO_64, "{concurrency: 2}", FOUR, 2),
        ("Llama-3.3-70B", STUDIO_512, "{}", "none", 16),
        ("Qwen3-30B-A3B", STUDIO_64, "{}", EIGHT, 16),
        ("DeepSeek-V3-671B", STUDIO_512, "{}", FOUR, 16),
        ("Llama-3.1-8B", SERVER_16, "{}", FOUR, 2),
        ("Llama-3.1-8B", GPU_24, "{}", "none", 4),
    ],
)
def test_what_auto_takes(
    planned: Callable[..., Plan], base: str, target: str, service: str, quantization: object, concurrency: int
) -> None:
    plan = planned(base, target, "quantization: auto", service)
    assert plan.value("model.quantization") == quantization
    assert plan.value("service.concurrency") == concurrency
    assert (quantization == "none") == (plan.derivations == ())
    assert plan.memory is not None
    assert plan.memory.budget_bytes is not None
    assert plan.memory.footprint_bytes <= plan.memory.budget_bytes


@pytest.mark.parametrize("target", [AIR_16, STUDIO_64, SERVER_16, GPU_24])
@pytest.mark.parametrize("key", ["context_length: {}", "concurrency"])
def test_no_more_would_fit(attempt: Planned, planned: Callable[..., Plan], target: str, key: str) -> None:
    """What auto takes of context and requests is the most: a little more of either is refused."""
    fixed = "quantization: {bits: 8}\nprompt_cache_mb: 0"
    plan = planned("Llama-3.1-8B", target, fixed)
    requests, context = plan.value("service.concurrency"), plan.value("model.context_length")
    context += 256 if key != "concurrency" else 0
    service = f"{{concurrency: {requests + (key == 'concurrency')}}}"
    model = f"{fixed}\ncontext_length: {context}\nprefill_step: {plan.value('runtime.prefill_step')}"
    refused, report = attempt("Llama-3.1-8B", target, model, service)
    assert refused is None
    assert [found.code for found in report] == ["does-not-fit"]


def test_a_plan_without_a_machine(planned: Callable[..., Plan]) -> None:
    plan = planned("Llama-3.1-8B", NO_MACHINE, "quantization: auto")
    assert [plan.value(key) for key in CHOSEN] == ["none", 8, 131072, 2048]
    nothing = [f"memory.{name}_bytes" for name in ("budget", "memory_limit", "cache_limit", "wired_limit")]
    assert [plan.value(key) for key in nothing] == [None] * 4
    rules = [decision(plan, key).rule for key in nothing]
    none = "mlspec plans none without a machine:"
    assert rules == [
        "unknown: the target names no machine whose memory is known",
        f"{none} the service takes what the machine reports less 5 %",
        f"{none} the service takes 5 % of what the machine reports, at most 1 GiB",
        f"{none} the service takes what the machine reports less 5 %",
    ]
    server = planned("tiny", "{name: server, platform: linux}")
    rules = [decision(server, f"memory.{name}_limit_bytes").rule for name in ("memory", "cache")]
    assert rules == [f"{none} MLX's own holds", f"{none} the service keeps at most 1 GiB"]
    memory = plan.runtime["runner"]["settings"]["memory"]
    assert (memory["fixed_bytes"], memory["request_bytes"]) == (None, None)
    assert plan.value("memory.prompt_cache_bytes") == 0
    assert plan.memory is not None
    assert plan.memory.budget_bytes is None
    assert plan.memory.footprint_bytes > 16e9 + 8 * 131072 * 131072
    assert plan.speed is None


@pytest.mark.parametrize("target", [NO_MACHINE, AIR_8, STUDIO_64, SERVER_16, GPU_24])
@pytest.mark.parametrize("model", ["", "quantization: auto", "quantization: {bits: 4}\ncontext_length: 1024"])
def test_every_decision_has_its_reason(attempt: Planned, target: str, model: str) -> None:
    plan, report = attempt("Llama-3.1-8B", target, model)
    if plan is None:
        assert [found.code for found in report] == ["does-not-fit"]
        return
    decided = [found for found in plan.decisions if not found.key.startswith(("target.", "serving.", "heat."))]
    keys = [found.key for found in decided]
    assert set(keys) - {"environment.OPENBLAS_NUM_THREADS"} == KEYS
    assert len(keys) == len(set(keys))
    for found in decided:
        assert found.rule
        assert found.given or found.inputs, found.key
        assert all(one.partition(":")[0] in {"spec", "facts", "data", "plan", "target"} for one in found.inputs)
        assert {one.removeprefix("plan:") for one in found.inputs if one.startswith("plan:")} <= set(keys)
    json.dumps(dict(plan.runtime), allow_nan=False)


def test_what_the_spec_sets_is_given_and_unchanged(planned: Callable[..., Plan]) -> None:
    model = "quantization: {bits: 6}\ncontext_length: 5000\nkv_bits: 16\nprefill_step: 300\nprompt_cache_mb: 100"
    plan = planned("Llama-3.1-8B", STUDIO_64, model, "{concurrency: 3}")
    keys = (*CHOSEN, "model.kv_bits", "memory.prompt_cache_bytes")
    assert [plan.value(key) for key in keys] == [{**FOUR, "bits": 6}, 3, 5000, 300, 16, 100 * 2**20]
    assert all(decision(plan, key).given for key in keys)
    automatic = planned("Llama-3.1-8B", STUDIO_64, "quantization: auto\ncontext_length: auto\nprefill_step: auto")
    assert not any(decision(automatic, key).given for key in (*keys, "memory.budget_bytes"))


def test_the_settings_of_the_runtime(planned: Callable[..., Plan]) -> None:
    plan = planned("Llama-3.1-8B", AIR_16, "quantization: {bits: 4}\nkv_bits: 8")
    settings = plan.runtime["runner"]["settings"]
    limits = ("memory_limit_bytes", "cache_limit_bytes", "wired_limit_bytes")
    assert set(settings["memory"]) == {*limits, "fixed_bytes", "request_bytes"}
    assert all(settings["memory"][name] == plan.value(f"memory.{name}") for name in limits)
    named = ("context_length", "dtype", "prefill_step", "kv_bits", "prompt_cache_bytes")
    assert {name: settings[name] for name in named} == {
        "context_length": plan.value("model.context_length"),
        "dtype": None,
        "prefill_step": 512,
        "kv_bits": 8,
        "prompt_cache_bytes": plan.value("memory.prompt_cache_bytes"),
    }
    assert plan.runtime["limits"]["concurrency"] == plan.value("service.concurrency") == 4
    assert plan.memory is not None
    parts = {part.name: part.bytes for part in plan.memory.parts}
    assert settings["memory"]["request_bytes"] * 4 == parts["kv cache"] > 0
    assert settings["memory"]["fixed_bytes"] + parts["kv cache"] == plan.memory.footprint_bytes
    assert plan.environment == {"HF_HUB_OFFLINE": "1"}


def test_the_limits_stay_below_the_working_set(planned: Callable[..., Plan]) -> None:
    for target, working_set in ((AIR_16, 11453250000), (STUDIO_64, 55662788608)):
        plan = planned("Llama-3.1-8B", target, "quantization: auto")
        memory, cache = plan.value("memory.memory_limit_bytes"), plan.value("memory.cache_limit_bytes")
        footprint, budget = plan.value("memory.footprint_bytes"), plan.value("memory.budget_bytes")
        assert footprint <= memory <= budget < working_set
        assert 0 < cache <= min(2**30, budget / 20)
        assert memory + cache <= working_set * 1.001
        assert footprint <= plan.value("memory.wired_limit_bytes") <= working_set * 1.001


def test_an_older_macos_wires_nothing(planned: Callable[..., Plan]) -> None:
    plan = planned("tiny", STUDIO_64.replace("26.1", "14.6"))
    found = decision(plan, "memory.wired_limit_bytes")
    assert found.value == 0
    assert found.rule == "none: nothing can be wired on macOS 14.6, it takes 15 or later"
    assert found.inputs == ("spec:/targets/0/machine/macos",)


def test_what_is_wired_is_planned_for_every_mac(planned: Callable[..., Plan]) -> None:
    """MLX would wire all of the working set by itself."""
    unnamed = planned("tiny", STUDIO_64.replace(", macos: '26.1'", ""))
    assert unnamed.value("memory.wired_limit_bytes") == -(-unnamed.value("memory.footprint_bytes") // 2**20) * 2**20
    for target in (SERVER_16, GPU_24, "{name: s, platform: linux}"):
        found = decision(planned("tiny", target), "memory.wired_limit_bytes")
        assert (found.value, found.rule) == (None, "only macOS wires memory for a GPU")


def test_what_the_spec_reserves_is_not_planned_with(planned: Callable[..., Plan]) -> None:
    whole = planned("tiny", STUDIO_64)
    less = planned("tiny", STUDIO_64.replace("memory_gb: 64", "memory_gb: 64, reserve_gb: 10"))
    difference = whole.value("memory.budget_bytes") - less.value("memory.budget_bytes")
    assert difference == pytest.approx(10 * GIB * 0.95, abs=2)
    assert "10.0 GiB that the spec reserves" in decision(less, "memory.budget_bytes").rule
    assert "spec:/targets/0/machine/reserve_gb" in decision(less, "memory.budget_bytes").inputs


def test_a_prompt_cache_is_of_what_is_left_over(planned: Callable[..., Plan]) -> None:
    short = planned("Llama-3.1-8B", STUDIO_64, "context_length: 8192")
    kept = short.value("memory.prompt_cache_bytes")
    budget = short.value("memory.budget_bytes")
    assert 8192 * 131072 <= kept <= budget // 4
    assert short.value("memory.footprint_bytes") + kept <= budget + 2**20
    longer = planned("Llama-3.1-8B", STUDIO_64)
    assert longer.value("model.context_length") > 8192
    assert longer.value("memory.prompt_cache_bytes") == 8192 * 131072
    quantized = planned("Llama-3.1-8B", STUDIO_64, "kv_bits: 8\ncontext_length: 8192")
    assert quantized.value("memory.prompt_cache_bytes") == 0
    tiny = planned("tiny", STUDIO_64)
    assert tiny.value("memory.prompt_cache_bytes") == 32 * 2048 * 1024 == 64 * 2**20


def test_a_linux_cpu_computes_in_float32(planned: Callable[..., Plan]) -> None:
    as_it_is = planned("Llama-3.1-8B", SERVER_16.replace("16", "64"))
    assert as_it_is.value("runtime.dtype") == "float32"
    assert as_it_is.memory is not None
    assert as_it_is.memory.parts[0].bytes == 8_030_261_248 * 4
    assert as_it_is.environment == {"HF_HUB_OFFLINE": "1", "OPENBLAS_NUM_THREADS": "2"}
    assert as_it_is.system_packages == ("libopenblas0-pthread",)
    quantized = planned("Llama-3.1-8B", SERVER_16, "quantization: {bits: 4}")
    assert quantized.value("runtime.dtype") == "float32"
    assert quantized.derivations[0].settings["dtype"] == "float32"
    assert decision(planned("tiny", SERVER_16), "runtime.dtype").rejected == ()


def test_adapters_are_all_held_and_one_pristine(planned: Callable[..., Plan]) -> None:
    one, two = ("adapters: [{name: a, path: specs/models/tiny-support}", ", {name: b, path: specs/models/tiny-support}")
    sizes = []
    for adapters in (f"{one}]", f"{one}{two}]"):
        memory = planned("tiny", STUDIO_64, adapters).memory
        assert memory is not None
        sizes.append(memory.parts[1].bytes)
    (facts,) = (m for m in planned("tiny", STUDIO_64, f"{one}]").resolved.facts.models if m.ref.role != "base")
    assert sizes == [2 * facts.parameter_bytes, 3 * facts.parameter_bytes]


def test_threads_that_the_spec_sets(planned: Callable[..., Plan]) -> None:
    key = "environment.OPENBLAS_NUM_THREADS"
    plan = planned("tiny", SERVER_16, service='{env: [{name: OPENBLAS_NUM_THREADS, value: "4"}]}')
    assert plan.environment["OPENBLAS_NUM_THREADS"] == "4"
    assert (decision(plan, key).value, decision(plan, key).given) == ("4", True)
    unknown = planned("tiny", "{name: server, platform: linux}")
    assert decision(unknown, key).value is None
    assert "OPENBLAS_NUM_THREADS" not in unknown.environment
    assert planned("tiny", SERVER_16.replace("8", "1")).environment["OPENBLAS_NUM_THREADS"] == "1"


REFUSED = [
    (
        *("Llama-3.1-8B", AIR_16, "", "{}", 6),
        "needs at least 15.6 GiB = 15.0 weights + 0.1 kv cache + 0.1 prefill + 0.5 runtime; "
        "this MacBook Air 13 2020, M1, 16 GB allows 10.1 GiB",
        ["4-bit", "a 32 GB Mac"],
    ),
    (
        *("Llama-3.3-70B", STUDIO_64, "quantization: {bits: 4}\ncontext_length: 65536", "{concurrency: 12}", 8),
        "needs at least 287.5 GiB = 37.0 weights at 4-bit + 240.0 kv cache + 10.0 prefill + 0.5 runtime; "
        "this Mac Studio 2023, M2 Max, 64 GB allows 49.2 GiB",
        ["context 2048", "a 512 GB Mac"],
    ),
    (
        *("Llama-3.1-8B", GPU_24, "context_length: 65536", "{concurrency: 16}", 7),
        "needs at least 153.5 GiB = 15.0 weights + 128.0 kv cache + 10.0 prefill + 0.5 runtime; "
        "this GPU of 24 GB allows 21.6 GiB",
        ["context 2048", "4-bit and concurrency 1", "a GPU of 180 GB"],
    ),
    (
        *("Llama-3.1-8B", SERVER_16, "context_length: 16384\nquantization: {bits: 4}", "{concurrency: 2}", 7),
        "needs at least 14.4 GiB = 4.7 weights at 4-bit + 8.0 kv cache + 1.2 prefill + 0.5 runtime; "
        "this machine of 16 GB allows 12.8 GiB",
        ["context 8192", "concurrency 1", "24 GB of memory"],
    ),
]


@pytest.mark.parametrize(("base", "target", "model", "service", "line", "message", "ways"), REFUSED)
def test_what_does_not_fit(
    attempt: Planned, base: str, target: str, model: str, service: str, line: int, message: str, ways: list[str]
) -> None:
    plan, report = attempt(base, target, model, service)
    assert plan is None
    (found,) = report
    assert (found.code, found.severity, found.span.line) == ("does-not-fit", "error", line)
    assert found.message == message
    assert [way.partition(":")[0] for way in found.help.split("; ")] == ways
    assert all(": fits with " in way and way.endswith(" to spare") for way in found.help.split("; "))


@pytest.mark.parametrize(
    ("model", "service", "target"),
    [
        ("quantization: {bits: 4}\ncontext_length: 16384", "{concurrency: 2}", AIR_16),  # 4-bit instead of none
        ("context_length: 2048", "{concurrency: 16}", GPU_24),
        ("context_length: 65536\nquantization: {bits: 4}", "{concurrency: 1}", GPU_24),
    ],
)
def test_a_way_out_leads_out(planned: Callable[..., Plan], model: str, service: str, target: str) -> None:
    assert planned("Llama-3.1-8B", target, model, service).memory is not None


LARGER = [
    ("Llama-3.1-8B", "none", 8),
    ("Llama-3.1-8B", "none", 16),
    ("Llama-3.1-8B", "{bits: 8}", 8),
    ("Qwen3-30B-A3B", "{bits: 4}", 16),
    ("Qwen3-30B-A3B", "none", 48),
    ("Llama-3.3-70B", "{bits: 4}", 36),
    ("Llama-3.3-70B", "none", 128),
]


@pytest.mark.parametrize("macos", [None, "15.1", "26.1"])
@pytest.mark.parametrize(("base", "quantization", "memory_gb"), LARGER)
def test_a_larger_mac_that_is_named_serves_it(
    attempt: Planned, base: str, quantization: str, memory_gb: int, macos: str | None
) -> None:
    """Whichever Mac of that size a person takes, without a macOS or with the target's."""
    version = f", macos: '{macos}'" if macos else ""
    model = f"quantization: {quantization}"
    small = f"{{name: mac, machine: {{chip: Apple M3 Max, memory_gb: {memory_gb}{version}}}}}"
    plan, report = attempt(base, small, model)
    assert plan is None
    (refused,) = [found for found in report if found.code == "does-not-fit"]
    (size,) = re.findall(r"a (\d+) GB Mac: fits", refused.help)
    macs = [product for product in products() if product.machine.memory_bytes == int(size) * GIB]
    for product in (macs[0], macs[-1]):
        larger, _ = attempt(base, f"{{name: mac, machine: {{product: '{product.title}'{version}}}}}", model)
        assert larger is not None, product.title


def test_without_its_prompt_cache_it_fits(attempt: Planned, planned: Callable[..., Plan]) -> None:
    """Of many ways out that one is never left out: it costs least."""
    model = "quantization: {bits: 8}\ncontext_length: 4096\nprefill_step: 512\nprompt_cache_mb: "
    plan, report = attempt("Llama-3.1-8B", STUDIO_64, model + "60000", "{concurrency: 4}")
    assert plan is None
    (found,) = report
    assert found.help.split("; ")[0].startswith("prompt_cache_mb 0: fits with ")
    assert planned("Llama-3.1-8B", STUDIO_64, model + "0", "{concurrency: 4}")


def test_a_reserve_is_part_of_the_reason(attempt: Planned) -> None:
    _, report = attempt("tiny", STUDIO_64.replace("memory_gb: 64", "memory_gb: 64, reserve_gb: 60"))
    (found,) = report
    assert found.message.endswith("this Mac Studio 2023, M2 Max, 64 GB allows 0.0 MiB after 60 GB are reserved")
    assert "reserve_gb 0: fits with " in found.help
    _, report = attempt("Llama-3.1-8B", SERVER_16.replace("memory_gb: 16", "memory_gb: 16, reserve_gb: 2.5"))
    (found,) = report
    assert found.message.endswith("this machine of 16 GB allows 10.3 GiB after 2.5 GB are reserved")


def test_a_context_ends_where_reading_takes_too_long(planned: Callable[..., Plan], attempt: Planned) -> None:
    found = decision(planned("Llama-3.1-8B", STUDIO_512), "model.context_length")
    assert (found.value, found.rule) == (131072, "the model's own, from its config.json")
    found = decision(planned("Llama-3.1-8B", STUDIO_64, service="{concurrency: 1}"), "model.context_length")
    # 30 cores x 0.245 TFLOP/s / (2 x 7.5e9) in two minutes
    assert found.value == 58624
    assert found.rule == "the longest that is read within the timeout of 120 s, in steps of 256"
    assert found.rejected == ("131,072, the model's own: reading it takes 268 s, by the estimate",)
    assert "spec:/service/limits/timeout_s" in found.inputs
    assert not list(attempt("Llama-3.1-8B", STUDIO_64, "", "{concurrency: 1}")[1])
    patient = planned("Llama-3.1-8B", STUDIO_64, service="{concurrency: 1, limits: {timeout_s: 300}}")
    assert patient.value("model.context_length") == 131072


def test_a_context_that_is_read_too_slowly_is_warned_of(attempt: Planned) -> None:
    _, report = attempt("Llama-3.1-8B", STUDIO_64, "context_length: 131072", "{concurrency: 1}")
    (found,) = report
    assert (found.code, found.severity, found.span.line) == ("slow-prompt", "warning", 7)
    assert found.message == (
        "reading a prompt of all 131,072 tokens takes about 268 s by the estimate, longer than the timeout of 120 s"
    )
    (most,) = re.findall(r"^lower model.context_length to (\d+), or raise service.limits.timeout_s$", found.help)
    for context, codes in ((int(most), []), (int(most) + 1, ["slow-prompt"])):
        _, report = attempt("Llama-3.1-8B", STUDIO_64, f"context_length: {context}", "{concurrency: 1}")
        assert [found.code for found in report] == codes
    for target in (SERVER_16.replace("16", "64"), GPU_24.replace("24", "48"), NO_MACHINE):
        assert not list(attempt("Llama-3.1-8B", target, "context_length: 65536", "{concurrency: 1}")[1])


def test_the_usual_context_stays_where_even_that_is_slow(attempt: Planned) -> None:
    plan, report = attempt("Llama-3.3-70B", STUDIO_64, "quantization: {bits: 4}", "{concurrency: 1}")
    assert plan is not None
    (warned,) = report
    assert (warned.code, warned.span.line) == ("slow-prompt", 6)
    found = decision(plan, "model.context_length")
    assert found.value == 8192
    assert found.rule == "no longer than usual: reading 8,192 tokens takes the timeout of 120 s and more"


def test_many_requests_have_a_context_of_some_use(planned: Callable[..., Plan]) -> None:
    plan = planned("Llama-3.3-70B", STUDIO_64, "quantization: {bits: 4}", "{prefer: concurrency}")
    assert plan.value("model.context_length") >= 4096
    assert 1 < plan.value("service.concurrency") < 16


@pytest.mark.parametrize(
    ("base", "model", "key", "rule", "given"),
    [
        ("tiny", "", "runtime.dtype", "the model's own: casting costs quality or memory", False),
        ("tiny", "", "model.sampling", "greedy: the spec says nothing", False),
        ("tiny", "sampling: {temperature: 0.5}", "model.sampling", "as the spec says", True),
        ("tiny", "kv_bits: 16", "model.kv_bits", "as the spec says", True),
        (
            *("tiny", "", "model.kv_bits"),
            *("the model's own type: the model's heads have 32 elements, no multiple of 64", False),
        ),
        ("Llama-3.1-8B", "", "model.kv_bits", "the model's own type: a quantized cache would end batching", False),
        (
            *("DeepSeek-V3-671B", "quantization: {bits: 4}", "model.kv_bits"),
            *("the model's own type: mlx_lm can't quantize the cache of latent attention", False),
        ),
        (
            *("tiny", "", "model.speculative_decoding"),
            *("not supported by this runner: a draft model ends mlx_lm's batching", False),
        ),
    ],
)
def test_a_rule_says_what_is_true(
    planned: Callable[..., Plan], base: str, model: str, key: str, rule: str, given: bool
) -> None:
    found = decision(planned(base, STUDIO_512, model), key)
    assert (found.rule, found.given) == (rule, given)


def test_one_request_alone_has_no_batch_to_end(planned: Callable[..., Plan]) -> None:
    found = decision(planned("Llama-3.1-8B", STUDIO_64, "", "{concurrency: 1}"), "model.kv_bits")
    assert found.rule == "the model's own type: a quantized cache costs quality, and the spec doesn't ask for one"


def test_why_no_prefix_is_kept(planned: Callable[..., Plan]) -> None:
    """Beside the prefix there must be room for a sequence on its way out of the batch."""
    service = "{prefer: context, concurrency: 1, limits: {timeout_s: 3600}}"
    target = STUDIO_64.replace("memory_gb: 64", "memory_gb: 64, reserve_gb: 4")
    found = decision(planned("Llama-3.1-8B", target, "", service), "memory.prompt_cache_bytes")
    assert found.value == 0
    shown = r"none: a prefix of 8,192 tokens needs 1.0 GiB, and keeping any ([\d.]+) GiB more, to copy a sequence "
    shown += r"out of the batch; ([\d.]+) GiB are left over"
    copied, left = map(float, re.fullmatch(shown, found.rule).groups())  # type: ignore[union-attr]
    assert left < copied + 1.0
    assert copied > 10


def test_the_reason_of_a_quantization_names_what_was_rejected(planned: Callable[..., Plan]) -> None:
    found = decision(planned("Llama-3.1-8B", AIR_16, "quantization: auto"), "model.quantization")
    assert found.rule == "the mildest with which 4 requests of 8,192 tokens fit"
    assert [text.partition(":")[0] for text in found.rejected] == ["as it is", "8-bit", "6-bit", "5-bit"]
    assert all(text.endswith(" over") for text in found.rejected)
    small = decision(planned("Llama-3.1-8B", AIR_8, "quantization: auto"), "model.quantization")
    assert small.rule == "the strongest that isn't a last resort: none leaves room for 4 requests of 8,192 tokens"
    tight = AIR_8.replace("memory_gb: 8", "memory_gb: 8, reserve_gb: 0.7")
    last = decision(planned("Llama-3.1-8B", tight, "quantization: auto"), "model.quantization")
    assert last.value == {**FOUR, "bits": 3}
    assert last.rule == "the last resort: with more bits not even the smallest service fits"
    assert [text.partition(":")[0] for text in last.rejected] == ["as it is", "8-bit", "6-bit", "5-bit", "4-bit"]


def test_what_is_made_of_a_model_has_its_key(project: Path, planned: Callable[..., Plan]) -> None:
    (first,) = planned("Llama-3.1-8B", STUDIO_64, "quantization: {bits: 4}").derivations
    assert (first.role, dict(first.settings)) == ("base", {**FOUR, "dtype": "bfloat16", "converter": "mlx_lm 0.32.2"})
    assert first.bytes == 4_517_404_672
    again = planned("Llama-3.1-8B", AIR_16, "quantization: auto").derivations
    assert again == (first,), "one model for all Macs"
    others = [planned("Llama-3.1-8B", GPU_24, f"quantization: {{{q}}}") for q in ("bits: 8", "mode: mxfp4")]
    others.append(planned("Llama-3.1-8B", SERVER_16, "quantization: {bits: 4}"))
    keys = {plan.derivations[0].key for plan in others} | {first.key}
    assert len(keys) == 4
    config = project / "models/Llama-3.1-8B/config.json"
    text = config.read_text()
    config.write_text(text + " ")
    try:
        (changed,) = planned("Llama-3.1-8B", STUDIO_64, "quantization: {bits: 4}").derivations
    finally:
        config.write_text(text)
    assert changed.key not in keys


def quantized(name: str, shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """A tensor as an affine 4-bit conversion has it."""
    if len(shape) < 2:
        return {name: ("BF16", shape)}
    module, *rows = name.removesuffix(".weight"), *shape[:-1]
    scales = ("BF16", (*rows, shape[-1] // 64))
    return {name: ("U32", (*rows, shape[-1] // 8)), f"{module}.scales": scales, f"{module}.biases": scales}


@pytest.fixture(scope="module")
def with_a_quantized_model(project: Path) -> str:
    config = sparse.CONFIGS["Llama-3.1-8B"]
    found = dict(pair for name, (_, shape) in sparse.tensors(config) for pair in quantized(name, shape).items())
    write_model(project / "models/4bit", {**config, "quantization": {"bits": 4, "group_size": 64}}, found.items(), 1)
    return "4bit"


def test_auto_keeps_a_quantized_model(with_a_quantized_model: str, planned: Callable[..., Plan]) -> None:
    plan = planned(with_a_quantized_model, AIR_16, "quantization: auto")
    found = decision(plan, "model.quantization")
    assert (found.value, found.given) == ({"bits": 4, "group_size": 64}, False)
    assert found.rule == "the model is quantized already: it is served as it is"
    assert plan.derivations == ()
    assert plan.memory is not None
    assert plan.memory.parts[0].bytes == 4_517_404_672


def test_scales_of_16_bits_are_cast_on_a_cpu(with_a_quantized_model: str, planned: Callable[..., Plan]) -> None:
    plan = planned(with_a_quantized_model, SERVER_16)
    assert plan.value("runtime.dtype") == "float32"
    assert plan.memory is not None
    assert plan.memory.parts[0].bytes == 5_019_811_840


@pytest.mark.parametrize(
    ("base", "model", "code", "message"),
    [
        ("4bit", "quantization: {bits: 3}", "already-quantized", "quantized already: it can't be quantized again"),
        ("Llama-3.1-8B", "quantization: {mode: mxfp8, bits: 4}", "quantization-mode", "mxfp8 has no 4 bits"),
        ("Llama-3.1-8B", "quantization: {mode: nvfp4, bits: 8}", "quantization-mode", "nvfp4 has no 8 bits"),
        ("Llama-3.1-8B", "quantization: {mode: mxfp4, group_size: 64}", "quantization-mode", "no groups of 64"),
        ("Llama-3.1-8B", "quantization: {group_size: 16}", "quantization-mode", "affine has no groups of 16"),
        ("tiny", "kv_bits: 8", "kv-bits", "the model's heads have 32 elements, no multiple of 64"),
        ("DeepSeek-V3-671B", "kv_bits: 4", "kv-bits", "mlx_lm can't quantize the cache of latent attention"),
    ],
)
def test_what_mlx_can_not_do(
    with_a_quantized_model: str, attempt: Planned, base: str, model: str, code: str, message: str
) -> None:
    plan, report = attempt(base, NO_MACHINE, model)
    assert plan is None
    (found,) = report
    assert found.code == code
    assert message in found.message
    assert found.span.line == 7


@pytest.mark.parametrize(("mode", "shape"), [("mxfp4", (4, 32)), ("mxfp8", (8, 32)), ("nvfp4", (4, 16))])
def test_a_mode_has_its_usual_bits(planned: Callable[..., Plan], mode: str, shape: tuple[int, int]) -> None:
    plan = planned("Llama-3.1-8B", STUDIO_64, f"quantization: {{mode: {mode}}}")
    assert plan.value("model.quantization") == {"bits": shape[0], "group_size": shape[1], "mode": mode}


def test_a_whole_adapter_leaves_the_base_as_it_is(project: Path, attempt: Planned) -> None:
    folder, config = project / "models/full", sparse.CONFIGS["SmolLM2-135M"]
    write_model(folder, config, list(sparse.tensors(config))[1:], 1)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapters.safetensors")
    (folder / "adapter_config.json").write_text('{"fine_tune_type": "full", "num_layers": 30, "lora_parameters": null}')
    sparse.write(project / "models/small", "SmolLM2-135M")
    adapters = "adapters: [{name: own, path: models/full}]\n"
    plan, report = attempt("small", AIR_8, adapters + "quantization: auto")
    assert not list(report)
    assert plan is not None
    assert plan.value("model.quantization") == "none"
    assert "an adapter of kind full" in decision(plan, "model.quantization").rule
    assert plan.memory is not None
    assert plan.memory.parts[1].bytes == sum(2 * math.prod(s) for _, (_, s) in list(sparse.tensors(config))[1:])
    refused, report = attempt("small", AIR_8, adapters + "quantization: {bits: 4}")
    assert refused is None
    assert [found.code for found in report] == ["not-quantizable"]


def test_quantizing_that_fails_tells_what_the_converter_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter is a real process: here one of a module by the same name that ends badly."""
    (tmp_path / "mlx_lm").mkdir()
    (tmp_path / "mlx_lm/__init__.py").touch()
    lines = ["import sys", "print('[INFO] Loading')", "sys.exit('no room on\\x1b[31m the disk')"]
    (tmp_path / "mlx_lm/__main__.py").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    derivation = Derivation("base", "key", {**FOUR, "dtype": "float32"}, 0)
    with pytest.raises(CommandError) as caught:
        MlxLmRunner().derive(derivation, tmp_path, tmp_path / "made")
    assert (caught.value.code, caught.value.failed) == ("quantize-failed", True)
    told = "mlx_lm.convert ended with 1: [INFO] Loading / no room on\\x1b[31m the disk"
    assert caught.value.message == told
    (tmp_path / "mlx_lm/__main__.py").unlink()
    with pytest.raises(CommandError, match="needs mlx_lm, which isn't installed"):
        MlxLmRunner().derive(derivation, tmp_path, tmp_path / "made")


def machine(**values: object) -> Machine:
    return Machine(**{"memory_bytes": 64 * GIB, **values})  # type: ignore[arg-type]


def on(found: Machine | None, accelerator: str = "metal") -> Target:
    platform = "macos" if accelerator == "metal" else "linux"
    return Target("there", platform, accelerator, "arm64", "3.11", found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (on(None), None),
        (on(machine(working_set_bytes=None)), None),
        (on(machine(working_set_bytes=48 * GIB)), 48 * GIB * 0.95),
        (on(machine(working_set_bytes=48 * GIB, reserved_bytes=8 * GIB)), 40 * GIB * 0.95),
        # A small working set keeps 256 MiB free, and a limit that was lifted (iogpu.wired_limit_mb) isn't used up.
        (on(machine(memory_bytes=4 * GIB, working_set_bytes=3 * GIB)), 2.75 * GIB),
        (on(machine(working_set_bytes=63 * GIB)), 64 * GIB * 0.95 * 0.95),
        (on(machine(working_set_bytes=48 * GIB, reserved_bytes=60 * GIB)), 0),
        (on(machine(), "cpu"), 64 * GIB * 0.8),
        (on(machine(reserved_bytes=GIB), "cpu"), 64 * GIB * 0.8 - GIB),
        (on(machine(gpu_memory_bytes=24 * GIB), "cuda12"), 24 * GIB * 0.9),
        (on(machine(), "cuda13"), None),
    ],
)
def test_the_budget_of_a_machine(target: Target, expected: float | None) -> None:
    found = budget(target)
    assert (found and found.bytes) == (expected if expected is None else pytest.approx(expected, abs=2))
    assert found is None or (found.rule and found.inputs and found.bytes <= found.ceiling_bytes)


def chip(tier: str) -> Chip:
    return Chip("Apple M2 " + tier, "row", True, 2, tier, 30, 400, True, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "kv_bits", "expected"),
    [
        (on(None), None, 8),
        (on(machine(cooling="passive", chip=chip("base"))), None, 4),
        (on(machine(cooling="laptop", chip=chip("max"))), None, 8),
        (on(machine(cooling="desktop", chip=chip("pro"))), None, 8),
        (on(machine(cooling="desktop", chip=chip("ultra"))), None, 16),
        (on(machine(cooling="desktop", chip=chip("ultra"))), 8, 4),
        (on(machine(cooling="unknown", chip=chip("ultra"))), None, 8),
        (on(machine(cooling="virtual", chip=chip("base"))), None, 4),
        (on(machine(), "cpu"), None, 8),
        (on(machine(cpus=1), "cpu"), None, 4),
        (on(machine(cpus=2), "cpu"), None, 8),
        (on(machine(gpu_memory_bytes=GIB), "cuda12"), 4, 4),
    ],
)
def test_how_many_at_once_are_of_use(target: Target, kv_bits: int | None, expected: int) -> None:
    found = useful(target, kv_bits)
    assert found.concurrency == expected
    assert found.reason


def test_a_template_and_a_first_turn_are_decisions_and_settings(attempt: Planned) -> None:
    plan, _ = attempt("Llama-3.1-8B", STUDIO_64, 'system_prompt: "Be brief."')
    assert plan is not None
    assert plan.value("model.system_prompt") == plan.runtime["runner"]["settings"]["system_prompt"] == "Be brief."
    assert "chat_template" not in plan.runtime["runner"]["settings"]
