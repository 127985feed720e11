"""The store of models that builds make, and the pass that has them made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec import store as store_module
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report
from mlspec.digests import Digests
from mlspec.errors import CommandError
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Derivation
from mlspec.model_files import tensors
from mlspec.passes.lock.writing import lock_text, make_lock
from mlspec.passes.quantize import Workshop, quantize
from mlspec.pipeline import Compiled, Pipeline, build
from mlspec.runners.mlx_lm.build import MlxLmRunner
from mlspec.store import MANIFEST, MANIFEST_VERSION, Recipe, Store
from mlspec.workspace import Surroundings
from mlspec_runtime import derived as runtime_derived
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.models import verify
from mlspec_runtime.plan import Derivation as PlannedDerivation
from mlspec_runtime.plan import PlannedModel
from projects import example, surroundings
from support.write_bundles import CALLS, Killer

SCRIPT = Path(__file__).parent / "support" / "obtain_model.py"
RECIPE = Recipe("key", {"bits": 4}, "0" * 64, 1000)


def silent(text: str) -> None:
    """Nobody is waiting."""


def a_store(folder: Path, say: Callable[[str], None] = silent) -> Store:
    return Store(folder, Digests(folder.with_name("digests"), silent), say)


def make(into: Path) -> None:
    """A small model: a configuration, and a file in a folder of its own."""
    (into / "deep").mkdir(parents=True)
    (into / "config.json").write_text('{"a": 1}')
    (into / "deep/more.txt").write_text("more" * 1000)


def refuse(into: Path) -> None:
    raise AssertionError("it was made again")


# The store


def test_a_model_is_made_once(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    made = store.obtain(RECIPE, make)
    assert made == tmp_path / "store" / RECIPE.address
    assert store.obtain(RECIPE, refuse) == made
    assert [path.name for path in (tmp_path / "store").iterdir()] == [RECIPE.address]


@pytest.mark.parametrize("other", [{"key": "k"}, {"content": "1" * 64}])
def test_another_source_or_another_key_is_another_model(tmp_path: Path, other: dict[str, Any]) -> None:
    store = a_store(tmp_path)
    assert store.obtain(RECIPE, make) != store.obtain(replace(RECIPE, **other), make)


def test_what_is_made_says_of_what_and_cannot_be_written(tmp_path: Path) -> None:
    made = a_store(tmp_path).obtain(RECIPE, make)
    manifest = json.loads((made / MANIFEST).read_text())
    assert {key: manifest[key] for key in ("version", "key", "settings", "content")} == {
        "version": MANIFEST_VERSION,
        "key": "key",
        "settings": {"bits": 4},
        "content": "0" * 64,
    }
    assert [(file["path"], file["size_bytes"]) for file in manifest["files"]] == [
        ("config.json", 8),
        ("deep/more.txt", 4000),
    ]
    assert {path.stat().st_mode & 0o777 for path in made.rglob("*") if path.is_file()} == {0o444}
    assert (MANIFEST, MANIFEST_VERSION) == (runtime_derived.MANIFEST, runtime_derived.MANIFEST_VERSION)


@pytest.mark.parametrize(
    "damage",
    [
        lambda made: (made / "config.json").unlink(),
        lambda made: (made / MANIFEST).unlink(),
        lambda made: _rewrite(made / "config.json", "{}"),
        lambda made: _rewrite(made / MANIFEST, "[]"),
        lambda made: _rewrite(made / MANIFEST, '{"contents": [7]}'),
        lambda made: _rewrite(made / MANIFEST, '{"contents": {"config.json": 7}}'),
    ],
)
def test_a_model_that_was_damaged_is_made_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    store = a_store(tmp_path)
    made = store.obtain(RECIPE, make)
    damage(made)
    assert store.obtain(RECIPE, make) == made
    assert (made / "config.json").read_text() == '{"a": 1}'
    store.obtain(RECIPE, refuse)


def test_a_byte_that_changed_is_seen_and_said(tmp_path: Path) -> None:
    """Also of a tensor file's data, below its header. An unchanged model isn't read again."""
    said: list[str] = []
    store = a_store(tmp_path / "store", said.append)
    made = store.obtain(RECIPE, make)
    _rewrite(made / "deep/more.txt", "more" * 999 + "MORE")
    assert store.obtain(RECIPE, make) == made
    assert (made / "deep/more.txt").read_text() == "more" * 1000
    assert said == [f"{made}: deep/more.txt isn't as it was made; it is made anew\n"]
    assert not list(tmp_path.glob("digests/*"))
    for path in made.rglob("*"):
        os.utime(path, (1, 1))
    store.obtain(RECIPE, refuse)
    assert len(list(tmp_path.glob("digests/*"))) == 2
    # Of the same size, date and inode: were it read again, it would be made again.
    _rewrite(made / "config.json", '{"a": 2}')
    os.utime(made / "config.json", (1, 1))
    store.obtain(RECIPE, refuse)


def _rewrite(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(into: Path) -> None:
        make(into)
        raise CommandError("quantize-failed", "no such luck")

    with pytest.raises(CommandError, match="no such luck"):
        a_store(tmp_path).obtain(RECIPE, fail)
    assert not list(tmp_path.iterdir())
    assert a_store(tmp_path).obtain(RECIPE, make).is_dir()


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"the model takes 1000000000\.0 GiB, [0-9.]+ [GM]iB are free in ") as error:
        a_store(tmp_path).obtain(replace(RECIPE, bytes=2**30 * 10**9), refuse)
    assert (error.value.code, error.value.failed) == ("disk-full", True)
    assert "XDG_CACHE_HOME" in error.value.help


def test_a_disk_that_gets_full(tmp_path: Path) -> None:
    def full(into: Path) -> None:
        make(into)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CommandError) as error:
        a_store(tmp_path).obtain(RECIPE, full)
    assert error.value.code == "disk-full"
    assert not list(tmp_path.iterdir())


def test_a_small_model_is_told_in_small_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=3 << 20))
    with pytest.raises(CommandError, match=r"the model takes 5\.0 MiB, 3\.0 MiB are free in "):
        a_store(tmp_path).obtain(replace(RECIPE, bytes=5 << 20), refuse)


def obtaining(store: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(SCRIPT), str(store), str(log)], stdout=subprocess.PIPE)


def test_builds_at_once_make_it_once(tmp_path: Path) -> None:
    processes = [obtaining(tmp_path / "store", tmp_path / "log") for _ in range(4)]
    told = {process.communicate()[0].decode().splitlines()[-1] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(told) == 1
    assert (tmp_path / "log").read_text() == "made\n"


def killed_at(store: Path, call: int) -> bool:
    """A process obtains the model and is killed before the Nth call that changes the disk; False if it ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            killer = Killer(call)
            for name in (*CALLS, "fsync", "chmod"):
                setattr(os, name, killer.watch(getattr(os, name)))
            a_store(store).obtain(RECIPE, make)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_every_call_that_changes_the_disk(tmp_path: Path) -> None:
    call, store = 1, tmp_path / "store"
    while killed_at(store, call):
        place = store / RECIPE.address
        if place.exists():
            # Half a model would be made again.
            a_store(store).obtain(RECIPE, refuse)
            store_module._remove(place)
        call += 1
    assert call > 15
    assert [path.name for path in store.iterdir()] == [RECIPE.address]


