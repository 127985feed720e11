"""Small projects for the tests: the shipped example in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.resources import folder
from mlspec.workspace import Surroundings


def surroundings(project: Path, **environment: str) -> Surroundings:
    """A computer whose only folders are the project and a home in it that holds nothing."""
    return Surroundings(environment, project, project / "home")


def example(project: Path) -> Path:
    """The shipped specs and models as a project; returns the folder."""
    shutil.copytree(folder("specs"), project / "specs")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    return project


def with_spec(project: Path, text: str, name: str = "spec.yaml") -> Path:
    """A spec's file at the project's root."""
    path = project / name
    path.write_text(text, encoding="utf-8")
    return path


def built(project: Path, spec: Path, **environment: str) -> dict[str, bytes]:
    """Build a spec that has no fault; its bundles' files by their path below `build/`."""
    report = Report()
    places = list(pipeline.build([spec], surroundings(project, **environment), None, report))
    assert not list(report)
    build = project / "build"
    files = (p for place in places for p in place.rglob("*") if p.is_file() and not _linked(p.relative_to(place)))
    return {p.relative_to(build).as_posix(): p.read_bytes() for p in files}


def faults(project: Path, spec: Path, **environment: str) -> list[str]:
    """The codes of what `check` finds."""
    report = Report()
    pipeline.check([spec], surroundings(project, **environment), report)
    return [found.code for found in report]


def _linked(path: Path) -> bool:
    return path.parts[0] == "models"
