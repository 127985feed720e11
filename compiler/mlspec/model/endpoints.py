"""The endpoints that a service of a task can have."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.model.spec import Endpoint

OF_TASK: Mapping[str, tuple[Endpoint, ...]] = {
    "generate": ("predict", "stream", "batch", "chat", "completions"),
    "predict": ("predict", "stream", "batch"),
    "embed": ("predict", "batch", "embeddings"),
}
