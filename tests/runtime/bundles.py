"""Plans and bundles for the tests, made by hand: the runtime is tested without the compiler."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec_runtime.models import content_sha256, header_sha256


def planned_model(role: str, folder: Path) -> dict[str, Any]:
    """A model's part of the plan, as it is in `folder` now."""
    files = [_planned_file(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()]
    return {"role": role, "source": {"path": folder.name}, "files": files}


def _planned_file(folder: Path, path: Path) -> dict[str, Any]:
    header = path.suffix == ".safetensors"
    return {
        "path": path.relative_to(folder).as_posix(),
        "size_bytes": path.stat().st_size,
        "sha256": header_sha256(path) if header else content_sha256(path),
        "hashed": "header" if header else "content",
    }


def runtime_block(**changes: Any) -> dict[str, Any]:
    """The `runtime` block of a plan, with some of its parts exchanged."""
    block: dict[str, Any] = {
        "runtime_api": 1,
        "service": {"name": "demo", "project": "tests", "target": "here", "description": "A <demo>"},
        "task": "generate",
        "runner": {"name": "demo", "module": "demo", "settings": {}},
        "endpoints": ["predict", "stream"],
        "limits": limits(),
        "environment": {"set": {}, "required": []},
        "models": [],
    }
    return {**block, **changes}


def limits(**changes: Any) -> dict[str, Any]:
    usual = {"max_tokens": 64, "timeout_s": 30.0, "max_body_bytes": 4096, "concurrency": 8, "queue": 64}
    return {**usual, **changes}


def mlx_settings(adapters: Mapping[str, Path], **changes: Any) -> dict[str, Any]:
    """Settings of the runner `mlx-lm`."""
    sampling = {"max_tokens": 32, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    return {
        "context_length": 2048,
        "adapters": list(adapters),
        "default_adapter": next(iter(adapters), "base"),
        "preload_blas": "libopenblas.so.0",
        "sampling": {**sampling, "repetition_penalty": 1.0, "stop": [], "seed": None},
        **changes,
    }


def write_plan(bundle: Path, block: Mapping[str, Any]) -> None:
    """Put plan.json into a bundle's folder."""
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "plan.json").write_text(json.dumps({"version": 1, "runtime": block}), encoding="utf-8")
