"""Greedy answers by mlx_lm itself, in a process of its own: what a service is to be compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.blas import environment

TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Answer:
    """The text, its tokens without the end token, and why it ended: `stop` or `length`."""

    text: str
    tokens: list[int]
    finish_reason: str


def greedy(model: Path, adapter: Path | None, questions: Sequence[str], max_tokens: int = 64) -> list[Answer]:
    """The answers to `questions`, each asked as a chat with one message."""
    task = {"model": str(model), "adapter": adapter and str(adapter), "max_tokens": max_tokens}
    command = [sys.executable, "-m", "models.answers", json.dumps({**task, "questions": list(questions)})]
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        command, env={**environment(), "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"asking {model} ended with {done.returncode}:\n{done.stderr}")
    return [Answer(**answer) for answer in json.loads(done.stdout)]


def _ask(model: str, adapter: str | None, questions: list[str], max_tokens: int) -> list[Answer]:
    from mlx_lm import load, stream_generate  # here, so that importing this module never imports MLX

    loaded: Any = load(model, adapter_path=adapter)  # mlx_lm's tokenizer is untyped
    network, tokenizer = loaded
    answers = []
    for question in questions:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
        steps = list(stream_generate(network, tokenizer, prompt, max_tokens=max_tokens))
        tokens = [int(step.token) for step in steps if step.token not in tokenizer.eos_token_ids]
        answers.append(Answer("".join(step.text for step in steps), tokens, str(steps[-1].finish_reason)))
    return answers


if __name__ == "__main__":
    print(json.dumps([asdict(answer) for answer in _ask(**json.loads(sys.argv[1]))]))
