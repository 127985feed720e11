"""What the benchmarks compare with: the service that one writes by hand in ten minutes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import bentoml
from mlx_lm import load, stream_generate


@bentoml.service(workers=1, traffic={"timeout": 600})
class Plain:
    """One request at a time."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load(Path("model.txt").read_text(encoding="utf-8"))[:2]
        self.lock = threading.Lock()

    @bentoml.api
    def generate(
        self, messages: list[dict[str, str]], max_tokens: int = 128, temperature: float = 0.0
    ) -> dict[str, Any]:
        prompt = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        with self.lock:
            parts = list(stream_generate(self.model, self.tokenizer, prompt, max_tokens=max_tokens))
        return {
            "text": "".join(part.text for part in parts),
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": parts[-1].generation_tokens},
        }
