"""A quantized key-value cache with the real model: answers are those of mlx_lm's own generate with the same bits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.runners.mlx_lm import runtime
from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.protocol import Stats
from models.blas import preload
from runtime.test_mlx_e2e import all_of, make_runner

pytestmark = pytest.mark.e2e

preload()  # before anything here imports MLX
QUESTIONS = (
    "Where is my order?",
    "What is the capital of France?",
    "My lamp, which I bought in March with a chair, two tables and a gift card, came late and broken. What now?",
)
TOKENS = 8
PREFILL_STEP = 16


@pytest.fixture(scope="module", params=[8, 4])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def runner(bits: int, real_model: tuple[Path, Path]) -> Iterator[runtime.MlxLmRunner]:
    base, adapter = real_model
    settings = {"kv_bits": bits, "prefill_step": PREFILL_STEP, "prompt_cache_bytes": 1 << 20}
    made = make_runner({"support": adapter}, base=base, settings=settings)
    yield made
    made.close()


def oracle(model: tuple[Path, Path], bits: int, penalty: float | None = None) -> list[list[int]]:
    """What mlx_lm itself answers, one question after another."""
    from mlx_lm import load, stream_generate
    from mlx_lm.sample_utils import make_logits_processors

    loaded: Any = load(str(model[0]), adapter_path=str(model[1]))
    network, tokenizer = loaded[0], loaded[1]
    options: dict[str, Any] = {"kv_bits": bits, "kv_group_size": 64, "quantized_kv_start": 0}
    options |= {"prefill_step_size": PREFILL_STEP, "max_tokens": TOKENS}
    if penalty is not None:
        options["logits_processors"] = make_logits_processors(repetition_penalty=penalty)
    answers = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        parts = list(stream_generate(network, tokenizer, prompt, **options))
        answers.append([part.token for part in parts if part.token not in tokenizer.eos_token_ids])
    return answers


def test_together_they_answer_as_mlx_lm_answers_each(
    runner: runtime.MlxLmRunner, bits: int, real_model: tuple[Path, Path]
) -> None:
    asked: list[dict[str, Any]] = [{"prompt": question, "max_tokens": TOKENS} for question in QUESTIONS]
    together = [answer.tokens for answer in all_of(runner, asked)]
    assert together == oracle(real_model, bits)
    (alone,) = all_of(runner, asked[1:2])
    assert alone.tokens == together[1]
    assert runner.stats() == Stats(0, 0)


def test_a_penalty_sees_the_whole_prompt(runner: runtime.MlxLmRunner, bits: int, real_model: tuple[Path, Path]) -> None:
    asked: list[dict[str, Any]] = [
        {"prompt": question, "max_tokens": TOKENS, "repetition_penalty": 1.5} for question in QUESTIONS
    ]
    assert [answer.tokens for answer in all_of(runner, asked)] == oracle(real_model, bits, penalty=1.5)


def test_the_cache_is_quantized(runner: runtime.MlxLmRunner, bits: int) -> None:
    async def check() -> None:
        body = {"prompt": QUESTIONS[2], "max_tokens": 60}
        request = runner.request_type.model_validate(body)
        submission = await runner.submit(request, "seen", stream=True)  # type: ignore[arg-type]
        await submission.output()
        model: Any = runner._engine._model
        (generation,) = model._sequences.values()
        # The last is no layer's: it says which adapter the sequence has.
        assert {(layer.bits, layer.group_size) for layer in generation.layers[:-1]} == {(bits, 64)}
        runner.cancel(submission)
        while runner.stats() != Stats(0, 0):
            await asyncio.sleep(0.01)
        assert not model._sequences

    asyncio.run(asyncio.wait_for(check(), 60))


def test_a_smaller_step_and_fewer_at_once_while_it_is_hot(runner: runtime.MlxLmRunner) -> None:
    runner.throttle(Allowance(concurrency=1, prefill_step=4))
    asked: list[dict[str, Any]] = [{"prompt": question, "max_tokens": 2} for question in QUESTIONS[:2]]
    assert all(answer.usage.completion_tokens == 2 for answer in all_of(runner, asked))
    model: Any = runner._engine._model
    assert model._prefill_step == 4
    runner.throttle(Allowance(concurrency=8, prefill_step=PREFILL_STEP))
