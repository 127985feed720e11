"""What a plan says of adapters: how many are in memory at once, which from the start, and what they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facts.sparse_model import write_file
from mlspec.model.plan import Plan
from mlspec.runners.mlx_lm.facts.adapter_modules import modules, slot_bytes, unpaired
from mlspec.runners.mlx_lm.tensor_table import Row
from test_plan_memory import AIR_8, NO_MACHINE, SERVER_16, STUDIO_64, attempt, decision, planned, project

__all__ = ["attempt", "planned", "project"]  # fixtures
MIB = 2**20
Q, DOWN, WORDS = "self_attn.q_proj", "mlp.down_proj", "model.embed_tokens"
SHAPES = {Q: (4096, 4096), DOWN: (14336, 4096), WORDS: (128256, 4096)}


def adapter(
    project: Path, name: str, rank: int, layers: Sequence[int], module: str = Q, kind: str = "lora", dtype: str = "F32"
) -> str:
    """An adapter of Llama 3.1 8B, its tensors empty; as a spec names it."""
    inputs, outputs = SHAPES[module]
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in [f"model.layers.{layer}.{module}" for layer in layers] or [module]:
        tensors |= {f"{path}.lora_a": (dtype, (inputs, rank)), f"{path}.lora_b": (dtype, (rank, outputs))}
        if kind == "dora":
            tensors[f"{path}.m"] = ("F32", (outputs,))
    folder = project / "models" / name
    folder.mkdir(exist_ok=True)
    write_file(folder / "adapters.safetensors", tensors)
    parameters = {"rank": rank, "scale": 2.0, "dropout": 0.0}
    config = {"fine_tune_type": kind, "num_layers": 8, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return f"{{name: {name}, path: models/{name}}}"


def model(adapters: Sequence[str], more: str = "") -> str:
    return f"adapters: [{', '.join(adapters)}]\nquantization: {{bits: 4}}\ncontext_length: 2048\n{more}"


def adapters_bytes(plan: Plan) -> int:
    assert plan.memory is not None
    return next(part.bytes for part in plan.memory.parts if part.name == "adapters")


def settings(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = plan.runtime["runner"]["settings"]
    return found


def test_each_slot_has_room_for_any_of_them(project: Path, planned: Callable[..., Plan]) -> None:
    given = [adapter(project, "a", 8, range(4)), adapter(project, "b", 32, range(2, 6)), adapter(project, "c", 4, [31])]
    plan = planned("Llama-3.1-8B", STUDIO_64, model(given))
    ranks = {0: 8, 1: 8, **dict.fromkeys(range(2, 6), 32), 31: 4}
    assert adapters_bytes(plan) == (3 + 1) * sum(2 * 4096 * rank * 4 for rank in ranks.values())
    assert settings(plan)["adapter_slots"] == plan.value("model.adapter_slots") == 3
    assert settings(plan)["preload"] == ["a", "b", "c"]
    assert decision(plan, "model.adapter_slots").rule.startswith("all of them: ")


def test_their_type_is_their_own_but_where_they_differ_and_on_a_cpu(
    project: Path, planned: Callable[..., Plan]
) -> None:
    half = [adapter(project, name, 8, [3], dtype="BF16") for name in ("h1", "h2")]
    whole = adapter(project, "w", 8, [3])
    for given, target, element in ((half, STUDIO_64, 2), ([*half, whole], STUDIO_64, 4), (half, SERVER_16, 4)):
        plan = planned("Llama-3.1-8B", target, model(given))
        assert adapters_bytes(plan) == (len(given) + 1) * 2 * 4096 * 8 * element


def test_dora_has_a_factor_for_each_output(project: Path, planned: Callable[..., Plan]) -> None:
    given = [adapter(project, "d", 8, [3, 4], DOWN, "dora"), adapter(project, "l", 16, [4], DOWN)]
    plan = planned("Llama-3.1-8B", STUDIO_64, model(given))
    assert adapters_bytes(plan) == 3 * 4 * ((14336 + 4096) * (8 + 16) + 2 * 4096)


def test_as_many_as_the_spec_says(project: Path, planned: Callable[..., Plan]) -> None:
    given = [adapter(project, f"n{number}", 8, range(8)) for number in range(5)]
    given[1] = given[1].replace("}", ", preload: false}")
    lines = "default_adapter: n3\nmax_loaded_adapters: {}"
    plan = planned("Llama-3.1-8B", STUDIO_64, model(given, lines.format(2)))
    assert adapters_bytes(plan) == 3 * 8 * 2 * 4096 * 8 * 4
    assert (settings(plan)["adapter_slots"], settings(plan)["preload"]) == (2, ["n3", "n0"])
    assert settings(plan)["adapters"] == [f"n{number}" for number in range(5)]
    slots, preloaded = (decision(plan, f"model.{key}") for key in ("adapter_slots", "preloaded_adapters"))
    assert (slots.value, slots.given) == (2, True)
    assert preloaded.rejected == ("n2", "n4")
    more = planned("Llama-3.1-8B", STUDIO_64, model(given, lines.format(9)))
    assert more.value("model.adapter_slots") == 5
    assert decision(more, "model.adapter_slots").rule == "all of them: the spec has room for 9"
    assert settings(more)["preload"] == ["n3", "n0", "n2", "n4"]


def test_they_take_at_most_a_part_of_the_budget_by_themselves(project: Path, planned: Callable[..., Plan]) -> None:
    given = [adapter(project, f"big{number}", 256, (), WORDS) for number in range(70)]
    plan = planned("Llama-3.1-8B", STUDIO_64, model(given))
    each = (128256 + 4096) * 256 * 4
    slots = plan.value("model.adapter_slots")
    budget = plan.value("memory.budget_bytes")
    assert 10 < slots < 70
    assert (slots + 1) * each == adapters_bytes(plan) <= budget // 8 < (slots + 2) * each
    assert len(settings(plan)["preload"]) == slots
    assert decision(plan, "model.adapter_slots").rejected[0].startswith("70: ")
    # What the spec says is done, whatever it takes.
    asked = planned("Llama-3.1-8B", STUDIO_64, model(given, "max_loaded_adapters: 70"))
    assert adapters_bytes(asked) == 71 * each
    assert planned("Llama-3.1-8B", NO_MACHINE, model(given)).value("model.adapter_slots") == 70


def test_too_many_for_the_machine_have_a_way_out(project: Path, attempt: Any) -> None:
    given = [adapter(project, f"big{number}", 256, (), WORDS) for number in range(40)]
    plan, report = attempt("Llama-3.1-8B", AIR_8, model(given, "max_loaded_adapters: 40"))
    assert plan is None
    (fault,) = report
    assert fault.code == "does-not-fit"
    assert "max_loaded_adapters auto" in str(fault)


def test_without_adapters_nothing_is_said_of_them(planned: Callable[..., Plan]) -> None:
    plan = planned("Llama-3.1-8B", STUDIO_64)
    assert not [found for found in plan.decisions if found.key in ("model.adapter_slots", "model.preloaded_adapters")]
    assert (settings(plan)["adapter_slots"], settings(plan)["preload"], adapters_bytes(plan)) == (0, [], 0)


def test_modules_of_experts_and_of_none() -> None:
    rows = [
        Row("model.layers.*.x.*.lora_a", "F32", (4, 2), 6, ((1, 3),)),
        Row("model.layers.*.x.*.lora_b", "F32", (2, 8), 6, ((1, 3),)),
        Row("lm_head.lora_a", "F16", (4, 2), 1),
        Row("lm_head.lora_b", "F16", (2, 8), 1),
    ]
    assert len(modules(rows)) == 4
    assert slot_bytes([modules(rows)], None) == 3 * 2 * (8 + 16) * 4 + (8 + 16) * 2
    assert unpaired("lora", rows) is None
    assert unpaired("lora", rows[:3]) == "lm_head.lora_b"
    assert unpaired("dora", rows[:2]) == "model.layers.1.x.*.m"
