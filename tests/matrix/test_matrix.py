"""What twenty Macs serve of eight well-known models, with all left to mlspec: `matrix.txt`, to be read by people.

MLSPEC_UPDATE_SNAPSHOTS=1 writes it anew: look at each cell that changes before you commit it.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from mlspec.diagnostics import Report
from mlspec.hardware.machines import mac
from mlspec.model.machine import Machine
from mlspec.model.plan import Plan
from mlspec.model.spec import MachineSpec
from mlspec.pipeline import Pipeline
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.serving_machines import Candidate, as_table, decided
from mlspec.reporting.plan.values import memory
from models import sparse
from plans import UPDATE
from projects import surroundings

TABLE = Path(__file__).parent / "matrix.txt"
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: {name}, project: matrix}}
model: {{runner: mlx-lm, base: {{path: {folder}}}, quantization: auto}}
targets: [{{name: mac}}]
"""
MACS = (
    ("MacBook Air 13 2020, M1, 8 GB", "15.7"),
    ("MacBook Neo 2026, A18 Pro, 8 GB", "26.5"),
    ("Mac mini 2020, M1, 16 GB", "15.7"),
    ("MacBook Air 13 2025, M4, 16 GB", "26.1"),
    ("Mac mini 2026, M6, 16 GB", "26.5"),
    ("MacBook Pro 14 2023, M3 Pro, 18 GB", "15.7"),
    ("MacBook Air 15 2024, M3, 24 GB", "26.1"),
    ("iMac 24 2023 four ports, M3, 24 GB", "15.7"),
    ("MacBook Pro 14 2025, M5, 24 GB", "26.2"),
    ("MacBook Pro 14 2021, M1 Pro, 32 GB", "15.7"),
    ("Mac mini 2023, M2 Pro, 32 GB", "26.1"),
    ("MacBook Pro 14 2023, M3 Pro, 36 GB", "26.1"),
    ("Mac mini 2024, M4 Pro, 48 GB", "26.1"),
    ("Mac Studio 2023, M2 Max, 64 GB", "15.7"),
    ("Mac Studio 2025, M4 Max, 64 GB", "26.1"),
    ("MacBook Pro 16 2023, M2 Max, 96 GB", "15.7"),
    ("MacBook Pro 16 2023, M3 Max, 128 GB", "26.1"),
    ("Mac Studio 2023, M2 Ultra, 192 GB", "15.7"),
    ("Mac Studio 2025, M3 Ultra, 256 GB", "26.1"),
    ("Mac Studio 2025, M3 Ultra, 512 GB", "26.1"),
)


@cache
def machine(product: str, macos: str) -> Machine:
    return mac(MachineSpec(product=product, macos=macos), "/targets/0/machine", None).machine


def candidates(project: Path, name: str) -> list[Candidate]:
    """What would be planned for the model on each of the Macs."""
    sparse.write(project / name, name)
    spec = project / f"{name}.yaml"
    spec.write_text(SPEC.format(name=name.lower().replace(".", "-"), folder=name), encoding="utf-8")
    report, pipeline = Report(), Pipeline(surroundings(project))
    checked = pipeline.check(spec, report)
    assert checked is not None, list(report)
    planned = pipeline.plans_on(checked, [machine(title, macos) for title, macos in MACS], report, "mac")
    found = [_candidate(*mac, *one) for mac, one in zip(MACS, planned, strict=True)]
    assert not list(report)
    return found


def _candidate(title: str, macos: str, own: Machine, plan: Plan | None, faults: Report) -> Candidate:
    why = next((fault.message for fault in faults if fault.code == "does-not-fit"), "")
    assert (plan is None) == bool(why), list(faults)
    return Candidate(f"{title} (macOS {macos.partition('.')[0]})", own, plan, why)


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Candidate]]:
    project = tmp_path_factory.mktemp("matrix")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    return {name: candidates(project, name) for name in sparse.CONFIGS}


def as_text(matrix: dict[str, list[Candidate]]) -> str:
    look = Look(columns=120)
    return "\n".join(f"{_heading(name, found)}\n\n{as_table(found, look)}" for name, found in matrix.items())


def _heading(name: str, found: list[Candidate]) -> str:
    facts = next(one.plan for one in found if one.plan).resolved.facts.of("base")
    stored = facts.parameter_bytes
    serving = sum(one.plan is not None for one in found)
    return f"{name}: {memory(stored)} in bfloat16, served by {serving} of {len(found)}"


def test_the_matrix(matrix: dict[str, list[Candidate]]) -> None:
    assert len(MACS) == 20
    assert len(matrix) == 8
    text = as_text(matrix)
    if UPDATE:
        TABLE.write_text(text, encoding="utf-8")
    assert text == TABLE.read_text(encoding="utf-8")


def test_what_fits_is_within_its_budget(matrix: dict[str, list[Candidate]]) -> None:
    for plan in (one.plan for found in matrix.values() for one in found):
        if plan is not None:
            assert plan.memory is not None
            assert plan.memory.budget_bytes is not None
            assert plan.memory.footprint_bytes <= plan.memory.budget_bytes


def test_every_machine_serves_the_smallest_model_and_few_the_largest(matrix: dict[str, list[Candidate]]) -> None:
    fitting = [sum(one.plan is not None for one in found) for found in matrix.values()]
    assert fitting == sorted(fitting, reverse=True)
    assert fitting[0] == len(MACS)
    assert fitting[-1] == 1


def test_no_machine_is_given_a_stronger_quantization_for_a_smaller_model(matrix: dict[str, list[Candidate]]) -> None:
    dense = [matrix[name] for name in ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.3-70B")]
    for smaller, larger in pairwise(dense):
        for one, other in zip(smaller, larger, strict=True):
            assert _bits(one) >= _bits(other), one.title


def _bits(candidate: Candidate) -> int:
    """Bits of a weight; none where the model isn't served."""
    if candidate.plan is None:
        return 0
    value = decided(candidate.plan, "model.quantization")
    bits: int = value["bits"] if isinstance(value, dict) else 16
    return bits
