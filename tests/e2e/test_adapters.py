"""Several adapters of SmolLM2 at once, the trained one among them: each answers as mlx_lm answers with it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlspec_runtime.protocol import Stats
from models.blas import preload
from runtime.adapted import write_adapter
from runtime.test_mlx_e2e import all_of, ask, make_runner

pytestmark = pytest.mark.e2e

preload()  # before anything here imports MLX
QUESTIONS = ("Where is my order?", "What is the capital of France?")
TOKENS = 10
ALL = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj", "mlp.up_proj")


@pytest.fixture(scope="module")
def adapters(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from mlx_lm import load

    base, trained = real_model
    folder = tmp_path_factory.mktemp("adapters")
    made: dict[str, dict[str, Any]] = {
        "whole": {"keys": ALL, "rank": 8, "scale": 2.0, "num_layers": 30},
        "small": {"keys": ("self_attn.q_proj",), "rank": 2, "scale": 9.0, "num_layers": 6},
        "dora": {"keys": ("self_attn.v_proj", "mlp.down_proj"), "rank": 4, "kind": "dora", "num_layers": 12},
    }
    found = {"support": trained}
    for seed, (name, options) in enumerate(made.items()):
        model: Any = load(str(base), lazy=True)[0]
        found[name] = write_adapter(folder / name, model, seed, **options)
    return found


@pytest.fixture(scope="module")
def expected(real_model: tuple[Path, Path], adapters: Mapping[str, Path]) -> dict[str, list[list[int]]]:
    """What mlx_lm answers, with each adapter by itself."""
    folders = {"base": None, **adapters}
    return {name: _alone(real_model[0], folder) for name, folder in folders.items()}


def _alone(base: Path, adapter: Path | None) -> list[list[int]]:
    from mlx_lm import load, stream_generate

    loaded: Any = load(str(base), adapter_path=None if adapter is None else str(adapter))
    model, tokenizer = loaded[0], loaded[1]
    answers = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        parts = list(stream_generate(model, tokenizer, prompt, max_tokens=TOKENS))
        answers.append([part.token for part in parts if part.token not in tokenizer.eos_token_ids])
    return answers


def asked_of(names: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"prompt": q, "adapter": name, "max_tokens": TOKENS} for q in QUESTIONS for name in names]


def test_all_in_one_batch(
    real_model: tuple[Path, Path], adapters: dict[str, Path], expected: dict[str, list[list[int]]]
) -> None:
    runner = make_runner(adapters, base=real_model[0], concurrency=10)
    assert len({str(answers) for answers in expected.values()}) == len(expected) == 5
    for number, answer in enumerate(all_of(runner, asked_of(expected))):
        question, name = divmod(number, len(expected))
        assert answer.tokens == expected[list(expected)[name]][question], answer.adapter
    runner.close()


def test_with_two_in_memory_all_are_served_and_the_rest_wait(
    real_model: tuple[Path, Path], adapters: dict[str, Path], expected: dict[str, list[list[int]]]
) -> None:
    settings = {"adapter_slots": 2, "preload": ["support"], "prompt_cache_bytes": 32 << 20}
    runner = make_runner(adapters, base=real_model[0], concurrency=4, settings=settings)
    counts = runner.vitals().counts
    assert counts["adapter_loads"] == 1
    for _ in range(2):
        for number, answer in enumerate(all_of(runner, asked_of(expected))):
            question, name = divmod(number, len(expected))
            assert answer.tokens == expected[list(expected)[name]][question], answer.adapter
    after = runner.vitals()
    assert after.counts["adapter_loads"] >= 4
    assert after.counts["prefix_hits"] > 0
    assert after.memory_bytes["adapters"] > 0
    assert runner.stats() == Stats(0, 0)
    runner.close()


def test_with_a_quantized_cache_rows_have_their_adapters_too(
    real_model: tuple[Path, Path], adapters: dict[str, Path]
) -> None:
    runner = make_runner(adapters, base=real_model[0], settings={"kv_bits": 8, "adapter_slots": 3})
    asked = [options | {"max_tokens": 6} for options in asked_of(adapters)[: len(adapters)]]
    together = [answer.tokens for answer in all_of(runner, asked)]

    async def in_turn() -> list[list[int]]:
        return [(await ask(runner, **options)).tokens for options in asked]

    assert asyncio.run(in_turn()) == together
    assert len({str(tokens) for tokens in together}) > 1
    runner.close()
