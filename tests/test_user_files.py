"""What of the project goes into a bundle: files, folders, and what is refused at its place."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from mlspec import pipeline, user_files
from mlspec.diagnostics import Diagnostic, Report
from projects import built, surroundings, with_spec

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: shop, project: p}
model:
  runner: python
  module: MODULE
  class: Net
  files: FILES
  inputs: [{name: x, shape: [4]}]
  outputs: [{name: y, shape: [1]}]
targets: [{name: linux, platform: linux}]
"""
NET = "class Net:\n    def predict(self, inputs): ...\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package `shop` with a module `net.py`, with hidden files and caches beside it."""
    root = tmp_path / "project"
    write(root, "mlspec.yaml", "apiVersion: mlspec/v1\nkind: Project\n")
    write(root, "shop/__init__.py")
    write(root, "shop/net.py", f"from .layers import Dense\nfrom .deep import more\nimport json, numpy\n{NET}")
    write(root, "shop/layers.py", "class Dense:\n    pass\n")
    write(root, "shop/deep/__init__.py")
    write(root, "shop/deep/more.py")
    write(root, "shop/names.txt", "one\n")
    for left_out in (".git/config", ".env", "deep/__pycache__/more.cpython-311.pyc", "old.pyc", "node_modules/x.js"):
        write(root, f"shop/{left_out}", "left out")
    return root


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def spec(project: Path, files: str, module: str = "shop/net.py") -> Path:
    return with_spec(project, SPEC.replace("FILES", files).replace("MODULE", module))


def found(project: Path, files: str, module: str = "shop/net.py") -> list[Diagnostic]:
    report = Report()
    pipeline.check([spec(project, files, module)], surroundings(project), report)
    return list(report)


def told(project: Path, files: str, module: str = "shop/net.py") -> list[tuple[str, str]]:
    return [(fault.code, fault.message) for fault in found(project, files, module)]


def test_a_folder_goes_into_the_bundle_with_all_that_is_in_it(project: Path) -> None:
    files = built(project, spec(project, "[shop/, ./mlspec.yaml]"))
    user = sorted(path.partition("/user/")[2] for path in files if "/user/" in path)
    package = ["__init__.py", "deep/__init__.py", "deep/more.py", "layers.py", "names.txt", "net.py"]
    assert user == ["mlspec.yaml", *(f"shop/{name}" for name in package)]
    assert files["p/shop/linux/user/shop/names.txt"] == b"one\n"


def test_a_fault_stands_at_the_folder_that_has_it(project: Path) -> None:
    write(project, "other/a.txt")
    (project / "other/out").symlink_to("/etc/hostname")
    fault, _ = found(project, "[shop, other, nowhere]")
    assert (fault.code, fault.message) == ("path-outside", "'other/out' is a link that leads out of the project")
    assert (fault.span.line, fault.span.column) == (8, 17)


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("shop/away", "/etc", "'shop/away' is a link that leads out of the project"),
        ("shop/up", "..", "'shop/up' is a link to a folder"),
        ("shop/again", "deep", "'shop/again' is a link to a folder"),
        ("shop/dead", "nothing", "'shop/dead' is a link to nothing"),
        ("shop/round", "round", "'shop/round' is a link in a circle"),
    ],
)
def test_links_in_a_folder(project: Path, link: str, target: str, message: str) -> None:
    (project / link).symlink_to(target)
    assert [text for _, text in told(project, "[shop]")] == [message]


def test_a_link_to_a_file_of_the_project_is_that_file(project: Path) -> None:
    (project / "shop/same.py").symlink_to("layers.py")
    assert built(project, spec(project, "[shop]"))["p/shop/linux/user/shop/same.py"] == b"class Dense:\n    pass\n"


def test_no_pipe_keeps_a_build_waiting(project: Path) -> None:
    os.mkfifo(project / "shop/pipe")
    assert told(project, "[shop]") == [("file-missing", "'shop/pipe' is no regular file")]


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\\b", "a\u202eb"])
def test_a_name_that_no_bundle_may_hold(project: Path, name: str) -> None:
    write(project, f"shop/{name}")
    ((code, message),) = told(project, "[shop]")
    assert code == "user-files"
    assert message.isprintable()


def test_there_are_bounds(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_files, "MOST_FILES", 5)
    assert told(project, "[shop]") == [("user-files", "the folder 'shop' holds more than 5 files")]
    monkeypatch.setattr(user_files, "MOST_FILES", 1000)
    with (project / "shop/huge.bin").open("wb") as file:
        file.truncate(65 * 2**20)
    assert told(project, "[shop]") == [("user-files", "'shop' has 65 MiB; a bundle takes 64 MiB of it at most")]
    assert told(project, "[shop/__init__.py, shop/deep, shop/layers.py]") == []


