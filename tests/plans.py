"""The shipped example on machines, and a larger model without its weights: what plans are shown of in the tests."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from models import sparse
from projects import example

UPDATE = os.environ.get("MLSPEC_UPDATE_SNAPSHOTS") == "1"
SNAPSHOTS = Path(__file__).parent / "snapshots"

TARGETS = """\
targets:
  - {name: studio, machine: "Mac Studio 2025, M4 Max, 64 GB"}
  - {name: air, machine: {chip: Apple M1, memory_gb: 8, model: "MacBookAir10,1", macos: "15.1"}}
  - {name: server, platform: linux, arch: arm64, machine: {memory_gb: 16, cpus: 8}}
"""

LLAMA = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: chat, project: shop, description: Answers customers.}
model:
  runner: mlx-lm
  base: {path: models/llama}
  quantization: auto
service:
  concurrency: 4  # as many as there are tills
targets:
  - name: studio
    machine: Mac Studio 2025, M4 Max, 64 GB
  - name: mini
    machine: {chip: Apple M4, memory_gb: 24, model: "Mac16,10", macos: "26.1", reserve_gb: 2}
"""
TOO_SMALL = "  - {name: air, machine: {chip: Apple M1, memory_gb: 8, macos: '15.1', reserve_gb: 2}}\n"


def lora(folder: Path) -> Path:
    """The shipped example with machines in its targets, as a project in the folder."""
    spec = example(folder) / "specs" / "lora.yaml"
    text = spec.read_text(encoding="utf-8")
    before, after = text.index("targets:"), text.index("tests:")
    spec.write_text(text[:before] + TARGETS + text[after:], encoding="utf-8")
    return spec


def llama(folder: Path, text: str = LLAMA) -> Path:
    """A project with Llama-3.1-8B, of which there are only headers."""
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    sparse.write(folder / "models" / "llama", "Llama-3.1-8B")
    spec = folder / "chat.yaml"
    spec.write_text(text, encoding="utf-8")
    return spec


def plan_options(spec: Path, **given: object) -> Namespace:
    """What the command line gives `mlspec plan`."""
    usual: dict[str, object] = {"target": None, "root": [], "machines": None, "html": None, "output_format": "text"}
    return Namespace(**{"spec": spec, **usual, **given})


def expected(name: str, text: str) -> str:
    """The text of a snapshot; written anew where that is asked for."""
    path = SNAPSHOTS / f"{name}.txt"
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.read_text(encoding="utf-8")
