"""MLX, torch, OpenBLAS and the container tool: each tried in a process of its own, which it may take down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.characters import shortened, visible
from mlspec.hardware.asking import Answer
from mlspec.hardware.findings import Finding, Here

_PATIENCE_S = 120.0
_RIGHT = 64**3
_MLX_FOR_LINUX = "'mlx[cpu]', or mlx[cuda12], mlx[cuda13]: plain mlx can't be imported on Linux"
_MLX = f"""
import json
import mlx.core as mx
ones = mx.ones((64, 64))
right = (ones @ ones).sum().item() == {_RIGHT}
print(json.dumps({{"version": mx.__version__, "device": mx.default_device().type.name, "right": right}}))
"""
_TORCH = f"""
import json
import torch
device = "mps" if torch.backends.mps.is_available() else "cuda" if torch.cuda.is_available() else "cpu"
ones = torch.ones(64, 64, device=device)
right = (ones @ ones).sum().item() == {_RIGHT}
print(json.dumps({{"version": torch.__version__, "device": device, "right": right}}))
"""
_OPENBLAS = "import ctypes; ctypes.CDLL('libopenblas.so.0')"
_CONTAINER_TOOLS = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
    "buildah": ("version",),
}
"""What makes each of them talk to all that it needs for a build."""


def mlx(here: Here) -> Iterator[Finding]:
    answer = _python(here, _MLX)
    if _is_missing(answer, "mlx"):
        remedy = "to serve language models here: pip install 'mlspec-compiler[mlx]'"
        yield Finding("MLX", "warning", "not installed", remedy)
        return
    broken = f"pip install --force-reinstall {'mlx' if here.is_mac else _MLX_FOR_LINUX}"
    facts = _facts(answer)
    if facts is None:
        yield Finding("MLX", "problem", _trouble(answer), broken)
    elif here.is_mac and facts.get("device") != "gpu":
        yield Finding("MLX", "warning", f"{_computed(facts)}: without Metal", "run it in a session that has the GPU")
    else:
        yield Finding("MLX", "ok", _computed(facts))


def torch(here: Here) -> Iterator[Finding]:
    answer = _python(here, _TORCH)
    if _is_missing(answer, "torch"):
        yield Finding("torch", "ok", "not installed; only models of torch need it")
        return
    facts = _facts(answer)
    if facts is None:
        yield Finding("torch", "problem", _trouble(answer), "pip install --force-reinstall torch")
    elif here.is_mac and facts.get("device") != "mps":
        yield Finding("torch", "warning", f"{_computed(facts)}: MPS isn't available", "install torch for arm64")
    else:
        yield Finding("torch", "ok", _computed(facts))


def openblas(here: Here) -> Iterator[Finding]:
    if _python(here, _OPENBLAS).fine:
        yield Finding("OpenBLAS", "ok", "found: float32 products on the CPU are fast")
    else:
        text = "not found: MLX on the CPU is about ten times slower"
        yield Finding("OpenBLAS", "warning", text, "apt-get install libopenblas0-pthread (images have it)")


def container_tool(here: Here) -> Iterator[Finding]:
    """The first tool that answers; those before it that don't are named."""
    silent: dict[str, str] = {}
    for name, arguments in _CONTAINER_TOOLS.items():
        program = here.which(name)
        if program is None:
            continue
        answer = here.ask((program, *arguments), _PATIENCE_S)
        if answer.fine:
            also = f" ({', '.join(silent)} doesn't answer)" if silent else ""
            yield Finding("containers", "ok", f"{name} {_version(answer)}{also}")
            return
        silent[name] = shortened(visible(answer.trouble), 70)
    if silent:
        text = "; ".join(f"{name} doesn't answer: {why}" for name, why in silent.items())
        yield Finding("containers", "warning", text, f"start {next(iter(silent))} to build images here")
    else:
        text = "neither docker nor podman nor buildah is here"
        yield Finding("containers", "warning", text, "install one to build images of Linux targets here")


def _python(here: Here, code: str) -> Answer:
    """-P: a folder `torch` in the working folder isn't the library."""
    return here.ask((here.executable, "-P", "-c", code), _PATIENCE_S)


def _is_missing(answer: Answer, module: str) -> bool:
    return not answer.fine and answer.trouble.endswith(f"No module named '{module}'")


def _facts(answer: Answer) -> Mapping[str, Any] | None:
    """What the process printed last, if it computed rightly."""
    lines = answer.output.strip().splitlines()
    try:
        facts = json.loads(lines[-1]) if answer.fine and lines else None
    except ValueError:
        return None
    return facts if isinstance(facts, dict) and facts.get("right") is True else None


def _computed(facts: Mapping[str, Any]) -> str:
    return f"{facts.get('version')}, computes on {facts.get('device')}"


def _trouble(answer: Answer) -> str:
    if answer.status is not None and answer.status < 0:
        return f"installed, but ended by signal {-answer.status} at a small product"
    if answer.fine:
        return "installed, but gets a small product wrong"
    return f"installed, but doesn't work: {shortened(visible(answer.trouble), 90)}"


def _version(answer: Answer) -> str:
    lines = answer.output.split("\n", 1)[0].split()
    return visible(lines[-1]) if lines else ""