@pytest.mark.parametrize("files", ["[shop]", "[shop/table.txt, shop]"])
def test_a_pickle_is_refused_whatever_its_name(project: Path, files: str) -> None:
    (project / "shop/table.txt").write_bytes(pickle.dumps({"a": [1]}))
    faults = told(project, files)
    assert {code for code, _ in faults} == {"pickle"}
    assert faults[0][1] == "'shop/table.txt' is a pickle: loading it could run anything"


def test_what_a_module_imports_of_the_project_is_missed(project: Path) -> None:
    write(project, "prices.py")
    write(project, "shop/net.py", f"import prices\nfrom shop.deep import more\n{NET}")
    assert told(project, "[shop]") == [("not-in-bundle", "'shop/net.py' imports 'prices.py', which isn't named")]
    assert told(project, "[shop, prices.py]") == []
    both = told(project, "[shop/__init__.py, prices.py]")
    assert both == [("not-in-bundle", "'shop/net.py' imports 'shop/deep/__init__.py', which isn't named")]


def test_imports_that_need_not_be_there_are_no_faults(project: Path) -> None:
    code = "try:\n    from . import fast\nexcept ImportError:\n    fast = None\n"
    code += "def load():\n    from .layers import Dense\n"
    write(project, "shop/net.py", f"import sys, torch.nn, numpy as np\nfrom . import whatever\n{code}{NET}")
    write(project, "shop/fast.py")
    assert told(project, "[shop/__init__.py]") == []


def test_a_module_in_no_package_imports_relatively(project: Path) -> None:
    ((code, message),) = told(project, "[shop/layers.py]")
    assert code == "not-in-bundle"
    assert message.startswith("'shop/net.py' imports from its own package, and is in none")


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import Net",
        "import elsewhere as Net",
        "from elsewhere import *",
        "Net = make()",
        "if True:\n    class Net:\n        pass",
        "try:\n    from a import Net\nexcept ImportError:\n    Net = None",
        "def __getattr__(name): ...",
        "for Net in (): pass",
        "def Net(): ...",
    ],
)
def test_what_gives_a_class_its_name(project: Path, text: str) -> None:
    write(project, "shop/net.py", text)
    assert told(project, "[]") == []


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("class Nett: ...", "did you mean 'Nett'?"),
        ("class A: ...\nclass B: ...", "it has A and B"),
        ("def a():\n    class Net: ...", "it has no class at all"),
        ("", "it has no class at all"),
    ],
)
def test_a_class_that_is_not_there(project: Path, text: str, help: str) -> None:
    write(project, "shop/net.py", text)
    (fault,) = found(project, "[]")
    assert (fault.code, fault.message, fault.help) == ("name-missing", "net.py has no class 'Net'", help)


@pytest.mark.parametrize("text", ["class Net(:\n", "class Net: \0", "x = " + "(" * 5000, "-" * 200_000 + "1", "\xff"])
def test_what_is_no_python_is_a_warning(project: Path, text: str) -> None:
    (project / "shop/net.py").write_text(text, encoding="latin-1")
    (fault,) = found(project, "[]")
    assert (fault.code, fault.severity) == ("python-syntax", "warning")


def test_code_that_warns_as_it_is_parsed(project: Path) -> None:
    write(project, "shop/net.py", f"PATTERN = '\\d'\n{NET}")
    assert told(project, "[]") == []


def test_a_huge_module_is_not_parsed(project: Path) -> None:
    write(project, "shop/net.py", "#" * 2_000_000)
    ((code, message),) = told(project, "[]")
    assert (code, "isn't looked at" in message) == ("python-syntax", True)


def test_nothing_of_it_is_run(project: Path) -> None:
    write(project, "shop/net.py", f"import pathlib\npathlib.Path('ran').write_text('')\n{NET}")
    write(project, "shop/__init__.py", "raise SystemExit(1)\n")
    built(project, spec(project, "[shop]"))
    assert not list(project.rglob("ran"))


@pytest.mark.parametrize("path", ["shop/.git", "shop/.env", "shop/.git/config", "./shop/.env"])
def test_what_is_hidden_is_not_taken_when_it_is_named(project: Path, path: str) -> None:
    ((code, message),) = told(project, f"[{path}]")
    assert code == "user-files"
    assert "is hidden" in message