def test_killed_while_it_is_made(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with obtaining(store, tmp_path / "log") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"making\n"
        process.kill()
    (left,) = store.iterdir()
    assert (left.name.startswith(".making-"), (left / "model/config.json").exists()) == (True, True)
    made = a_store(store).obtain(RECIPE, make)
    assert list(store.iterdir()) == [made]


# The pass


class Halving(MlxLmRunner):
    """Makes models of half the bytes: float32 to float16, by hand. What it was made of is in `done`."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Path] = []

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        self.done.append(source)
        into.mkdir()
        for path in source.iterdir():
            content = path.read_bytes()
            (into / path.name).write_bytes(halved(content) if path.suffix == ".safetensors" else content)


def halved(content: bytes) -> bytes:
    """A safetensors file of float32 tensors as one of float16."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for entry in (entry for name, entry in header.items() if name != "__metadata__"):
        entry.update(dtype="F16", data_offsets=[offset // 2 for offset in entry["data_offsets"]])
    values = content[8 + length :]
    count = len(values) // 4
    new = json.dumps(header).encode()
    return len(new).to_bytes(8, "little") + new + struct.pack(f"<{count}e", *struct.unpack(f"<{count}f", values))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return example(tmp_path / "project")


def compiled(project: Path) -> Compiled:
    """The Linux bundle of the shipped chat.yaml, as a quantization would have it."""
    report, pipeline = Report(), Pipeline(surroundings(project))
    checked = pipeline.check(project / "specs/chat.yaml", report)
    assert checked is not None
    (found,) = pipeline.compile(checked, report, "linux")
    assert not len(report)
    return found


def workshop_of(here: Surroundings, say: Callable[[str], None] = silent) -> Workshop:
    digests = Digests(here.digests, silent)
    return Workshop(Store(here.derived_models, digests, say), digests, say)


def derivation(found: Compiled, **changes: Any) -> Derivation:
    bytes = found.plan.resolved.facts.of("base").parameter_bytes // 2
    return replace(Derivation("base", "a key", {"bits": 16}, bytes), **changes)


def made(
    project: Path,
    runner: Halving,
    links: Mapping[str, Path] | None = None,
    say: Callable[[str], None] = silent,
    **changes: Any,
) -> tuple[dict[str, Path] | None, Report]:
    """The links of the bundle after the pass, and what was found."""
    found, report = compiled(project), Report()
    here = surroundings(project)
    workshop = workshop_of(here, say)
    plan = replace(found.plan, derivations=(derivation(found, **changes),))
    bundle = replace(found.bundle, links=found.bundle.links if links is None else links)
    after = quantize(plan, bundle, runner, workshop, found.checked.document, report)
    return None if after is None else dict(after.links), report


def test_the_bundle_links_to_what_was_made(project: Path) -> None:
    runner = Halving()
    links, report = made(project, runner)
    assert links is not None
    assert not len(report)
    assert links["models/base"].parent == project / "home/.cache/mlspec/models"
    assert {tensor.dtype for tensor in tensors(links["models/base"] / "model.safetensors").values()} == {"F16"}
    assert made(project, runner)[0] == links
    assert runner.done == [project / "specs/models/tiny"]


def test_what_is_made_is_told_in_a_line_that_stays(project: Path) -> None:
    said: list[str] = []
    assert made(project, Halving(), say=said.append)[0] is not None
    assert said == ["quantizing base to 16 bits, 0.8 MiB: minutes, but once only\n"]
    made(project, Halving(), say=said.append)
    assert len(said) == 1


@pytest.mark.parametrize("text", ["half of it\n", "half of it"])
def test_a_line_that_stays_is_told_without_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Progress([]).say(text)
    assert capsys.readouterr().err == (text if text.endswith("\n") else "")


def test_a_cache_that_is_a_file(project: Path) -> None:
    (project / "home").mkdir()
    (project / "home/.cache").touch()
    _, report = made(project, Halving())
    (fault,) = report
    assert fault.code == "quantize-failed"
    assert "XDG_CACHE_HOME" in fault.help
    assert "--no-models" in fault.help


def test_a_cache_that_cannot_be_written(project: Path) -> None:
    store = project / "home/.cache/mlspec/models"
    _, report = made(project, Failing(OSError(errno.EROFS, "Read-only file system", str(store / ".making-x"))))
    assert ["XDG_CACHE_HOME" in fault.help for fault in report] == [True]
    _, report = made(project, Failing(OSError(errno.EACCES, "Permission denied", str(project / "specs"))))
    assert ["XDG_CACHE_HOME" in fault.help for fault in report] == [False]


def test_the_service_finds_what_was_made(project: Path, tmp_path: Path) -> None:
    """And serves nothing that was made of other weights, or otherwise."""
    links, _ = made(project, Halving())
    assert links is not None
    made_of = Digests(project / "d", silent).of_model(project / "specs/models/tiny", models_of(project).files)
    for key, content, served in (("a key", made_of, True), ("a key", "0" * 64, False), ("b key", made_of, False)):
        model = PlannedModel("base", {}, (), content, PlannedDerivation(key))
        if served:
            verify(model, links["models/base"])
            continue
        with pytest.raises(ServiceError, match="is not the one of the plan: it was made of"):
            verify(model, links["models/base"])


def models_of(project: Path) -> ModelFacts:
    return compiled(project).plan.resolved.facts.of("base")


def test_a_model_that_was_trained_again_is_made_again(project: Path) -> None:
    """Its header is the same, and so the plan and its key: the weights tell."""
    runner = Halving()
    before, _ = made(project, runner)
    weights = project / "specs/models/tiny/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4:] = struct.pack("<f", 0.5)
    weights.write_bytes(content)
    after, _ = made(project, runner)
    assert before is not None
    assert after is not None
    assert before["models/base"] != after["models/base"]
    assert len(runner.done) == 2
    assert (after["models/base"] / "model.safetensors").read_bytes().endswith(struct.pack("<e", 0.5))


def test_weights_that_are_not_those_of_the_lock(project: Path) -> None:
    found = compiled(project)
    lock = make_lock(
        "chat.yaml", found.plan.resolved.facts, found.plan.resolved.located, Digests(project / "d", silent)
    )
    (project / "specs/chat.lock.yaml").write_text(lock_text(lock))
    runner = Halving()
    assert made(project, runner)[0] is not None
    weights = project / "specs/models/tiny/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    links, report = made(project, runner)
    assert links is None
    assert [fault.code for fault in report] == ["lock-mismatch"]
    assert len(runner.done) == 1


def test_nothing_is_made_of_a_model_that_is_not_here(project: Path) -> None:
    assert made(project, Halving(), links={}) == ({}, Report())


def test_a_size_that_was_not_planned_is_a_warning(project: Path) -> None:
    links, report = made(project, Halving(), bytes=7)
    assert links is not None
    assert [(f.code, f.severity, f.message) for f in report] == [
        ("quantized-size", "warning", "base has 787,712 bytes quantized, 7 were planned")
    ]


class Failing(Halving):
    """Can't make anything."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self._problem = problem

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        into.mkdir()
        (into / "model.safetensors").write_bytes(b"half")
        if isinstance(self._problem, CommandError | OSError):
            raise self._problem


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (CommandError("quantize-failed", "it was too much", "have a rest"), "it was too much"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "base can't be quantized: permission denied (x)"),
        (
            ValueError(),
            "what quantizing made of base is no model: model.safetensors: is no safetensors file, or cut off",
        ),
    ],
)
def test_what_fails_is_a_fault_at_its_place(project: Path, problem: Exception, message: str) -> None:
    links, report = made(project, Failing(problem))
    (fault,) = report
    assert links is None
    assert (fault.code, fault.message) == ("quantize-failed", message)
    assert fault.span.file == "specs/chat.yaml"
    assert list((project / "home/.cache/mlspec/models").iterdir()) == []


def test_a_build_without_models(project: Path) -> None:
    report = Report()
    (place,) = build([project / "specs/chat.yaml"], surroundings(project), None, report, "linux", models=False)
    assert (place / "plan.json").is_file()
    assert not (place / "models").exists()
    assert not len(report)
