"""The documents say what is so: their specs are valid, their commands exist, their output is the real one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlspec.cli import parser
from mlspec.codes import explain, known
from models.sparse import write
from projects import example, faults, with_spec

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    return [block for text in texts for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)]


def test_the_readmes_spec_has_no_fault(tmp_path: Path) -> None:
    specs = [block for block in blocks("yaml") if "kind: ModelService" in block]
    assert specs
    project = example(tmp_path / "project")
    for spec in specs:
        assert faults(project, with_spec(project, spec)) == []


def test_the_project_file_of_the_documents_has_no_fault(tmp_path: Path) -> None:
    files = [block for block in blocks("yaml") if "kind: Project" in block]
    assert files
    project = example(tmp_path / "project")
    for file in files:
        (project / "mlspec.yaml").write_text(file)
        (project / "ops/templates").mkdir(parents=True, exist_ok=True)
        assert faults(project, project / "specs/chat.yaml") == []


def test_the_fault_in_the_readme_is_what_is_printed(tmp_path: Path) -> None:
    shown = next(block for block in blocks("text") if "error[" in block)
    project = example(tmp_path / "project")
    text = (project / "specs/lora.yaml").read_text()
    linux = "platform: linux, accelerator: cpu, arch: amd64"
    text = text.replace("  base:", "  bsae:").replace(linux, "platform: linux, accelerator: metal")
    (project / "specs/lora.yaml").write_text(text)
    command = [sys.executable, "-m", "mlspec", "check", "specs/lora.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.stdout == shown


def test_the_plan_in_the_readme_is_what_is_printed(tmp_path: Path) -> None:
    shown = next(block for block in blocks("text") if "speed   an estimate" in block)
    project = example(tmp_path / "project")
    write(project / "models/llama", "Llama-3.1-8B")
    machine = '{chip: Apple M4, memory_gb: 24, model: "Mac16,12", macos: "26.1"}'
    spec = (
        (project / "specs/chat.yaml").read_text().partition("targets:")[0].replace("specs/models/tiny", "models/llama")
    )
    text = (
        spec.replace("  runner:", "  quantization: auto\n  runner:")
        + f"targets:\n  - {{name: air, machine: {machine}}}\n"
    )
    with_spec(project, text, "llama.yaml")
    command = [sys.executable, "-m", "mlspec", "plan", "llama.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(shown)


def commands() -> list[str]:
    """What the documents call `mlspec …`, in code spans and shell blocks."""
    spans = [span for path in DOCUMENTS for span in re.findall(r"`mlspec ([^`]+)`", path.read_text(encoding="utf-8"))]
    lines = [line for block in blocks("sh") for line in re.findall(r"mlspec ([a-z].*)", block)]
    return sorted({*spans, *lines})


@pytest.mark.parametrize("command", commands())
def test_commands_of_the_documents_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = command.split()[0]
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([name, "--help"])
    assert ended.value.code == 0
    help = capsys.readouterr().out
    assert [option for option in re.findall(r"--[a-z-]+", command) if option not in help] == []


def test_no_document_names_the_other_package() -> None:
    for document in DOCUMENTS:
        assert not re.search(r"pip install ['\"]?mlspec['\"\[ ]", document.read_text(encoding="utf-8"))


def test_links_between_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_every_code_that_a_page_shows_exists() -> None:
    for code in known():
        page = explain(code) or ""
        assert page.startswith("# ")
        for other in re.findall(r"mlspec explain ([a-z-]+)", page):
            assert other in known()
