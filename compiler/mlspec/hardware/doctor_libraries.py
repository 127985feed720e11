"""MLX, torch, OpenBLAS and the container tool: each tried in a process of its own, which it may take down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mlspec.characters import shortened, visible
from mlspec.hardware.asking import Answer
from mlspec.hardware.findings import Finding, Here
from mlspec.suggest import listed

_PATIENCE_S = 60.0
"""For a library's process: the first import after an installation compiles much."""
_TOOLS_PATIENCE_S = 5.0
_LONGEST_VERSION, _LONGEST_TROUBLE = 40, 70
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
    """The first tool that answers; those before it that don't are named. All are asked at once."""
    programs = {name: program for name in _CONTAINER_TOOLS if (program := here.which(name)) is not None}
    if not programs:
        text = "neither docker nor podman nor buildah is here"
        yield Finding("containers", "warning", text, "install one to build images of Linux targets here")
        return
    with ThreadPoolExecutor(len(programs)) as pool:
        commands = [(program, *_CONTAINER_TOOLS[name]) for name, program in programs.items()]
        answers = dict(zip(programs, pool.map(lambda one: here.ask(one, _TOOLS_PATIENCE_S), commands), strict=True))
    yield _first_that_answers(answers)


def _first_that_answers(answers: Mapping[str, Answer]) -> Finding:
    silent: list[str] = []
    for name, answer in answers.items():
        if version := _version(answer):
            verb = "don't" if silent[1:] else "doesn't"
            also = f" ({listed(silent)} {verb} answer)" if silent else ""
            return Finding("containers", "ok", f"{name} {version}{also}")
        silent.append(name)
    text = "; ".join(f"{name} {_silence(answer)}" for name, answer in answers.items())
    return Finding("containers", "warning", text, f"start {silent[0]} to build images here")


def _silence(answer: Answer) -> str:
    """Why a tool is none that can be used."""
    if answer.fine:
        return "doesn't tell its version"
    return f"doesn't answer: {_short(answer.trouble, _LONGEST_TROUBLE)}" if answer.trouble else answer.ending


def _short(text: str, longest: int) -> str:
    return shortened(visible(text).replace("\n", " "), longest)


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
    version, device = (_short(str(facts.get(name)), _LONGEST_VERSION) for name in ("version", "device"))
    return f"{version}, computes on {device}"


def _trouble(answer: Answer) -> str:
    if answer.status is not None and answer.status < 0:
        return f"installed, but ended by signal {-answer.status} at a small product"
    if answer.fine:
        return "installed, but gets a small product wrong"
    if not answer.trouble:
        return f"installed, but {answer.ending}"
    return f"installed, but doesn't work: {_short(answer.trouble, 90)}"


def _version(answer: Answer) -> str:
    """The last word of the first line; nothing if that is no version, or the tool failed."""
    words = answer.output.split("\n", 1)[0].split()
    if not answer.fine or not words or not any(map(str.isdecimal, words[-1])):
        return ""
    return _short(words[-1], _LONGEST_VERSION)
