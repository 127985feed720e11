"""What inspect finds in the folders of models: each trouble ends in a diagnostic at its place, never in a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec import hub, pipeline
from mlspec.diagnostics import Diagnostic, Report
from mlspec.errors import CommandError
from mlspec.looking import kind_of, near_folder
from mlspec.model_files import JSON_LIMIT_BYTES, BadModelFileError, read_json, tensors
from mlspec.runners.mlx_lm.starting import context_length, find_base
from mlspec.starting.place import ModelFolder, Start
from mlspec.starting.recognising import recognised
from mlspec.starting.spec_text import FirstModel, Key
from projects import built, example, surroundings, with_spec

CHAT = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: chat, project: p}
model: {runner: mlx-lm, base: BASE}
targets: [{name: linux, platform: linux}]
"""
AS_A_USER = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--inh-caps"]
AS_A_USER += ["-dac_override,-dac_read_search,-fowner"]
"""Root without its right to read everything."""


def look(folder: Path, shown: str) -> FirstModel:
    """What `mlspec init` makes of a folder."""
    return recognised(ModelFolder(folder, shown, Start(folder.parent, folder.parent)))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    made = example(tmp_path / "project")
    yield made
    for place in [path for path in tmp_path.rglob("*") if path.is_dir() and not path.is_symlink()]:
        place.chmod(0o755)


@pytest.fixture
def tiny(project: Path) -> Path:
    return project / "specs/models/tiny"


@pytest.fixture
def support(project: Path) -> Path:
    return project / "specs/models/tiny-support"


def found(project: Path, spec: Path, **environment: str) -> list[Diagnostic]:
    report = Report()
    pipeline.check([spec], surroundings(project, **environment), report)
    return list(report)


def chat(project: Path) -> Diagnostic:
    """The one fault of the shipped chat.yaml."""
    (fault,) = found(project, project / "specs/chat.yaml")
    assert (fault.span.file, fault.help != "") == ("specs/chat.yaml", True)
    return fault


def lora(project: Path) -> Diagnostic:
    (fault,) = found(project, project / "specs/lora.yaml")
    return fault


def run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """mlspec as a user whom permissions hold back."""
    user = AS_A_USER if os.geteuid() == 0 else []
    assert not user or shutil.which("setpriv"), "as root these tests need setpriv"
    home = {"HOME": str(project / "home"), **environment}
    command = [*user, sys.executable, "-m", "mlspec", *arguments]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **home}, capture_output=True, text=True, check=False, timeout=60
    )


def header(entries: object, data_bytes: int = 0) -> bytes:
    text = entries.encode() if isinstance(entries, str) else json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data_bytes)


# Permissions


@pytest.mark.parametrize(
    ("path", "mode", "blamed"),
    [
        ("specs/models/tiny", 0o000, "specs/models/tiny"),
        ("specs/models/tiny", 0o444, "specs/models/tiny"),
        ("specs/models/tiny", 0o111, "specs/models/tiny"),
        ("specs/models", 0o000, "specs/models"),
        ("specs/models", 0o444, "specs/models"),
        ("specs/models/tiny/config.json", 0o000, "specs/models/tiny/config.json"),
        ("specs/models/tiny/model.safetensors", 0o000, "specs/models/tiny/model.safetensors"),
        ("specs/models/tiny/tokenizer.json", 0o000, "specs/models/tiny/tokenizer.json"),
    ],
)
@pytest.mark.parametrize("command", ["check", "init"])
def test_a_model_that_cannot_be_read(project: Path, path: str, mode: int, blamed: str, command: str) -> None:
    if command == "init" and path.endswith((".safetensors", "tokenizer.json")):
        return  # init reads configurations only
    (project / path).chmod(mode)
    arguments = ["init", "specs/models/tiny", "-o", "new.yaml"] if command == "init" else ["check", "specs/chat.yaml"]
    done = run(project, *arguments)
    (project / path).chmod(0o755)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert "error[model-unreadable]: " in told
    assert f"{blamed}' can't be read: permission denied" in told
    assert "help: check its permissions: ls -ld " in told
    assert command == "init" or "specs/chat.yaml:" in told


