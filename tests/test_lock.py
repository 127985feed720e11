"""Locks: what they commit, when they are believed, and what is told where they and the models differ."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlspec import digests as digests_module
from mlspec.commands import lock as lock_command
from mlspec.diagnostics import Diagnostic, Report
from mlspec.digests import Digests
from mlspec.exit_codes import FAILED, FINDINGS, OK
from mlspec.model.facts import ModelFile
from mlspec.model.lock import digest
from mlspec.passes.load import parse
from mlspec.pipeline import build, check
from mlspec.resources import folder
from mlspec.workspace import Surroundings
from projects import built, example, surroundings, with_spec

RECORDED = Path(__file__).parent / "locks" / "lora.lock.yaml"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHAT = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: chat, project: p}
model: {runner: mlx-lm, base: BASE}
targets: [{name: linux, platform: linux}]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = example(tmp_path / "project")
    for name in ("XDG_CACHE_HOME", "HF_HUB_CACHE", "HF_HOME", "BENTOML_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.chdir(project)
    return project


def lock(spec: str = "specs/lora.yaml", *, check: bool = False, **roots: Path) -> int:
    options = Namespace(specs=[Path(spec)], check=check, output_format="text", root=list(roots.items()))
    return lock_command.run(options)


def found(project: Path, spec: str = "specs/lora.yaml", here: Surroundings | None = None) -> list[Diagnostic]:
    report = Report()
    check([project / spec], here or surroundings(project), report)
    return list(report)


def the_lock(project: Path, spec: str = "specs/lora.yaml") -> Path:
    return (project / spec).with_suffix(".lock.yaml")


def locked_data(project: Path, spec: str = "specs/lora.yaml") -> dict[str, Any]:
    path = the_lock(project, spec)
    document = parse(path.read_text(), path, "lock", faults := Report())
    assert document is not None
    assert not len(faults)
    return dict(document.data)


# What is written


def test_a_lock_is_yaml_that_keeps_to_its_schema(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock() == OK
    assert capsys.readouterr().out == "specs/lora.lock.yaml\n"
    data = locked_data(project)
    schema = json.loads((folder("schema") / "lock.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(data)
    assert [model["role"] for model in data["models"]] == ["base", "adapters/support"]
    assert "Written by `mlspec lock lora.yaml`" in the_lock(project).read_text()


def test_the_form_of_a_lock(project: Path) -> None:
    """Later versions have to read what was committed: once one is released, other keys here mean a new `LOCK_VERSION`.

    MLSPEC_UPDATE_SNAPSHOTS=1 writes the file anew.
    """
    assert lock() == OK
    if os.environ.get("MLSPEC_UPDATE_SNAPSHOTS") == "1":
        RECORDED.parent.mkdir(exist_ok=True)
        shutil.copy(the_lock(project), RECORDED)
    assert the_lock(project).read_text() == RECORDED.read_text()


def test_a_lock_is_json_below_its_comment(project: Path) -> None:
    """So that a table of a thousand tensors is read in a millisecond, not by the YAML loader."""
    assert lock() == OK
    lines = the_lock(project).read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    assert lines[: len(comment)] == comment
    assert json.loads("\n".join(lines[len(comment) :])) == locked_data(project)


def test_the_content_is_what_sha256sum_prints(project: Path) -> None:
    assert lock() == OK
    for model in locked_data(project)["models"]:
        names = [file["path"] for file in model["files"]]
        place = project / model["source"]["path"]
        command = ["sh", "-c", 'sha256sum "$@" | sha256sum', "sh", *names]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == model["content"]


def test_each_file_and_each_row_of_a_table_has_a_line(project: Path) -> None:
    assert lock() == OK
    lines = the_lock(project).read_text().splitlines()
    for model in locked_data(project)["models"]:
        for row in [*model["files"], *model["details"]["tensors"]]:
            assert json.dumps(row) in [line.strip().rstrip(",") for line in lines]


def test_a_second_lock_changes_and_says_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock() == OK
    before = (the_lock(project).stat().st_ino, the_lock(project).read_bytes())
    capsys.readouterr()
    assert lock() == OK
    assert capsys.readouterr().out == ""
    assert (the_lock(project).stat().st_ino, the_lock(project).read_bytes()) == before


def test_a_model_that_is_not_here_cannot_be_locked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(project / "specs/models/tiny")
    assert lock() == FINDINGS
    assert "error[model-not-found]" in capsys.readouterr().err
    assert not the_lock(project).exists()


def test_a_lock_is_not_written_through_a_link(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "precious").write_text("precious")
    the_lock(project).symlink_to(project / "precious")
    assert lock() == FAILED
    assert "error[write-failed]" in capsys.readouterr().err
    assert (project / "precious").read_text() == "precious"


# A project without the weights


def test_equal_bytes_with_and_without_the_models(project: Path, tmp_path: Path) -> None:
    assert lock() == OK
    clone = tmp_path / "clone"
    shutil.copytree(project, clone)
    shutil.rmtree(clone / "specs/models")
    there, here = built(clone, clone / "specs/lora.yaml"), built(project, project / "specs/lora.yaml")
    assert there == here
    assert not (clone / "build/example/support-lora/linux/models").exists()
    plan = json.loads(here["example/support-lora/linux/plan.json"])
    contents = [model["content"] for model in locked_data(project)["models"]]
    assert [model["content"] for model in plan["runtime"]["models"]] == contents
    Draft202012Validator(json.loads((folder("schema") / "plan.schema.json").read_text())).validate(plan)


def test_a_model_that_is_to_be_quantized_is_planned_without_it(project: Path) -> None:
    text = CHAT.replace("BASE", "{path: specs/models/tiny}, quantization: {bits: 4, group_size: 32}")
    spec = with_spec(project, text.replace("platform: linux", "platform: linux, machine: {memory_gb: 8}"))
    assert lock("spec.yaml") == OK

    def plan() -> bytes:
        report = Report()
        (place,) = build([spec], surroundings(project), None, report, models=False)
        assert not len(report)
        return (place / "plan.json").read_bytes()

    with_model = plan()
    shutil.rmtree(project / "specs/models")
    assert plan() == with_model
    (model,) = json.loads(with_model)["runtime"]["models"]
    assert model["derived"]["settings"]["bits"] == 4
    # A whole build makes nothing of a model that isn't here.
    assert built(project, spec)["p/chat/linux/plan.json"] == with_model


def test_a_clone_may_hold_the_small_files_alone(project: Path) -> None:
    assert lock() == OK
    here = built(project, project / "specs/lora.yaml")
    for weights in (project / "specs/models").rglob("*.safetensors"):
        weights.unlink()
    assert built(project, project / "specs/lora.yaml") == here
    assert not (project / "build/example/support-lora/linux/models").exists()


def test_a_clone_may_hold_the_pointers_of_git_lfs(project: Path) -> None:
    assert lock() == OK
    here = built(project, project / "specs/lora.yaml")
    for name in ("tiny/model.safetensors", "tiny/tokenizer.json", "tiny-support/adapters.safetensors"):
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
        (project / "specs/models" / name).write_text(text)
    assert built(project, project / "specs/lora.yaml") == here


def test_small_files_that_differ_are_told_all_the_same(project: Path) -> None:
    assert lock() == OK
    (project / "specs/models/tiny/model.safetensors").unlink()
    (project / "specs/models/tiny/config.json").write_text("{}")
    assert [(f.code, "'config.json' has 2 bytes" in f.message) for f in found(project)] == [("lock-mismatch", True)]


@pytest.mark.parametrize(
    "source", ["{root: disk, path: tiny}", f"{{hf: org/tiny, revision: {COMMIT}}}", "{store: 'tiny:v1'}"]
)
def test_models_elsewhere(project: Path, source: str) -> None:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {disk: {env: DISK}}\n")
    spec = with_spec(project, CHAT.replace("BASE", source))
    places = {"root": project / "disk/tiny", "store": project / "home/bentoml/models/tiny/v1"}
    hub = project / f"home/.cache/huggingface/hub/models--org--tiny/snapshots/{COMMIT}"
    place = next((place for word, place in places.items() if word in source), hub)
    shutil.copytree(project / "specs/models/tiny", place)
    assert lock("spec.yaml", disk=project / "disk") == OK
    with_model = built(project, spec, DISK=str(project / "disk"))
    assert (project / "build/p/chat/linux/models/base").is_symlink()
    shutil.rmtree(place)
    assert built(project, spec) == with_model
    assert not (project / "build/p/chat/linux/models").exists()


def test_what_no_lock_excuses(project: Path) -> None:
    """A folder that is another thing than missing is told, lock or no lock."""
    assert lock() == OK
    shutil.move(project / "specs/models/tiny", project.parent / "tiny")
    (project / "specs/models/tiny").symlink_to(project.parent / "tiny")
    assert [fault.code for fault in found(project)] == ["path-outside"]


# The lock and the models differ


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def _header(path: Path) -> None:
    """The same tensors, but for the name of one."""
    content = path.read_bytes()
    path.write_bytes(content.replace(b"model.norm.weight", b"model.norm.weighT", 1))


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("config.json", _append, "base: 'config.json' has 456 bytes, 455 in the lock"),
        ("model.safetensors", _header, "base: 'model.safetensors' has another header than the lock says (sha256 "),
        ("tokenizer_config.json", Path.unlink, "base: 'tokenizer_config.json' is in the lock, but not in the folder"),
        ("chat_template.jinja", Path.touch, "base: 'chat_template.jinja' isn't in the lock"),
    ],
)
def test_a_model_that_is_another_one(project: Path, name: str, change: Callable[[Path], None], told: str) -> None:
    assert lock() == OK
    change(project / "specs/models/tiny" / name)
    (fault,) = found(project)
    assert (fault.code, fault.span.file, fault.span.line) == ("lock-mismatch", "specs/lora.yaml", 12)
    assert fault.message.startswith(told)
    assert fault.help.endswith("mlspec lock specs/lora.yaml")
    assert lock() == OK
    assert not found(project)


def test_other_weights_are_seen_by_lock_check_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock() == OK
    path = project / "specs/models/tiny/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not found(project)
    assert lock(check=True) == FINDINGS
    assert "error[lock-mismatch]: base: its weights aren't those of the lock" in capsys.readouterr().out


def test_facts_of_another_version(project: Path) -> None:
    assert lock() == OK
    rewrite(project, lambda data: data["models"][0]["details"].update(layers=3), sealed=True)
    (fault,) = found(project)
    assert (fault.code, "what is read of them: 'layers'" in fault.message) == ("lock-mismatch", True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("path: specs/models/tiny}", "path: specs/models/other}", ["base comes from another place than the lock says"]),
        (
            "{name: support,",
            "{name: help,",
            ["adapters/help isn't in the lock", "the lock holds 'adapters/support', which this spec doesn't name"],
        ),
    ],
)
def test_a_spec_that_names_other_models(project: Path, old: str, new: str, told: list[str]) -> None:
    assert lock() == OK
    spec = project / "specs/lora.yaml"
    text = spec.read_text()
    assert old in text
    spec.write_text(text.replace(old, new))
    faults = found(project)
    assert {fault.code for fault in faults} == {"lock-stale"}
    assert sorted(fault.message for fault in faults) == sorted(told)


# `mlspec lock --check`


def test_check_writes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock(check=True) == FINDINGS
    assert "error[lock-stale]: there is no lock 'specs/lora.lock.yaml'" in capsys.readouterr().out
    assert not the_lock(project).exists()
    assert lock() == OK
    assert lock(check=True) == OK


def test_check_where_the_models_are_not(project: Path) -> None:
    assert lock() == OK
    shutil.rmtree(project / "specs/models")
    assert lock(check=True) == OK


def test_check_of_a_lock_that_is_laid_out_otherwise(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock() == OK
    the_lock(project).write_text(json.dumps(locked_data(project)))
    assert not found(project)
    assert lock(check=True) == FINDINGS
    assert "error[lock-stale]: 'specs/lora.lock.yaml' isn't laid out" in capsys.readouterr().out


# Locks that are none


def rewrite(project: Path, change: Callable[[Any], object], *, sealed: bool = False) -> None:
    """Change what a lock says; `sealed` with a digest that fits."""
    data = locked_data(project)
    change(data)
    if sealed:
        data["digest"] = digest(data["models"])
    the_lock(project).write_text(json.dumps(data, indent=1))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.update(version=0), "is of version '0'; this mlspec reads version 1"),
        (lambda data: data.update(version="2"), "is of version '2'; this mlspec reads version 1"),
        (lambda data: data.pop("spec"), "has no fit value at the file"),
        (lambda data: data.pop("version"), "says no version"),
        (lambda data: data.update(more=1), "has no fit value at the file"),
        (lambda data: data["models"][0]["files"][1].update(size_bytes="7"), "at models[0].files[1].size_bytes"),
        (lambda data: data["models"][0].update(details=[]), "has no fit value at models[0].details"),
        (lambda data: data["models"][1].update(parameter_bytes=7), "was changed by hand"),
        (lambda data: data["models"].reverse(), "was changed by hand"),
    ],
)
def test_a_lock_that_was_changed(project: Path, change: Callable[[Any], object], told: str) -> None:
    assert lock() == OK
    rewrite(project, change)
    (fault,) = found(project)
    assert (fault.code, fault.span.file) == ("bad-lock", "specs/lora.lock.yaml")
    assert told in fault.message
    assert fault.help == "write it anew: mlspec lock specs/lora.yaml"
    assert lock() == OK
    assert not found(project)


def test_a_lock_of_a_newer_version_is_not_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock() == OK
    rewrite(project, lambda data: data.update(version=2))
    (fault,) = found(project)
    assert (fault.code, "was written by a newer mlspec: it is of version '2'" in fault.message) == ("bad-lock", True)
    assert fault.help.startswith("update mlspec")
    before = the_lock(project).read_bytes()
    assert lock() == FINDINGS
    assert "update mlspec" in capsys.readouterr().err
    assert the_lock(project).read_bytes() == before


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> other", "||||||| 0123abc"])
def test_conflict_markers(project: Path, marker: str) -> None:
    assert lock() == OK
    lines = the_lock(project).read_text().splitlines()
    lines.insert(5, marker)
    the_lock(project).write_text("\n".join(lines) + "\n")
    (fault,) = found(project)
    assert (fault.code, fault.span.file, fault.span.line) == ("bad-lock", "specs/lora.lock.yaml", 6)
    assert "holds the conflict markers that a merge left" in fault.message
    assert fault.help == "write it anew: mlspec lock specs/lora.yaml"
    assert lock() == OK
    assert not found(project)


def test_two_specs_that_would_have_one_lock(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CHAT.replace("BASE", "{path: specs/models/tiny}")
    with_spec(project, text, "s.yaml")
    with_spec(project, text.replace("name: chat", "name: other"), "s.yml")
    options = Namespace(specs=[Path("s.yaml"), Path("s.yml")], check=False, output_format="text", root=[])
    assert lock_command.run(options) == FINDINGS
    told = capsys.readouterr().err
    assert "error[lock-taken]: 's.yaml' and 's.yml' would have the same lock, 's.lock.yaml'" in told
    assert not the_lock(project, "s.yaml").exists()
    assert lock("s.yaml") == OK
    before = the_lock(project, "s.yaml").read_bytes()
    assert lock("s.yml") == FINDINGS
    assert "the lock 's.lock.yaml' is that of 's.yaml', not of 's.yml'" in capsys.readouterr().err
    assert the_lock(project, "s.yaml").read_bytes() == before
    assert [fault.code for fault in found(project, "s.yml")] == ["lock-taken"]
    assert not found(project, "s.yaml")


def test_a_spec_that_got_another_name(project: Path) -> None:
    spec = with_spec(project, CHAT.replace("BASE", "{path: specs/models/tiny}"), "old.yaml")
    assert lock("old.yaml") == OK
    spec.rename(project / "new.yaml")
    the_lock(project, "old.yaml").rename(the_lock(project, "new.yaml"))
    (fault,) = found(project, "new.yaml")
    assert (fault.code, fault.span.file) == ("lock-taken", "new.yaml")
    assert fault.help == "if the spec got another name, write its lock anew: mlspec lock new.yaml"
    assert lock("new.yaml") == OK
    assert not found(project, "new.yaml")


def _leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in JSON data, of lists the first two parts."""
    parts = list(value.items()) if isinstance(value, dict) else []
    parts = list(enumerate(value[:2])) if isinstance(value, list) else parts
    return [place, *(leaf for key, part in parts for leaf in _leaves(part, (*place, key)))]


