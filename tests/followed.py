"""Documents that are followed to the letter: their files, and their commands run one after the other.

A code block names its file behind its language (`python shop/prices.py`); that of the commands is `sh follow`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = "follow"
OF_THE_REPOSITORY = "tests/"
_BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.M | re.S)


def blocks(document: str) -> dict[str, str]:
    """The text of each block that has a name."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = _BLOCK.findall(text)
    assert len(dict(found)) == len(found)
    return dict(found)


def write(document: str, project: Path) -> None:
    """The document's own files, each at its path."""
    for path, text in blocks(document).items():
        if path != COMMANDS and not path.startswith(OF_THE_REPOSITORY):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_text(text, encoding="utf-8")


def follow(document: str, project: Path, **environment: str) -> dict[str, str]:
    """What each command printed; `python` and `mlspec` are those that run the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    full = {**os.environ, "PATH": path, **environment}
    printed = {}
    for line in blocks(document)[COMMANDS].splitlines():
        command = ["bash", "-c", line]
        done = subprocess.run(command, cwd=project, env=full, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        printed[line] = done.stdout
    return printed