@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_an_unreadable_store_root_and_artifacts(project: Path, tmp_path: Path, mode: int) -> None:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {disk: {env: DISK}}\n")
    with_spec(project, CHAT.replace("BASE", "{store: 'tiny:v1'}"), "store.yaml")
    with_spec(project, CHAT.replace("BASE", "{root: disk, path: tiny}"), "root.yaml")
    (tmp_path / "away/models").mkdir(parents=True)
    for spec, place in (("store.yaml", tmp_path / "away"), ("root.yaml", tmp_path / "away")):
        place.chmod(mode)
        done = run(project, "check", spec, BENTOML_HOME=str(place), DISK=str(place))
        place.chmod(0o755)
        assert (done.returncode, "error[model-unreadable]: base: '" in done.stdout) == (1, True), done
    artifacts = project / "specs/models/iris/artifacts"
    artifacts.chmod(mode)
    done = run(project, "check", "specs/iris.yaml")
    artifacts.chmod(0o755)
    assert (done.returncode, "error[model-unreadable]: artifacts: " in done.stdout) == (1, True), done


def test_a_module_that_cannot_be_read(project: Path) -> None:
    (project / "specs/models/iris/model.py").chmod(0)
    done = run(project, "check", "specs/iris.yaml")
    assert (done.returncode, "error[file-unreadable]: 'specs/models/iris/model.py'" in done.stdout) == (1, True), done


def test_an_unreadable_cache_holds_nothing(project: Path) -> None:
    cache = project / "home/.cache/huggingface/hub"
    (cache / "models--org--tiny/snapshots").mkdir(parents=True)
    (project / "specs/models/tiny-support/adapter_config.json").write_text(
        '{"fine_tune_type": "lora", "model": "org/tiny"}'
    )
    (cache / "models--org--tiny").chmod(0)
    done = run(project, "init", "specs/models/tiny-support", "-o", "new.yaml")
    (cache / "models--org--tiny").chmod(0o755)
    assert (done.returncode, "org/tiny on the hub" in done.stderr) == (0, True), done
    assert hub.snapshots(cache, "org/" + "x" * 400) == ()


# Paths


def test_a_link_in_a_circle(project: Path, tiny: Path) -> None:
    shutil.rmtree(tiny)
    tiny.symlink_to("tiny")
    assert (chat(project).code, chat(project).message) == (
        "model-not-found",
        "'specs/models/tiny' is a link in a circle, not a folder",
    )
    with pytest.raises(CommandError, match="is a link in a circle"):
        look(tiny, "tiny")


def test_a_link_to_nothing(project: Path, tiny: Path) -> None:
    shutil.rmtree(tiny)
    tiny.symlink_to("nowhere")
    assert chat(project).message == "'specs/models/tiny' is a link to nothing, not a folder"
    assert chat(project).help.startswith("make the link lead to")


def test_a_module_that_is_a_link_in_a_circle(project: Path) -> None:
    module = project / "specs/models/iris/model.py"
    module.unlink()
    module.symlink_to("model.py")
    (fault,) = found(project, project / "specs/iris.yaml")
    assert (fault.code, fault.message) == (
        "file-missing",
        "'specs/models/iris/model.py' is a link in a circle, not a file",
    )


@pytest.mark.parametrize("path", ["x" * 400, "a/" * 50 + "b" * 300])
def test_a_name_that_is_too_long(project: Path, path: str) -> None:
    (fault,) = found(project, with_spec(project, CHAT.replace("BASE", f"{{path: {path}}}")))
    assert fault.code == "model-not-found"
    assert len(fault.message) < 300
    with pytest.raises(CommandError, match="no such folder"):
        look(project / path, "x")
    assert find_base(path, [project], project) is None
    module = (project / "specs/iris.yaml").read_text().replace("specs/models/iris/model.py", path + ".py")
    assert [fault.code for fault in found(project, with_spec(project, module))] == ["file-missing"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("specs/models/tniy", "specs/models/tiny"),
        ("spec/models/tiny", "specs/models/tiny"),
        ("specs/model/tniy", "specs/models/tiny"),
        ("elsewhere/entirely", None),
    ],
)
def test_the_folder_that_was_meant(project: Path, path: str, meant: str | None) -> None:
    (fault,) = found(project, with_spec(project, CHAT.replace("BASE", f"{{path: {path}}}")))
    start = "paths start at the project's root: project/"
    assert (fault.code, fault.message) == ("model-not-found", f"there is no folder '{path}'")
    assert fault.help == (f"did you mean '{meant}'? ({start})" if meant else start)
    assert near_folder(project, path) == meant


