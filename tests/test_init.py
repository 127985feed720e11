"""The first spec: valid as it is written, safe whatever a folder is called, and never in place of a file."""

from __future__ import annotations

import errno
import filecmp
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from mlspec.commands.fmt import formatted
from mlspec.commands.init import run
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.pipeline import check
from mlspec.resources import folder
from mlspec.runners.mlx_lm.starting import Base, find_base, first_model
from mlspec.starting.example import write_example
from mlspec.starting.first_spec import write_spec
from mlspec.starting.place import Start
from mlspec.starting.project import PROJECT_TEXT
from mlspec.starting.spec_text import dns_label, is_dns_label, spec_text
from mlspec.workspace import Surroundings

TINY, SUPPORT = folder("specs") / "models" / "tiny", folder("specs") / "models" / "tiny-support"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "f" * 40
SCHEMA = Draft202012Validator(json.loads((folder("schema") / "mlspec.schema.json").read_text(encoding="utf-8")))


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A project, marked as one, with Hugging Face's cache beside it."""
    here = tmp_path / "Shop Lab"
    (here / ".git").mkdir(parents=True)
    return Start(here, tmp_path / "cache")


def model(start: Start, path: str) -> Path:
    shutil.copytree(TINY, start.here / path)
    return Path(path)


def adapter(start: Start, path: str, base: object) -> Path:
    shutil.copytree(SUPPORT, start.here / path)
    file = start.here / path / "adapter_config.json"
    config = {**json.loads(file.read_text()), "model": base}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return Path(path)


