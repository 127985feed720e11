"""Reading plan.json."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mlspec_runtime.plan import GovernorSettings, PlanError, load_plan, parse_plan
from runtime.bundles import limits, runtime_block, write_plan


def test_a_plan_is_read(tmp_path: Path) -> None:
    files = [{"path": "a.json", "size_bytes": 1, "sha256": "00", "hashed": "content"}]
    models = [{"role": "adapters/support", "source": {"store": "a:1"}, "files": files}]
    write_plan(tmp_path, runtime_block(models=models, environment={"set": {"A": "b"}, "required": ["C"]}))
    plan = load_plan(tmp_path)
    assert plan.service.name == "demo"
    assert (plan.limits.timeout_s, plan.limits.queue) == (30.0, 64)
    assert (plan.environment.set, plan.environment.required) == ({"A": "b"}, ("C",))
    assert plan.models[0].files[0].hashed == "content"
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.task = "predict"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "no 'runtime' block"),
        ({}, "no 'runtime' block"),
        ({"runtime": runtime_block(runtime_api=2)}, "written for runtime_api 2; this runtime reads 1"),
        ({"runtime": runtime_block(limits=limits(queue="many"))}, "runtime.limits.queue: "),
        ({"runtime": runtime_block(models=[{"role": "base"}])}, "runtime.models.0.source: "),
        ({"runtime": {"runtime_api": 1}}, "runtime.service: "),
        ({"runtime": runtime_block(governor={"reader": "windows"})}, "runtime.governor.reader: "),
    ],
)
def test_a_bad_plan_is_told_with_its_place(document: Any, told: str) -> None:
    with pytest.raises(PlanError) as error:
        parse_plan(document)
    assert told in str(error.value)


def test_a_plan_of_an_older_build_has_no_governor() -> None:
    assert parse_plan({"runtime": runtime_block()}).governor == GovernorSettings(reader="none")
    given = {"reader": "macos", "cooling": "passive", "poll_s": 2.0}
    governor = parse_plan({"runtime": runtime_block(governor=given)}).governor
    assert (governor.reader, governor.cooling, governor.poll_s, governor.recover_s) == ("macos", "passive", 2.0, 60.0)


def test_a_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"plan\.json: No such file"):
        load_plan(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(PlanError, match="not JSON"):
        load_plan(tmp_path)
    (tmp_path / "plan.json").write_bytes(b"\xff")
    with pytest.raises(PlanError, match="not JSON"):
        load_plan(tmp_path)


def test_unknown_keys_of_a_later_build_are_passed_over() -> None:
    document = json.loads(json.dumps({"runtime": {**runtime_block(), "later": 1}}))
    assert parse_plan(document).task == "generate"