def test_nothing_outside_is_suggested(project: Path, tmp_path: Path) -> None:
    (tmp_path / "outside/secret-model").mkdir(parents=True)
    (project / "linked").symlink_to(tmp_path / "outside")
    assert near_folder(project, "linkde/secret-modle") is None


def test_a_root_shows_where_it_is_and_in_no_bundle(project: Path, tmp_path: Path) -> None:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {disk: {env: DISK}}\n")
    spec = with_spec(project, CHAT.replace("BASE", "{root: disk, path: tniy}"))
    disk = tmp_path / "disk"
    assert found(project, spec, DISK=str(disk))[0].help == f"the root 'disk' is {disk}, which is no folder"
    shutil.copytree(project / "specs/models/tiny", disk / "tiny")
    assert found(project, spec, DISK=str(disk))[0].help == f"did you mean 'tiny'? (the root 'disk' is {disk})"
    files = built(project, with_spec(project, CHAT.replace("BASE", "{root: disk, path: tiny}")), DISK=str(disk))
    assert not any(str(disk).encode() in content for content in files.values())


def test_a_file_where_its_folder_is_to_be_named(project: Path) -> None:
    path = "specs/models/tiny/config.json"
    (fault,) = found(project, with_spec(project, CHAT.replace("BASE", f"{{path: {path}}}")))
    assert (fault.message, fault.help) == (f"'{path}' is a file, not a folder", "name its folder: 'specs/models/tiny'")


# Files that are none


