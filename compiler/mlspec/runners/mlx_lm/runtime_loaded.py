"""A model of mlx_lm in memory with its tokenizer, its adapters and MLX's limits, whatever generates with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm import load

from mlspec_runtime.generate.transcript import Detokenizer
from mlspec_runtime.mlx.memory import WORKING_SET, available_bytes, reported_bytes, set_limits

from .runtime_adapters import Adapters
from .runtime_capacity import fit
from .runtime_settings import Settings


class LoadedModel:
    """Loaded by the engine's thread and used by it alone: MLX's streams and caches belong to the thread that made
    them. `fit` is what of the planned concurrency and prompt cache this computer has memory for; raises ServiceError
    before anything is loaded if it has too little for one request. `chat_template` is a Jinja text in place of the
    model's own.
    """

    def __init__(
        self,
        base: Path,
        adapters: Mapping[str, Path],
        settings: Settings,
        *,
        concurrency: int = 1,
        chat_template: str | None = None,
    ) -> None:
        reported = reported_bytes(mx.device_info())
        available = available_bytes(reported)
        self.fit = fit(settings.memory, concurrency, settings.prompt_cache_bytes, available)
        self._wired_bytes = set_limits(settings.memory, reported, mx).wired_limit_bytes
        # Where there is anything to wire, never all of it.
        self._most_wired_bytes = available if WORKING_SET in reported else None
        dtype = None if settings.dtype is None else getattr(mx, settings.dtype)
        # Lazily: each tensor is read and cast at once, so both forms of all of them are never there together.
        loaded = load(str(base), lazy=True, tokenizer_config=tokenizer_config(chat_template))
        self.model: Any = loaded[0]
        self.tokenizer: Any = loaded[1]
        if dtype is not None:
            self.model.set_dtype(dtype)
        mx.eval(self.model.parameters())
        mx.clear_cache()
        self.adapters = Adapters(
            self.model, adapters, slots=settings.adapter_slots, preload=settings.preload, dtype=dtype
        )

    @property
    def stop_tokens(self) -> list[int]:
        """The tokens that end an answer."""
        return sorted(self.tokenizer.eos_token_ids)

    @property
    def vocabulary(self) -> int | None:
        """Of how many tokens it has logits, where its configuration says so."""
        return getattr(getattr(self.model, "args", None), "vocab_size", None)

    def detokenizer(self) -> Detokenizer:
        """A new one."""
        detokenizer: Detokenizer = self.tokenizer.detokenizer
        return detokenizer

    def wire(self) -> None:
        """Set the planned wired limit again: mlx_lm sets the recommended one, all of the working set, wherever it
        begins to generate. Where none is planned that one is lowered.
        """
        if self._wired_bytes is not None:
            mx.set_wired_limit(self._wired_bytes)
        elif self._most_wired_bytes is not None:
            before = mx.set_wired_limit(self._most_wired_bytes)
            if before < self._most_wired_bytes:
                mx.set_wired_limit(before)

    def close(self) -> None:
        """Free it."""
        del self.model, self.adapters
        mx.clear_cache()


def tokenizer_config(chat_template: str | None) -> dict[str, Any]:
    """What mlx_lm's tokenizer is told: this Jinja text takes the place of the model's own template, also where that is
    one of mlx_lm's in Python.
    """
    return {} if chat_template is None else {"chat_template": chat_template, "chat_template_type": None}
