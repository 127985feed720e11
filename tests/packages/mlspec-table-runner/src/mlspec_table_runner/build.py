"""The build side: what the compiler asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.frozen import Frozen
from mlspec.model.plan import Decision, RunnerPlan
from mlspec.model.spec import Source, Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError, fingerprint, read_json
from mlspec.runners import Faults

TABLE = "table.json"


class TableModel(Frozen):
    """The spec's `model` block: a folder with `table.json`, and what to answer if the key isn't in it."""

    runner: str
    table: Source
    default: str = ""


class TableRunner:
    runner_api = 1
    name = "table"
    tasks = ("predict",)
    package = "table"
    model_type = TableModel

    def model_schema(self) -> Mapping[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "required": ["runner", "table"],
            "properties": {
                "runner": {"const": "table"},
                "table": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
                "default": {"type": "string", "maxLength": 100},
            },
        }

    def check(self, model: TableModel, faults: Faults) -> None:
        if model.default == "?":
            faults.error("table/default", "'?' is no answer", ("default",), help="say something")

    def models(self, model: TableModel) -> tuple[ModelRef, ...]:
        return (ModelRef("table", model.table, ("table",)),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        try:
            table = read_json(folder / TABLE)
            return ModelFacts(ref, fingerprint(folder, (TABLE,)), details={"rows": len(table)})
        except BadModelFileError as problem:
            faults.error("table/no-table", str(problem), ref.pointer, help=f"the folder needs a {TABLE}")
            return None

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        rows = facts.of("table").details["rows"]
        decision = Decision("table.rows", rows, "counted", ("facts:table/rows",))
        return RunnerPlan((decision,), {"default": spec.model.default}, concurrency=1)

    def modules(self, model: TableModel) -> tuple[str, ...]:
        return ()

    def requirements(self, model: TableModel, target: Target) -> tuple[str, ...]:
        return ()

    def runtime_files(self, model: TableModel) -> Mapping[str, Path]:
        return {"table/runtime.py": Path(__file__).with_name("runtime.py")}

    def user_files(self, model: TableModel) -> Mapping[Pointer, str]:
        return {}


RUNNER = TableRunner()