def _remove(file: Path) -> None:
    file.unlink()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dead(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


SPOILED = [
    (_remove, "is missing"),
    (_pipe, "is no regular file"),
    (_folder, "is a folder"),
    (_dead, "is a link to nothing"),
    (_loop, "is a link in a circle"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILED)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_the_file_that_is_none_is_named(
    project: Path, tiny: Path, name: str, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(tiny / name)
    fault = chat(project)
    assert (fault.code, fault.message) == ("model-format", f"base: no MLX model: {name} {reason}")
    assert "copy the whole folder again" in fault.help
    with pytest.raises(CommandError, match=f"{name} {reason}" if spoil is _remove else "no MLX model"):
        look(tiny, "tiny")


@pytest.mark.parametrize(("spoil", "reason"), SPOILED)
@pytest.mark.parametrize("name", ["adapter_config.json", "adapters.safetensors"])
def test_the_file_of_an_adapter_that_is_none_is_named(
    project: Path, support: Path, name: str, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(support / name)
    fault = lora(project)
    assert (fault.code, fault.message) == ("model-format", f"adapters/support: no mlx_lm adapter: {name} {reason}")


@pytest.mark.parametrize(("spoil", "reason"), [pair for pair in SPOILED if pair[0] in (_pipe, _dead, _loop)])
def test_no_pipe_is_waited_for(project: Path, tiny: Path, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(tiny / "tokenizer.json")
    assert chat(project).message == f"base: tokenizer.json: {reason}"


def test_a_folder_called_tokenizer_is_none_of_ours(project: Path, tiny: Path) -> None:
    (tiny / "tokenizer").mkdir()
    assert not found(project, project / "specs/chat.yaml")


def test_both_are_missing(project: Path, tiny: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tiny / name).unlink()
    assert chat(project).message == "base: no MLX model: config.json and model.safetensors are missing"
    assert "mlx_lm.convert" in chat(project).help


def test_artifacts_with_a_name_that_is_no_text(project: Path) -> None:
    name = os.fsdecode(b"a\xff.json")
    try:
        (project / "specs/models/iris/artifacts" / name).write_text("{}")
    except OSError:
        pytest.skip("this file system has names of text only")
    (fault,) = found(project, project / "specs/iris.yaml")
    assert (fault.code, "a\\udcff.json: its name has" in fault.message) == ("bad-model-file", True)


# JSON files


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_huge_configuration_is_not_read(project: Path, tiny: Path, name: str) -> None:
    (tiny / name).touch()
    os.truncate(tiny / name, 5_000_000_000)
    start = time.monotonic()
    assert chat(project).message == f"base: {name}: has 5,000,000,000 bytes; at most 67,108,864 are read"
    assert time.monotonic() - start < 5
    os.truncate(tiny / name, JSON_LIMIT_BYTES + 1)
    with pytest.raises(BadModelFileError, match="at most"):
        read_json(tiny / name)


@pytest.mark.parametrize("length", ["true", "2048.0", "-1", "0", '"2048"', "1e400", "NaN", "[1]", "1" * 400, "null"])
def test_a_context_length_that_is_none(project: Path, tiny: Path, length: str) -> None:
    config = json.loads((tiny / "config.json").read_text())
    text = json.dumps(config | {"max_position_embeddings": "?"}).replace('"?"', length)
    (tiny / "config.json").write_text(text)
    fault = chat(project)
    assert (fault.code, fault.help) == ("context-length", "set model.context_length, in tokens")
    assert context_length(tiny) is None


def test_a_configuration_of_nonsense_still_gives_a_plan(project: Path, tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    nonsense = {"num_hidden_layers": "?", "vocab_size": True, "model_type": "\ud800", "quantization": {"bits": "?"}}
    text = json.dumps({**config, **nonsense, "time_step_limit": "?"}).replace('"?"', "Infinity")
    (tiny / "config.json").write_text(text)
    report = Report()
    bundle, *_ = pipeline.build([project / "specs/chat.yaml"], surroundings(project), None, report)
    assert [(found.code, found.severity) for found in report] == [("unknown-family", "warning")]
    details = json.loads((bundle / "plan.json").read_text())["facts"][0]["details"]
    assert [details[key] for key in ("layers", "vocabulary", "model_type", "quantization")] == [None, None, None, {}]
    assert (details["architecture"]["known"], details["architecture"]["layers"]) == (False, 2)


# safetensors


NORM = {"dtype": "F32", "shape": [128], "data_offsets": [0, 512]}
TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "entries",
    [
        '{"w": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 8]}}',
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1e400]}}',
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, ' + "9" * 30 + "]}}",
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, ' + "9" * 5000 + "]}}",
        '{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "w": null}',
        '{"w": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        {"w": {**TENSOR, "shape": [-2]}},
        {"w": {**TENSOR, "shape": [True, 2]}},
        {"w": {**TENSOR, "shape": [2.0]}},
        {"w": {**TENSOR, "shape": "2"}},
        {"w": {**TENSOR, "shape": [1] * 1000}},
        {"w": {**TENSOR, "shape": [3]}},
        {"w": {**TENSOR, "dtype": 32}},
        {"w": {**TENSOR, "dtype": "\ud800"}},
        {"w": {**TENSOR, "data_offsets": [-8, 0]}},
        {"w": {**TENSOR, "data_offsets": [8, 0]}},
        {"w": {**TENSOR, "data_offsets": [8, 16]}},
        {"w": {**TENSOR, "data_offsets": "08"}},
        {"w": {**TENSOR, "data_offsets": [0, 4, 8]}},
        {"w": TENSOR, "v": TENSOR},
        {"w": TENSOR, "v": {**TENSOR, "data_offsets": [4, 12]}},
        {"w": TENSOR, "v": {**TENSOR, "data_offsets": [12, 20]}},
        {"w": 5},
        [1],
        "[" * 100_000,
    ],
)
def test_a_header_that_is_none(project: Path, tiny: Path, entries: object) -> None:
    (tiny / "model.safetensors").write_bytes(header(entries, 8))
    fault = chat(project)
    assert (fault.code, fault.message) == (
        "bad-model-file",
        "base: model.safetensors: its header is no safetensors header",
    )


def test_headers_that_are_right(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    entries = {"__metadata__": None, "b": {**TENSOR, "data_offsets": [8, 16]}, "a": TENSOR, "empty": empty}
    path = tmp_path / "x.safetensors"
    path.write_bytes(header({**entries, "new": {"dtype": "F4", "shape": [2], "data_offsets": [16, 17]}}, 17))
    assert {name: tensor.size_bytes for name, tensor in tensors(path).items()} == {
        "b": 8,
        "a": 8,
        "empty": 0,
        "new": 1,
    }


def test_too_short_and_too_long(project: Path, tiny: Path) -> None:
    size = (tiny / "model.safetensors").stat().st_size
    os.truncate(tiny / "model.safetensors", size + 3)
    assert chat(project).message == f"base: model.safetensors: is {size + 3} bytes, 3 more than its header says"
    os.truncate(tiny / "model.safetensors", size - 3)
    assert chat(project).message.endswith(f"is {size - 3} bytes, its header says {size}: cut off?")


# Adapters


def adapter_fault(project: Path, support: Path, change: dict[str, Any], raw: str = "") -> str:
    """The message about an adapter whose configuration was changed; `raw` is written for each "?"."""
    file = support / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change).replace('"?"', raw))
    fault = lora(project)
    assert (fault.code, fault.help) == ("bad-model-file", "train or copy the adapter again")
    return fault.message.removeprefix("adapters/support: adapter_config.json: ")


@pytest.mark.parametrize("parameters", ["5", "[]", "null", '"x"', "true"])
def test_parameters_that_are_no_map(project: Path, support: Path, parameters: str) -> None:
    message = adapter_fault(project, support, {"lora_parameters": "?"}, parameters)
    assert message == "lora_parameters has to be a map with rank and scale"


@pytest.mark.parametrize("rank", ['"x"', "-1", "0", "true", "8.0", "null", "1e400", "9" * 20])
def test_a_rank_that_is_none(project: Path, support: Path, rank: str) -> None:
    message = adapter_fault(project, support, {"lora_parameters": {"rank": "?", "scale": 4.0}}, rank)
    assert message.startswith("the rank in lora_parameters is '")


@pytest.mark.parametrize("scale", ['"y"', "NaN", "Infinity", "1e400", "null", "true", "[1]", "9" * 400])
def test_a_scale_that_is_none(project: Path, support: Path, scale: str) -> None:
    message = adapter_fault(project, support, {"lora_parameters": {"rank": 8, "scale": "?"}}, scale)
    assert message.startswith("the scale in lora_parameters is '")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_parameters": {"rank": 8, "scale": 4.0, "keys": "q_proj"}}, "the keys in lora_parameters have"),
        ({"lora_parameters": {"rank": 8, "scale": 4.0, "keys": [1]}}, "the keys in lora_parameters have"),
        ({"lora_parameters": {"rank": 8, "scale": 4.0, "dropout": "x"}}, "the dropout in lora_parameters is 'x'"),
        ({"num_layers": "2"}, "num_layers is '2'"),
        ({"num_layers": True}, "num_layers is 'true'"),
        ({"fine_tune_type": "qlora"}, "fine_tune_type is 'qlora': it has to be lora, dora or full"),
        ({"fine_tune_type": ["lora"]}, "fine_tune_type is '[\"lora\"]'"),
        ({"fine_tune_type": None}, "fine_tune_type is 'null'"),
        ({"fine_tune_type": "full"}, "fine_tune_type is full, but adapters.safetensors holds 'model.layers."),
        ({"fine_tune_type": "dora"}, "fine_tune_type is dora, but adapters.safetensors holds no tensor '….m'"),
    ],
)
def test_an_adapter_that_could_not_be_served(
    project: Path, support: Path, change: dict[str, Any], message: str
) -> None:
    assert adapter_fault(project, support, change).startswith(message)


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        ("lora", ["a.lora_a", "a.lora_b", "a.m"], "holds 'a.m', no tensor of that kind"),
        ("lora", ["model.norm.weight"], "holds 'model.norm.weight', no tensor of that kind"),
        ("lora", ["a.lora_a"], "holds no tensor '….lora_b'"),
        ("lora", [], "holds no tensor"),
        ("full", [], "holds no tensor"),
        ("full", ["model.norm.weight", "a.lora_b"], "holds 'a.lora_b', no tensor of that kind"),
        ("full", ["model.norm.weight"], None),
        ("dora", ["a.lora_a", "a.lora_b", "a.m"], None),
        ("lora", ["a.lora_a", "a.lora_b"], None),
    ],
)
def test_the_tensors_of_each_kind(
    project: Path, support: Path, kind: str, names: list[str], message: str | None
) -> None:
    places = {name: {**TENSOR, "data_offsets": [8 * n, 8 * n + 8]} for n, name in enumerate(names)}
    (support / "adapters.safetensors").write_bytes(header(places, 8 * len(names)))
    file = support / "adapter_config.json"
    change = {"fine_tune_type": kind, **({"lora_parameters": None} if kind == "full" else {})}
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    faults = found(project, project / "specs/lora.yaml")
    assert [message in fault.message for fault in faults if message] == ([True] if message else [])
    # That these three fit no base is another matter.
    assert message or {fault.code for fault in faults} == {"adapter-misfit"}


