"""mlx_lm itself, without any server: a child process of the benchmarks, which prints what it measured as JSON.

    python tests/benchmarks/bare.py FOLDER generator|stream|answers < {"prompts": […], "max_tokens": N, "rows": N}

`generator`: a BatchGenerator that always has `rows` prompts in work; `stream`: `stream_generate`, one after the other.
Both print {"tokens", "wall_s"}, without loading and a warm-up. `answers` prints {"single": [[token, …], …], "gaps":
[[…], …]}: greedy answers, and at each token by how much its logit is above the next one's.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import mlx.core as mx
from mlx_lm import load, stream_generate
from mlx_lm.generate import BatchGenerator


def encoded(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt as the services read it."""
    messages = [{"role": "user", "content": prompt}]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True))


def generator(model: Any, tokenizer: Any, asked: dict[str, Any]) -> dict[str, Any]:
    prompts = [encoded(tokenizer, prompt) for prompt in asked["prompts"]]
    _generated(model, tokenizer, prompts[:1], 8, asked["rows"])
    begun = time.perf_counter()
    tokens = _generated(model, tokenizer, prompts, asked["max_tokens"], asked["rows"])
    return {"tokens": tokens, "wall_s": time.perf_counter() - begun}


def _generated(model: Any, tokenizer: Any, prompts: list[list[int]], max_tokens: int, rows: int) -> int:
    stops = [[token] for token in tokenizer.eos_token_ids]
    batch = BatchGenerator(model, stop_tokens=stops, completion_batch_size=rows, prefill_batch_size=min(8, rows))
    batch.insert(prompts, [max_tokens] * len(prompts))
    left, tokens = len(prompts), 0
    while left:
        _, responses = batch.next()
        left -= sum(response.finish_reason is not None for response in responses)
        tokens += sum(response.finish_reason != "stop" for response in responses)
    batch.close()
    return tokens


def stream(model: Any, tokenizer: Any, asked: dict[str, Any]) -> dict[str, Any]:
    prompts = [encoded(tokenizer, prompt) for prompt in asked["prompts"]]
    tokens = 0
    for _ in stream_generate(model, tokenizer, prompts[0], max_tokens=8):
        pass
    begun = time.perf_counter()
    for prompt in prompts:
        for one in stream_generate(model, tokenizer, prompt, max_tokens=asked["max_tokens"]):
            tokens += one.token not in tokenizer.eos_token_ids
    return {"tokens": tokens, "wall_s": time.perf_counter() - begun}


def answers(model: Any, tokenizer: Any, asked: dict[str, Any]) -> dict[str, Any]:
    single, gaps = [], []
    for prompt in asked["prompts"]:
        told = list(stream_generate(model, tokenizer, encoded(tokenizer, prompt), max_tokens=asked["max_tokens"]))
        told = [one for one in told if one.token not in tokenizer.eos_token_ids]
        single.append([one.token for one in told])
        gaps.append([_gap(one.logprobs) for one in told])
    return {"single": single, "gaps": gaps}


def _gap(logprobs: mx.array) -> float:
    """By how much the likeliest token is likelier than the next one, as logarithms."""
    best = mx.topk(logprobs, 2)
    return float(abs(best[1] - best[0]).item())


def main() -> None:
    folder, what = sys.argv[1:]
    asked = json.load(sys.stdin)
    model, tokenizer = load(folder)[:2]
    print(json.dumps({"generator": generator, "stream": stream, "answers": answers}[what](model, tokenizer, asked)))


if __name__ == "__main__":
    main()
