"""Whole builds: what is written, what it says, and that equal input gives equal bytes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.resources import folder
from projects import built, example, faults, surroundings, with_spec

CHAT = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: chat, project: p}
model: {runner: mlx-lm, base: BASE}
targets: [{name: linux, platform: linux}]
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return example(tmp_path / "project")


@pytest.mark.parametrize("spec", sorted(p.name for p in folder("specs").glob("*.yaml")))
def test_the_shipped_specs_build(project: Path, spec: str) -> None:
    files = built(project, project / "specs" / spec)
    names = {name.rpartition("/")[2] for name in files}
    assert {"service.py", "bentofile.yaml", "plan.json", "requirements.txt", "README.md"} <= names
    # What only a Mac can serve has no container.
    text = (project / "specs" / spec).read_text(encoding="utf-8")
    assert ("Dockerfile" in names) == ("platform: linux" in text)


def test_a_build_writes_bundles_and_nothing_else(project: Path) -> None:
    before = {p for p in project.rglob("*") if "home" not in p.parts}
    built(project, project / "specs/lora.yaml")
    after = {p for p in project.rglob("*") if "home" not in p.parts}
    assert {p.relative_to(project).parts[0] for p in after - before} == {"build"}
    assert sorted(p.name for p in (project / "build/example/support-lora").iterdir()) == [
        "linux",
        "linux-arm64",
        "mac",
    ]


def test_the_plan_keeps_to_its_schema_and_every_decision_has_its_reason(project: Path) -> None:
    schema = Draft202012Validator(json.loads((folder("schema") / "plan.schema.json").read_text()))
    for spec in (project / "specs").glob("*.yaml"):
        plans = [json.loads(v) for k, v in built(project, spec).items() if k.endswith("/plan.json")]
        for plan in plans:
            schema.validate(plan)
            assert all(decision["rule"] for decision in plan["decisions"])


def test_no_path_of_this_computer_is_in_a_bundle(project: Path) -> None:
    for name, content in built(project, project / "specs/lora.yaml").items():
        assert str(project).encode() not in content, name


def test_links_lead_to_the_models(project: Path) -> None:
    built(project, project / "specs/lora.yaml")
    models = project / "build/example/support-lora/linux/models"
    assert (models / "base").resolve() == project / "specs/models/tiny"
    assert (models / "adapters/support").resolve() == project / "specs/models/tiny-support"


def test_only_linux_targets_have_a_dockerfile(project: Path) -> None:
    files = built(project, project / "specs/lora.yaml")
    assert "example/support-lora/linux/Dockerfile" in files
    assert "example/support-lora/mac/Dockerfile" not in files


def test_equal_bytes_in_another_folder_under_another_hash_seed(project: Path, tmp_path: Path) -> None:
    def run(place: Path, seed: str) -> dict[str, bytes]:
        command = [sys.executable, "-m", "mlspec", "build", "specs"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "HOME": str(place / "home")}
        subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
        files = [p for p in (place / "build").rglob("*") if p.is_file() and "models" not in p.parts]
        return {p.relative_to(place).as_posix(): p.read_bytes() for p in files}

    other = example(tmp_path / "a very/other place")
    assert run(project, "1") == run(other, "2")


def test_compiling_imports_nothing_heavy(project: Path) -> None:
    script = "import sys; from mlspec.cli import main; main(['build', 'specs/lora.yaml']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not imported & {"bentoml", "mlx", "mlx_lm", "torch", "numpy", "transformers", "huggingface_hub", "asyncio"}
    assert "pydantic" in imported


def test_generated_python_is_lint_free(project: Path) -> None:
    built(project, project / "specs/lora.yaml")
    for bundle in (project / "build/example/support-lora").iterdir():
        for check in (["check", "--isolated"], ["format", "--isolated", "--check", "--line-length", "120"]):
            command = [sys.executable, "-m", "ruff", *check, "service.py"]
            done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


def test_a_spec_with_a_fault_stops_no_other(project: Path) -> None:
    bad = with_spec(project, CHAT.replace("BASE", "{path: nowhere}"))
    report = Report()
    places = list(pipeline.build([bad, project / "specs/chat.yaml"], surroundings(project), None, report))
    assert [p.name for p in places] == ["air", "studio", "linux"]
    assert [found.code for found in report] == ["model-not-found"]


def test_one_target(project: Path) -> None:
    report = Report()
    places = list(pipeline.build([project / "specs/lora.yaml"], surroundings(project), None, report, "mac"))
    assert [p.name for p in places] == ["mac"]
    assert not list(pipeline.build([project / "specs/lora.yaml"], surroundings(project), None, report, "moon"))
    assert [(found.code, found.help) for found in report] == [("no-such-target", "it has mac, linux, linux-arm64")]


def test_two_specs_of_one_name(project: Path) -> None:
    again = with_spec(project, (project / "specs/chat.yaml").read_text(), "again.yaml")
    report = Report()
    pipeline.check([project / "specs/chat.yaml", again], surroundings(project), report)
    assert [(f.code, f.span.file, f.related[0].span.file) for f in report] == [
        ("name-taken", "again.yaml", "specs/chat.yaml")
    ]


def test_a_model_in_a_root(project: Path, tmp_path: Path) -> None:
    shutil.move(project / "specs/models/tiny", tmp_path / "disk/tiny")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {big-disk: {env: BIG}}\n")
    spec = with_spec(project, CHAT.replace("BASE", "{root: big-disk, path: tiny}"))
    assert faults(project, spec) == ["root-unbound"]
    assert faults(project, spec, BIG=str(tmp_path / "nowhere")) == ["model-not-found"]
    files = built(project, spec, BIG=str(tmp_path / "disk"))
    assert not any(str(tmp_path / "disk").encode() in content for content in files.values())


def test_a_model_of_the_hub(project: Path) -> None:
    spec = with_spec(project, CHAT.replace("BASE", f"{{hf: org/tiny, revision: {COMMIT}}}"))
    assert faults(project, spec) == ["model-not-fetched"]
    snapshot = project / f"home/.cache/huggingface/hub/models--org--tiny/snapshots/{COMMIT}"
    shutil.copytree(project / "specs/models/tiny", snapshot)
    plan = json.loads(built(project, spec)["p/chat/linux/plan.json"])
    assert plan["facts"][0]["source"] == {"hf": "org/tiny", "revision": COMMIT}


def test_a_model_of_bentomls_store(project: Path) -> None:
    spec = with_spec(project, CHAT.replace("BASE", "{store: 'tiny:v1'}"))
    assert faults(project, spec) == ["model-not-found"]
    shutil.copytree(project / "specs/models/tiny", project / "bento/models/tiny/v1")
    built(project, spec, BENTOML_HOME=str(project / "bento"))


def test_a_link_that_leads_out(project: Path, tmp_path: Path) -> None:
    shutil.move(project / "specs/models/tiny", tmp_path / "outside")
    (project / "specs/models/tiny").symlink_to(tmp_path / "outside")
    assert faults(project, project / "specs/chat.yaml") == ["path-outside"]


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda model: (model / "config.json").unlink(), "model-format"),
        (lambda model: (model / "config.json").write_text("{"), "bad-model-file"),
        (lambda model: (model / "config.json").write_text("[" * 100_000), "bad-model-file"),
        (lambda model: (model / "model.safetensors").write_bytes(b"\xff" * 9), "bad-model-file"),
        (lambda model: os.truncate(model / "model.safetensors", 200_000), "bad-model-file"),
        (lambda model: (model / "model.safetensors").unlink(), "model-format"),
        (lambda model: (model / "model.safetensors").rename(model / "model.gguf"), "model-format"),
        (
            lambda model: (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}'),
            "bad-model-file",
        ),
        (lambda model: rewrite(model / "config.json", '"max_position_embeddings": 2048,', ""), "context-length"),
        (lambda model: rewrite(model / "config.json", '"llama"', '"lama"'), "unknown-family"),
    ],
)
def test_what_is_wrong_with_a_model(project: Path, spoil: object, code: str) -> None:
    assert callable(spoil)
    spoil(project / "specs/models/tiny")
    assert faults(project, project / "specs/chat.yaml") == [code]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"peft_type": "LORA"}, "model-format"),
        ({"fine_tune_type": None}, "model-format"),
        (None, "bad-model-file"),
    ],
)
def test_what_is_wrong_with_an_adapter(project: Path, change: dict[str, object] | None, code: str) -> None:
    config = project / "specs/models/tiny-support/adapter_config.json"
    data = {**json.loads(config.read_text()), **(change or {})}
    kept = {key: value for key, value in data.items() if value is not None}
    config.write_text(json.dumps(kept) if change else "no JSON")
    assert faults(project, project / "specs/lora.yaml") == [code]


def test_more_context_than_the_model_has(project: Path) -> None:
    spec = with_spec(project, CHAT.replace("BASE}", "{path: specs/models/tiny}, context_length: 4096}"))
    assert faults(project, spec) == ["context-length"]


def test_default_tokens_keep_to_the_limit(project: Path) -> None:
    text = CHAT.replace("BASE", "{path: specs/models/tiny}") + "service: {limits: {max_tokens: 7}}\n"
    plan = json.loads(built(project, with_spec(project, text))["p/chat/linux/plan.json"])
    assert plan["runtime"]["runner"]["settings"]["sampling"]["max_tokens"] == 7


def test_the_users_class_and_its_requirements(project: Path) -> None:
    text = (project / "specs/iris.yaml").read_text()
    spec = with_spec(project, text.replace("class: Iris", "class: Iris\n  requirements: [tabulate==0.10.0]"))
    files = built(project, spec)
    assert files["example/iris/linux/user/specs/models/iris/model.py"].startswith(b'"""A nearest')
    assert "tabulate==0.10.0" in files["example/iris/linux/requirements.txt"].decode().splitlines()
    clash = with_spec(project, text.replace("class: Iris", "class: Iris\n  requirements: [pydantic==2.0.0]"))
    assert faults(project, clash) == ["requirements-conflict"]
    (project / "specs/models/iris/model.py").unlink()
    assert faults(project, spec) == ["file-missing"]