def test_adapters_of_two_kinds(project: Path, support: Path) -> None:
    shutil.copytree(support, project / "specs/models/full")
    (project / "specs/models/full/adapters.safetensors").write_bytes(header({"model.norm.weight": NORM}, 512))
    (project / "specs/models/full/adapter_config.json").write_text('{"fine_tune_type": "full"}')
    adapters = "[{name: a, path: specs/models/tiny-support}, {name: b, path: specs/models/full}]"
    text = CHAT.replace("BASE", "{path: specs/models/tiny}, adapters: " + adapters)
    (fault,) = found(project, with_spec(project, text))
    assert (fault.code, fault.span.column) == ("model-format", text.splitlines()[3].index("{name: b") + 1)
    assert fault.message == "'b' is an adapter of kind full, 'a' of kind lora: no service has both"


def test_the_facts_of_an_adapter(project: Path, support: Path) -> None:
    file = support / "adapter_config.json"
    parameters = {"rank": 8, "scale": 4.0, "dropout": 0.0, "fine_tune_type": "full", "x": "?"}
    text = json.dumps(json.loads(file.read_text()) | {"lora_parameters": parameters, "x": "?"})
    file.write_text(text.replace('"?"', "NaN"))
    plan = json.loads(built(project, project / "specs/lora.yaml")["example/support-lora/linux/plan.json"])
    (facts,) = [model for model in plan["facts"] if model["role"] == "adapters/support"]
    tensors = facts["details"].pop("tensors")
    told = {"fine_tune_type": "lora", "num_layers": 2, "rank": 8, "scale": 4.0, "dropout": 0.0, "base_model": None}
    assert facts["details"] == told
    assert {"name": "model.layers.*.mlp.up_proj.lora_a", "shape": [128, 8], "dtype": "F32", "count": 2} | {
        "layers": [[0, 1]]
    } in tensors


# init


def test_init_takes_no_context_length_that_is_none(tiny: Path) -> None:
    (tiny / "config.json").write_text('{"max_position_embeddings": true}')
    (length,) = (key for key in look(tiny, "tiny").model if isinstance(key, Key) and key.name == "context_length")
    assert "without this key the model's own limit" in length.note


def test_a_broken_base_is_told_by_init(tiny: Path) -> None:
    (tiny / "config.json").write_text("{")
    with pytest.raises(CommandError, match=r"config.json: is no JSON"):
        context_length(tiny)


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    assert [kind_of(tmp_path), kind_of(tmp_path / "x\0"), kind_of(tmp_path / "\ud800")] == [
        "folder",
        "nothing",
        "nothing",
    ]
    assert kind_of(Path(os.devnull)) == "special"
