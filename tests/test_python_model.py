"""The runner `python` as a spec is compiled: its class's artifacts may hold pickles only where the spec trusts them."""

from __future__ import annotations

import os
import pickle
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from mlspec import pipeline
from mlspec.commands import lock
from mlspec.diagnostics import Report
from projects import built, example, faults, surroundings, with_spec


class Trap:
    """A pickle of it leaves a file behind where it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (os.mkdir, ("unpickled",))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = example(tmp_path / "project")
    (made / "specs/models/iris/artifacts/weights.npz").write_bytes(pickle.dumps(Trap()))
    monkeypatch.setenv("HOME", str(made / "home"))
    monkeypatch.chdir(made)
    return made


def spec(project: Path, *, trusted: bool) -> Path:
    text = (project / "specs/iris.yaml").read_text()
    return with_spec(
        project,
        text.replace(
            "  inputs:\n    - {name: flowers", f"  trusted: {str(trusted).lower()}\n  inputs:\n    - {{name: flowers"
        ),
    )


def test_a_pickle_is_refused_and_not_loaded(project: Path) -> None:
    report = Report()
    pipeline.check([spec(project, trusted=False)], surroundings(project), report)
    message = "artifacts: 'weights.npz' is a pickle: loading it could run anything"
    assert {(found.code, found.message) for found in report} == {("pickle", message)}
    assert not (project / "unpickled").exists()


def test_one_that_is_trusted_is_for_the_class_alone(project: Path) -> None:
    assert built(project, spec(project, trusted=True))
    assert not (project / "unpickled").exists()


@pytest.mark.parametrize(("trusted", "codes"), [(False, ["pickle"]), (True, [])])
def test_a_lock_tells_it_where_the_artifacts_are_not(project: Path, trusted: bool, codes: list[str]) -> None:
    path = spec(project, trusted=trusted)
    assert lock.run(Namespace(specs=[path], check=False, output_format="text", root=[])) == 0
    shutil.rmtree(project / "specs/models/iris/artifacts")
    assert sorted(set(faults(project, path))) == codes


def test_a_lock_that_tells_nonsense_is_not_believed(project: Path) -> None:
    path = spec(project, trusted=True)
    assert lock.run(Namespace(specs=[path], check=False, output_format="text", root=[])) == 0
    place = path.with_name("spec.lock.yaml")
    text = place.read_text()
    assert "weights.npz: a pickle" in text or '"weights.npz": "a pickle"' in text, text
    place.write_text(text.replace("a pickle", "7").replace('"7"', "7"))
    shutil.rmtree(project / "specs/models/iris/artifacts")
    assert faults(project, path) == ["bad-lock"]