def test_templates_of_the_projects_own(project: Path) -> None:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\ntemplates: ops\n")
    own = project / "ops/bentoml/linux/Dockerfile.j2"
    own.parent.mkdir(parents=True)
    own.write_text(
        '{% extends "!builtin/bentoml/linux/Dockerfile.j2" %}\n'
        "{% block system %}\nENV OWNER={{ given.name | dockerfile }}\n{% endblock %}\n"
    )
    files = built(project, project / "specs/lora.yaml")
    assert b'ENV OWNER="support-lora"\n' in files["example/support-lora/linux/Dockerfile"]
    assert files["example/support-lora/linux/service.py"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ given.nothing | py }}", "has no attribute 'nothing'"),
        ("{{ given.name }}", "passed no filter"),
        ("{% if %}", "Expected an expression"),
        ("x = (", "would be no Python"),
        ("{{ ''.__class__.__mro__ | py }}", "unsafe"),
        ("{% extends '!builtin/nothing.j2' %}", "nothing.j2"),
        ("{% include 'bentoml/service.py.j2' %}", "recursion"),
    ],
)
def test_a_template_with_a_fault(project: Path, text: str, message: str) -> None:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\ntemplates: ops\n")
    (project / "ops/bentoml").mkdir(parents=True)
    (project / "ops/bentoml/service.py.j2").write_text(text)
    report = Report()
    assert not list(pipeline.build([project / "specs/chat.yaml"], surroundings(project), None, report))
    found = next(iter(report))
    assert found.code == "template"
    assert message in found.message
    assert found.span.file.endswith("ops/bentoml/service.py.j2")
    assert not (project / "build").exists()