def test_details_that_cannot_be_never_end_in_an_exception(project: Path) -> None:
    """With a digest that fits, where the model isn't there: nothing but the details can tell."""
    text = CHAT.replace("BASE", "{path: specs/models/tiny}, quantization: auto, context_length: auto, adapters: [A]")
    text = text.replace("A]", "{name: support, path: specs/models/tiny-support}]").replace("chat", "forged")
    with_spec(project, text.replace("platform: linux", "platform: linux, machine: {memory_gb: 8}"))
    assert lock("spec.yaml") == OK
    shutil.rmtree(project / "specs/models")
    assert not found(project, "spec.yaml")
    whole, chance = locked_data(project, "spec.yaml"), random.Random(3)
    details = [(index, place) for index, model in enumerate(whole["models"]) for place in _leaves(model["details"])]
    for index, place in details:
        if not place:
            continue
        data = json.loads(json.dumps(whole))
        *path, last = place
        holder = data["models"][index]["details"]
        for key in path:
            holder = holder[key]
        if isinstance(holder, dict) and chance.random() < 0.2:
            del holder[last]
        else:
            holder[last] = chance.choice([None, -1, 0, 1, 2**70, 1.5, "x", True, [], {}, [[]], {"x": 1}])
        data["digest"] = digest(data["models"])
        the_lock(project, "spec.yaml").write_text(json.dumps(data))
        found(project, "spec.yaml")


