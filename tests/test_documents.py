"""The documents say what is so: their specs are valid, their commands exist, their output is the real one."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from projects import example, faults, with_spec

from mlspec.cli import parser
from mlspec.codes import explain, known

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
        assert faults(project, project / "specs/chat.yaml") == []


def test_the_fault_in_the_readme_is_what_is_printed(tmp_path: Path) -> None:
    shown = next(block for block in blocks("text") if "error[" in block)
    project = example(tmp_path / "project")
    text = (
        (project / "specs/lora.yaml")
        .read_text()
        .replace("  base:", "  bsae:")
        .replace("platform: linux,", "platform: macos,", 1)
    )
    (project / "specs/lora.yaml").write_text(text)
    command = [sys.executable, "-m", "mlspec", "check", "specs/lora.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.stdout == shown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_the_documents_parse(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    spans = re.findall(r"`(mlspec [^`]+)`", text) + re.findall(r"^(mlspec .+)$", text, re.M)
    for span in spans:
        words = shlex.split(re.sub(r"\[[^]]*\]|…", "", span.replace("\\|", "|")).split("|")[0])[1:]
        if words and not words[0].startswith("-"):
            filled = {
                "explain": ["x"],
                "check": ["x"],
                "fmt": ["x"],
                "test": ["x"],
                "serve": ["x"],
                "templates": ["list"],
            }
            arguments = words if len(words) > 1 else [*words, *filled.get(words[0], [])]
            if words[0] in ("build", "fetch") and len(words) == 1:
                arguments = [*words, "x"]
            parser().parse_args(arguments)


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