def own_templates(project: Path) -> Path:
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\ntemplates: ops\n")
    folder = project / "ops/bentoml/linux"
    folder.mkdir(parents=True)
    return folder


def test_templates_that_would_go_unseen_are_faults(project: Path, tmp_path: Path) -> None:
    linux = own_templates(project)
    (linux / "Dokerfile.j2").write_text("")
    assert faults(project, project / "specs/chat.yaml") == ["unknown-template"]
    (linux / "Dokerfile.j2").rename(linux / "_part.j2")
    assert faults(project, project / "specs/chat.yaml") == []
    (tmp_path / "secret").write_text("from elsewhere")
    (linux / "Dockerfile.j2").symlink_to(tmp_path / "secret")
    assert faults(project, project / "specs/chat.yaml") == ["path-outside"]
    shutil.rmtree(project / "ops")
    assert faults(project, project / "specs/chat.yaml") == ["no-templates-folder"]


@pytest.mark.parametrize("text", ["", "FROM x\n", "{{ 9 * 9 | dockerfile }}", "{{ given.name ** 9 | py }}"])
def test_a_dockerfile_that_is_none(project: Path, text: str) -> None:
    (own_templates(project) / "Dockerfile.j2").write_text(text)
    assert faults(project, project / "specs/chat.yaml") == ["template"]


def test_a_fault_of_a_template_has_its_line(project: Path) -> None:
    (own_templates(project) / "Dockerfile.j2").write_text("FROM x\n\nENV A={{ given.nothing | dockerfile }}\n")
    report = Report()
    pipeline.check([project / "specs/chat.yaml"], surroundings(project), report)
    assert [(found.code, found.span.line) for found in report] == [("template", 3)]


def test_generated_service_parses_and_holds_no_identifier_of_the_spec(project: Path) -> None:
    service = built(project, project / "specs/lora.yaml")["example/support-lora/linux/service.py"].decode()
    names = {node.id for node in ast.walk(ast.parse(service)) if isinstance(node, ast.Name)}
    assert "support-lora" in service
    assert not {name for name in names if "support" in name}