def test_details_of_no_use(project: Path) -> None:
    assert lock() == OK
    shutil.rmtree(project / "specs/models")
    rewrite(project, lambda data: data["models"][0]["details"]["architecture"].update(heads="4"), sealed=True)
    (fault,) = found(project)
    assert fault.code == "bad-lock"
    assert "base: what the lock says of it is of no use: architecture.heads isn't as it should be" in fault.message
    assert fault.help == "write the lock anew: mlspec lock specs/lora.yaml"


def test_the_place_of_a_fault(project: Path) -> None:
    assert lock() == OK
    rewrite(project, lambda data: data["models"][0]["files"][1].update(size_bytes="7"))
    (fault,) = found(project)
    line = the_lock(project).read_text().splitlines()[fault.span.line - 1]
    assert line[fault.span.column - 1 : fault.span.end_column - 1] == '"7"'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"[]",
        b"7",
        b"{",
        b"\xff\xfe",
        b"\x00",
        b'{"version": NaN}',
        b'{"version": 1, "version": 1}',
        b"[" * 200_000,
        b"{version: 1, digest: x, models: [*a]}",
        b"<<<<<<< HEAD\n{}\n",
        b'{"version": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_lock(project: Path, content: bytes) -> None:
    the_lock(project).write_bytes(content)
    assert [(f.code, f.span.file) for f in found(project)] == [("bad-lock", "specs/lora.lock.yaml")]