def data(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return loaded


def faults(path: Path, start: Start) -> list[str]:
    """What `mlspec check` says of a spec."""
    report = Report()
    environment = {"HF_HUB_CACHE": str(start.cache), "XDG_CACHE_HOME": str(start.cache)}
    check([path], Surroundings(environment, start.here, start.here.parent), report)
    return [f"{found.code}: {found.message}" for found in report]


def test_a_model(start: Start) -> None:
    written = write_spec(model(start, "models/Tiny Llama_v2"), start)
    assert written.paths == (start.here / "specs" / "tiny-llama-v2.yaml",)
    assert written.messages == ("now: mlspec check specs/tiny-llama-v2.yaml",)
    spec = data(written.paths[0])
    assert spec["metadata"] == {"name": "tiny-llama-v2", "project": "shop-lab"}
    assert spec["model"] == {"runner": "mlx-lm", "base": {"path": "models/Tiny Llama_v2"}}
    assert "  # context_length: 2048  # " in written.paths[0].read_text()
    assert faults(written.paths[0], start) == []


@pytest.mark.parametrize("base", ["models/tiny", "../tiny", "tiny"])
def test_an_adapter_finds_its_base(start: Start, base: str) -> None:
    model(start, "models/tiny")
    written = write_spec(adapter(start, "models/support", base), start)
    spec = data(written.paths[0])["model"]
    assert spec["base"] == {"path": "models/tiny"}
    assert spec["adapters"] == [{"name": "support", "path": "models/support"}]
    assert spec["runner"] == "lora"
    assert "  # context_length: 2048  # " in written.paths[0].read_text()
    assert faults(written.paths[0], start) == []


def test_an_adapter_in_pefts_format_finds_its_base(start: Start) -> None:
    model(start, "models/tiny")
    support = start.here / "models/support"
    support.mkdir()
    (support / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "tiny"}')
    (support / "adapter_model.safetensors").write_bytes(b"")
    spec = data(write_spec(support, start).paths[0])["model"]
    assert spec["base"] == {"path": "models/tiny"}
    assert spec["adapters"] == [{"name": "support", "path": "models/support"}]


def test_an_adapter_that_names_its_base_by_an_absolute_path(start: Start) -> None:
    model(start, "models/tiny")
    written = write_spec(adapter(start, "support", str(start.here / "models" / "tiny")), start)
    assert data(written.paths[0])["model"]["base"] == {"path": "models/tiny"}


def test_an_adapter_called_base(start: Start) -> None:
    model(start, "tiny")
    written = write_spec(adapter(start, "base", "tiny"), start)
    assert data(written.paths[0])["model"]["adapters"] == [{"name": "adapter", "path": "base"}]
    assert faults(written.paths[0], start) == []


def in_cache(start: Start, commit: str) -> None:
    shutil.copytree(TINY, start.cache / "models--org--tiny" / "snapshots" / commit)


def test_a_base_on_the_hub_with_one_commit_in_the_cache(start: Start) -> None:
    in_cache(start, COMMIT)
    written = write_spec(adapter(start, "support", "org/tiny"), start)
    assert data(written.paths[0])["model"]["base"] == {"hf": "org/tiny", "revision": COMMIT}
    assert faults(written.paths[0], start) == []


@pytest.mark.parametrize("commits", [(), (COMMIT, OTHER_COMMIT)])
def test_a_base_on_the_hub_whose_commit_is_open(start: Start, commits: tuple[str, ...]) -> None:
    for commit in commits:
        in_cache(start, commit)
    written = write_spec(adapter(start, "support", "org/tiny"), start)
    note = "The adapter's base is org/tiny on the hub: fill in its full commit hash, then: mlspec fetch"
    assert written.messages[0] == note
    text = written.paths[0].read_text()
    assert f"  # {note}\n  # base: {{hf: org/tiny, revision: COMMIT}}\n" in text
    assert "base" not in data(written.paths[0])["model"]


@pytest.mark.parametrize(
    ("base", "named"),
    [
        ("smol32", "its configuration says 'smol32'"),
        ("/nowhere/tiny", "its configuration says '/nowhere/tiny'"),
        ("a\nb: c\x1b[31m", "its configuration says 'a\\nb: c\\x1b[31m'"),
        ("a\0b", "its configuration says 'a\\x00b'"),
        (None, "its configuration names none"),
        (["x"], "its configuration names none"),
    ],
)
def test_a_base_that_is_not_found(start: Start, base: object, named: str) -> None:
    written = write_spec(adapter(start, "support", base), start)
    assert written.messages[0] == f"The adapter's base model wasn't found ({named}): fill in 'base'."
    assert f"  # {written.messages[0]}\n  # base: {{path: models/NAME}}\n" in written.paths[0].read_text()
    assert "base" not in data(written.paths[0])["model"]


def test_a_base_outside_the_project(start: Start) -> None:
    shutil.copytree(TINY, start.here.parent / "outside")
    written = write_spec(adapter(start, "support", "../outside"), start)
    assert "outside the project" in written.messages[0]
    assert str(start.here.parent) not in written.paths[0].read_text()


def test_without_a_folder_there_is_a_spec_to_fill_in(start: Start) -> None:
    written = write_spec(None, start)
    assert data(written.paths[0])["model"]["base"] == {"path": "models/NAME"}
    assert "place holder" in written.messages[0]
    assert SCHEMA.is_valid(data(written.paths[0]))


def test_a_name_and_a_file_of_ones_own(start: Start) -> None:
    written = write_spec(model(start, "tiny"), start, Path("ops/a.yml"), "my-service")
    assert written.paths == (start.here / "ops" / "a.yml",)
    assert data(written.paths[0])["metadata"]["name"] == "my-service"


def test_from_a_subfolder_paths_start_at_the_root(start: Start) -> None:
    model(start, "models/tiny")
    below = Start(start.here / "models", start.cache)
    written = write_spec(Path("tiny"), below)
    assert written.paths == (start.here / "specs" / "tiny.yaml",)
    assert data(written.paths[0])["model"]["base"] == {"path": "models/tiny"}
    assert faults(written.paths[0], start) == []


def test_where_nothing_marks_the_root_a_project_file_does(start: Start) -> None:
    (start.here / ".git").rmdir()
    written = write_spec(model(start, "tiny"), start)
    assert written.paths == (start.here / "specs" / "tiny.yaml", start.here / "mlspec.yaml")
    assert faults(written.paths[0], start) == []


def test_an_editor_finds_the_projects_copy_of_the_schema(start: Start) -> None:
    (start.here / "schema").mkdir()
    (start.here / "schema" / "mlspec.schema.json").write_text("{}")
    written = write_spec(model(start, "tiny"), start, Path("specs/shop/tiny.yaml"))
    first = written.paths[0].read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../schema/mlspec.schema.json"


@pytest.mark.parametrize("marked", [True, False])
def test_an_output_beside_a_subfolder(start: Start, marked: bool) -> None:
    model(start, "models/tiny")
    if not marked:
        (start.here / ".git").rmdir()
    (start.here / "mlspec.yaml").write_text(PROJECT_TEXT)
    written = write_spec(Path("tiny"), Start(start.here / "models", start.cache), Path("../specs/x.yaml"))
    assert written.paths == (start.here / "specs" / "x.yaml",)
    assert faults(written.paths[0], start) == []


def test_a_spec_in_another_project_is_not_half_written(start: Start) -> None:
    (start.here / "mlspec.yaml").write_text(PROJECT_TEXT)
    (start.here / "other").mkdir()
    (start.here / "other" / "mlspec.yaml").write_text(PROJECT_TEXT)
    with pytest.raises(CommandError, match="belongs to another project"):
        write_spec(model(start, "tiny"), start, Path("other/x.yaml"))
    assert [path.name for path in (start.here / "other").iterdir()] == ["mlspec.yaml"]


@pytest.mark.parametrize("path", ["specs/tiny.yaml", "specs/link.yaml"])
def test_a_file_is_never_overwritten(start: Start, path: str) -> None:
    (start.here / "specs").mkdir()
    (start.here / "specs" / "tiny.yaml").write_text("mine")
    (start.here / "specs" / "link.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(CommandError, match="is there already") as caught:
        write_spec(model(start, "tiny"), start, Path(path))
    assert caught.value.code == "file-exists"
    assert (start.here / "specs" / "tiny.yaml").read_text() == "mine"
    assert sorted(p.name for p in (start.here / "specs").iterdir()) == ["link.yaml", "tiny.yaml"]


def test_where_the_file_system_has_no_links(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    written = write_spec(model(start, "tiny"), start)
    assert faults(written.paths[0], start) == []
    with pytest.raises(CommandError, match="is there already"):
        write_spec(Path("tiny"), start)
    assert [p.name for p in (start.here / "specs").iterdir()] == ["tiny.yaml"]


def test_an_output_outside_the_project(start: Start) -> None:
    with pytest.raises(CommandError) as caught:
        write_spec(model(start, "tiny"), start, Path("../tiny.yaml"))
    assert caught.value.code == "path-outside"
    assert not (start.here.parent / "tiny.yaml").exists()


@pytest.mark.parametrize("name", ["Tiny", "a b", "", "-a", "a" * 41, "a\n", "ä"])
def test_a_name_that_is_none(start: Start, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        write_spec(model(start, "tiny"), start, None, name)
    assert caught.value.code == "bad-name"


def test_a_model_outside_the_project(start: Start) -> None:
    shutil.copytree(TINY, start.here.parent / "outside")
    (start.here / "link").symlink_to(start.here.parent / "outside")
    for path in ("../outside", "link", str(start.here.parent / "outside")):
        with pytest.raises(CommandError) as caught:
            write_spec(Path(path), start)
        assert caught.value.code == "path-outside"
        assert "root in mlspec.yaml" in caught.value.help
    assert not (start.here / "specs").exists()


@pytest.mark.parametrize("name", ["a\nb", "tab\there", "esc\x1b[0m", "rtl\u202eb", "back\\slash", "nl\u2028x"])
def test_a_folder_whose_name_no_spec_may_hold(start: Start, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        write_spec(model(start, name), start)
    assert caught.value.message.endswith("has a character that a path in a spec may not hold")
    assert caught.value.message.isprintable()


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_folder_whose_name_is_no_text(start: Start) -> None:
    path = Path(os.fsdecode(b"tiny\xff"))
    try:
        model(start, str(path))
    except OSError:
        pytest.skip("this file system has names of text only")
    with pytest.raises(CommandError, match="has a character"):
        write_spec(path, start)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no model that a runner here knows"),
        ({"model.safetensors": ""}, "no MLX model: config.json is missing"),
        ({"config.json": "{}"}, "no MLX model: model.safetensors is missing"),
        ({"config.json": "{}", "pytorch_model.bin": ""}, "holds PyTorch pickles only; mlspec never opens a pickle"),
        ({"model.Q4.gguf": "", "config.json": "{}"}, "holds GGUF files, which mlx_lm doesn't load"),
        ({"adapter_config.json": "{}"}, "an adapter of another format, neither mlx_lm's nor PEFT's"),
        (
            {"adapter_config.json": '{"peft_type": "LORA"}'},
            "adapter_config.json is there, adapter_model.safetensors is missing",
        ),
        (
            {"adapter_config.json": '{"fine_tune_type": "lora"}'},
            "adapter_config.json is there, adapters.safetensors is missing",
        ),
    ],
)
def test_what_is_not_mlx_is_named(start: Start, files: dict[str, str], message: str) -> None:
    (start.here / "x").mkdir()
    for name, text in files.items():
        (start.here / "x" / name).write_text(text)
    with pytest.raises(CommandError) as caught:
        write_spec(Path("x"), start)
    assert (caught.value.code, caught.value.message) == ("model-format", f"x: {message}")
    assert caught.value.help
    assert not (start.here / "specs").exists()


NETWORK = "import {package}.nn as nn\nclass Layer(nn.Module): ...\nclass Net(nn.Module): ...\nclass Other: ...\n"
CLASS = "class Base: ...\nclass Model(Base):\n    def predict(self, inputs): ...\n"


@pytest.mark.parametrize(
    ("files", "model"),
    [
        ({"a.onnx": ""}, {"runner": "onnx"}),
        ({"b.onnx": "", "a.onnx": "", "config.json": "{}"}, {"runner": "onnx", "file": "a.onnx"}),
        ({"a.mlpackage/Manifest.json": "{}"}, {"runner": "coreml"}),
        ({"a.skops": "", "old.pkl": ""}, {"runner": "sklearn"}),
        ({"a.safetensors": "", "net.py": NETWORK.format(package="torch")}, {"runner": "torch", "class": "Net"}),
        ({"a.pt": "", "net.py": NETWORK.format(package="torch")}, {"runner": "torch", "class": "Net"}),
        ({"a.pt2": ""}, {"runner": "torch"}),
        ({"a.npz": "", "net.py": NETWORK.format(package="mlx")}, {"runner": "mlx", "class": "Net"}),
        ({"model.py": CLASS, "names.json": "{}"}, {"runner": "python", "class": "Model"}),
        ({"config.json": "{}", "model.safetensors": "", "model.py": CLASS}, {"runner": "mlx-lm"}),
    ],
)
def test_each_runner_knows_its_models(start: Start, files: dict[str, str], model: dict[str, str]) -> None:
    for name, text in files.items():
        path = start.here / "models/my model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    written = write_spec(Path("models/my model"), start)
    text = written.paths[0].read_text()
    assert formatted(text) == text
    found = data(written.paths[0])["model"]
    assert {key: found.get(key) for key in ("runner", "class", "file") if key in found or key in model} == model
    if "class" in model:
        assert found["module"] in {f"models/my model/{name}" for name in files}
    for key in ("inputs", "outputs"):
        text = text.replace(f"\n  # {key}:\n  #   - {{", f"\n  {key}:\n    - {{")
    (start.here / "filled.yaml").write_text(text)
    assert list(SCHEMA.iter_errors(data(start.here / "filled.yaml"))) == []


@pytest.mark.parametrize("name", ["net.pt", "net.pth"])
def test_a_state_dict_alone_wants_its_network(start: Start, name: str) -> None:
    (start.here / "x").mkdir()
    (start.here / "x" / name).write_text("")
    with pytest.raises(CommandError, match="holds a network's tensors") as caught:
        write_spec(Path("x"), start)
    assert caught.value.code == "model-format"
    assert "torch.nn.Module" in caught.value.help


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_alone_is_told_how_to_be_saved(start: Start, name: str) -> None:
    (start.here / "x").mkdir()
    (start.here / "x" / name).write_text("")
    with pytest.raises(CommandError, match="holds a pickle; mlspec never opens one") as caught:
        write_spec(Path("x"), start)
    assert "skops" in caught.value.help


@pytest.mark.parametrize("text", ["{", "[]", "\xff", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_a_broken_configuration(start: Start, name: str, text: str) -> None:
    model(start, "x")
    (start.here / "x" / name).write_text(text, encoding="latin-1")
    with pytest.raises(CommandError) as caught:
        write_spec(Path("x"), start)
    assert caught.value.code == "bad-model-file"
    assert name in caught.value.message


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_no_folder(start: Start, path: str) -> None:
    (start.here / "file").write_text("")
    with pytest.raises(CommandError) as caught:
        write_spec(Path(path), start)
    assert caught.value.code == "model-not-found"


def test_a_folder_that_cannot_be_written(start: Start) -> None:
    model(start, "tiny")
    (start.here / "specs").write_text("a file, no folder")
    with pytest.raises(CommandError) as caught:
        write_spec(Path("tiny"), start)
    assert caught.value.code in ("write-failed", "file-exists")


def test_a_base_is_looked_for_in_the_hub_only_by_a_whole_name(tmp_path: Path) -> None:
    assert find_base("org/tiny\n", (), tmp_path) is None
    assert find_base("../../etc", (), tmp_path) is None
    assert find_base("org/..", (), tmp_path) is None


RUNS = settings(max_examples=int(os.environ.get("INIT_EXAMPLES", "200")), deadline=None)
NO_SURROGATES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@RUNS
@given(NO_SURROGATES, NO_SURROGATES, NO_SURROGATES)
@example("true", "null", "{{ 1 }}")
@example("1e5", "0x10", "2026-01-01")
@example("a: b", "a #b", "'\"\\\u2028")
@example("\ufeff", "\x85", "*a")
def test_any_string_stands_as_itself(path: str, adapter_path: str, note: str) -> None:
    base = Base({"path": path}, note, context_length=7)
    text = spec_text("name", "123", first_model("lora", base, {"name": "support", "path": adapter_path}), None)
    spec = YAML(typ="safe", pure=True).load(text)
    assert spec["metadata"] == {"name": "name", "project": "123"}
    assert spec["model"] == {
        "runner": "lora",
        "base": {"path": path},
        "adapters": [{"name": "support", "path": adapter_path}],
    }
    neutral = Base({"path": "x"}, note and "x", context_length=7)
    plain = spec_text("x", "x", first_model("lora", neutral, {"name": "x", "path": "x"}), None)
    assert len(text.splitlines()) == len(plain.splitlines())


@RUNS
@given(st.text(max_size=60))
@example("--a--")
@example("A" * 39 + "-b")
@example("İ")
def test_a_label_is_one(text: str) -> None:
    assert is_dns_label(dns_label(text, "default"))


@pytest.mark.parametrize("found", [None, {"name": "support", "path": "models/support"}])
@pytest.mark.parametrize("source", [None, {"path": "a b"}, {"hf": "org/tiny", "revision": COMMIT}])
@pytest.mark.parametrize("schema", [None, "../schema/mlspec.schema.json"])
def test_the_text_is_formatted(found: dict[str, str] | None, source: dict[str, str] | None, schema: str | None) -> None:
    first = first_model("lora" if found else "mlx-lm", Base(source, "Do this." if source is None else ""), found)
    text = spec_text("name", "project", first, schema)
    assert formatted(text) == text
    assert SCHEMA.is_valid(YAML(typ="safe").load(text)) == (source is not None)


@pytest.mark.parametrize("inside", [False, True])
def test_the_example(start: Start, inside: bool) -> None:
    """In a folder that nothing marks, and in a subfolder of somebody's repository."""
    target = start.here / "sub" if inside else start.here.parent / "empty"
    target.mkdir()
    written = write_example(target)
    assert written.paths[0] == target / "specs" / "lora.yaml"
    assert written.paths[-1] == target / "mlspec.yaml"
    assert faults(written.paths[0], Start(target, start.cache)) == []
    for name in ("tiny", "tiny-support"):
        own = filecmp.dircmp(folder("specs") / "models" / name, target / "specs" / "models" / name)
        assert (own.left_only, own.right_only, own.diff_files) == ([], [], [])
    assert sorted(p.name for p in (target / "specs" / "models").iterdir()) == ["tiny", "tiny-support"]


def test_the_example_overwrites_nothing(tmp_path: Path) -> None:
    write_example(tmp_path)
    with pytest.raises(CommandError, match=r"lora\.yaml is there already"):
        write_example(tmp_path)
    (tmp_path / "specs" / "lora.yaml").unlink()
    assert write_example(tmp_path).paths == (tmp_path / "specs" / "lora.yaml",)
    (tmp_path / "specs" / "lora.yaml").unlink()
    (tmp_path / "specs" / "models" / "tiny" / "config.json").write_text("mine")
    with pytest.raises(CommandError, match="tiny is there already, and another one"):
        write_example(tmp_path)
    assert (tmp_path / "specs" / "models" / "tiny" / "config.json").read_text() == "mine"
    assert not (tmp_path / "specs" / "lora.yaml").exists()


def test_the_command(start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(start.here)
    model(start, "tiny")
    assert run(Namespace(model=Path("tiny"), out=None, name=None, example=False, runner=None)) == 0
    assert capsys.readouterr() == ("specs/tiny.yaml\n", "now: mlspec check specs/tiny.yaml\n")
    assert run(Namespace(model=Path("new"), out=None, name=None, example=True, runner=None)) == 0
    paths = ("specs/lora.yaml", "specs/models/tiny", "specs/models/tiny-support", "mlspec.yaml")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [f"new/{path}" for path in paths]
    assert printed.err == "now: mlspec serve new/specs/lora.yaml\n"
    assert run(Namespace(model=None, out=None, name="x", example=True, runner=None)) == 2
    assert "--example takes no" in capsys.readouterr().err
    assert run(Namespace(model=Path("a b"), out=None, name=None, example=True, runner=None)) == 0
    assert capsys.readouterr().err == "now: mlspec serve 'a b/specs/lora.yaml'\n"
