"""`lora` is `mlx-lm` that asks for at least one adapter."""

from __future__ import annotations

from mlspec.runners.mlx_lm.build import MlxLmRunner

PART = MlxLmRunner(name="lora", needs_adapter=True)