def test_what_is_no_file(project: Path) -> None:
    path = the_lock(project)
    os.mkfifo(path)
    assert [(f.code, "is no regular file" in f.message) for f in found(project)] == [("bad-lock", True)]
    path.unlink()
    path.symlink_to("nowhere")
    assert [(f.code, "is a link to nothing" in f.message) for f in found(project)] == [("bad-lock", True)]
    path.unlink()
    path.touch()
    os.truncate(path, (64 << 20) + 1)
    assert [(f.code, "has more than" in f.message) for f in found(project)] == [("bad-lock", True)]


@pytest.mark.parametrize(
    ("make", "told", "at_writing"),
    [
        (Path.mkdir, "is a folder", "is a folder"),
        (os.mkfifo, "is no regular file", "is no regular file"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing", "is a link"),
        (lambda path: path.symlink_to("/etc/passwd"), "is a link that leads out of the project", "is a link"),
    ],
)
def test_what_has_to_be_moved_away(
    project: Path, make: Callable[[Path], None], told: str, at_writing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is read or shown, and no remedy leads back to where one was."""
    make(the_lock(project))
    (fault,) = found(project)
    assert (fault.code, fault.span.file) == ("bad-lock", "specs/lora.yaml")
    assert fault.message == f"the lock 'specs/lora.lock.yaml' {told}"
    assert fault.help.startswith("move it away: ")
    assert lock() == FAILED
    err = capsys.readouterr().err
    assert f"error[write-failed]: the lock can't be written: 'specs/lora.lock.yaml' {at_writing}\n" in err
    assert "move it away, then: mlspec lock specs/lora.yaml" in err
    assert lock(check=True) == FINDINGS
    assert "root:" not in err + capsys.readouterr().out


def test_a_lock_that_is_a_link_within_the_project_is_read(project: Path) -> None:
    assert lock() == OK
    the_lock(project).rename(project / "the.lock")
    the_lock(project).symlink_to(project / "the.lock")
    assert not found(project)


def test_random_damage_never_ends_in_an_exception(project: Path) -> None:
    assert lock() == OK
    whole, chance = the_lock(project).read_bytes(), random.Random(5)
    for _ in range(60):
        damaged = bytearray(whole)
        if chance.random() < 0.3:
            damaged = damaged[: chance.randrange(len(damaged))]
        start = chance.randrange(len(damaged) + 1)
        damaged[start : start + chance.randrange(1, 40)] = bytes(
            chance.choice(b'{}[],:"0a\\\n ') for _ in range(chance.randrange(4))
        )
        the_lock(project).write_bytes(damaged)
        assert {fault.code for fault in found(project)} <= {"bad-lock"}


# Digests


def test_weights_are_read_once(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x" * 1000)
    os.utime(weights, (1, 1))
    digests = Digests(tmp_path / "cache", lambda text: None)
    file = ModelFile("w.safetensors", 1000, "0" * 64, "header")
    first = digests.of_model(tmp_path, [file])
    # Of the same size, date and inode: were it read again, its digest would be another one.
    with weights.open("r+b") as opened:
        opened.write(b"y")
    os.utime(weights, (1, 1))
    assert digests.of_model(tmp_path, [file]) == first
    os.utime(weights, (2, 2))
    assert digests.of_model(tmp_path, [file]) != first


def test_what_was_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"x")
    Digests(tmp_path / "cache", lambda text: None).of(weights)
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize("note", [b"", b"nonsense", b"\xff" * 64, b"0" * 63])
def test_a_damaged_memory_is_not_believed(tmp_path: Path, note: bytes) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"x")
    os.utime(weights, (1, 1))
    digests = Digests(tmp_path / "cache", lambda text: None)
    right = digests.of(weights)
    (written,) = (tmp_path / "cache").iterdir()
    written.write_bytes(note)
    assert digests.of(weights) == right
    assert written.read_text() == right


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"x")
    os.utime(weights, (1, 1))
    (tmp_path / "file").touch()
    assert len(Digests(tmp_path / "file/cache", lambda text: None).of(weights)) == 64


def test_a_long_reading_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests_module, "_LARGE_BYTES", 20 << 20)
    told: list[str] = []
    for name, size_bytes in (("small", 1 << 20), ("large", 60 << 20)):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size_bytes)
        Digests(tmp_path / "cache", told.append).of(tmp_path / name)
    assert told[0] == "reading large: 0.0 of 0.1 GiB"
    assert told[-1] == "reading large: 0.1 of 0.1 GiB"
    assert len(told) == 8
