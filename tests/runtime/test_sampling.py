"""How tokens are chosen: what changes the logits, and the log probabilities that clients see."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlspec.runners.mlx_lm import runtime
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateResponse, Sampling
from mlspec_runtime.plan import Limits
from mlspec_runtime.protocol import RunnerContext
from runtime.bundles import limits, mlx_settings
from runtime.tokens import TINY

pytestmark = pytest.mark.e2e

PROMPT = "Where is my order?"


@pytest.fixture(scope="module")
def runner() -> Iterator[runtime.MlxLmRunner]:
    context = RunnerContext("generate", mlx_settings({}), Limits(**limits()), Path(), lambda stats: None)
    made = runtime.create(context)
    made.load({"base": TINY})
    yield made
    made.close()


async def ask(runner: runtime.MlxLmRunner, body: Mapping[str, Any]) -> GenerateResponse:
    request = runner.request_type.model_validate({"prompt": PROMPT, "max_tokens": 24, **body})
    submission = await runner.submit(request, "test", stream=False)  # type: ignore[arg-type]
    output = await submission.output()
    assert isinstance(output.data, GenerateResponse)
    return output.data


def answers(runner: runtime.MlxLmRunner, *bodies: Mapping[str, Any]) -> list[GenerateResponse]:
    """The answers to requests that are computed at once."""

    async def together() -> list[GenerateResponse]:
        return await asyncio.gather(*(ask(runner, body) for body in bodies))

    return asyncio.run(together())


def test_a_bias_forbids_and_forces_tokens(runner: runtime.MlxLmRunner) -> None:
    [free] = answers(runner, {})
    first = str(free.tokens[0])
    banned, forced, beside = answers(
        runner, {"logit_bias": {first: -100}}, {"logit_bias": {"70": 100}, "max_tokens": 5}, {}
    )
    assert int(first) not in banned.tokens
    assert forced.tokens == [70] * 5
    assert beside.tokens == free.tokens


def test_penalties_change_the_answer_of_their_own_request_alone(runner: runtime.MlxLmRunner) -> None:
    endless = {"logit_bias": {"70": 15}, "max_tokens": 40}
    plain, once, often, beside = answers(
        runner, endless, {**endless, "presence_penalty": 2}, {**endless, "frequency_penalty": 2}, endless
    )
    assert plain.tokens == beside.tokens
    assert plain.tokens.count(70) >= once.tokens.count(70) > often.tokens.count(70)


def test_a_penalty_counts_the_answer_and_not_the_prompt() -> None:
    import mlx.core as mx

    from mlspec.runners.mlx_lm.runtime_sampling import processors_of

    [processor] = processors_of(Sampling(max_tokens=1, presence_penalty=0.5, frequency_penalty=0.25))
    logits, tokens = mx.zeros((1, 4)), [3, 3, 3]
    assert processor(mx.array(tokens), logits).tolist() == [[0, 0, 0, 0]]
    for token, expected in ((1, [0, -0.75, 0, 0]), (1, [0, -1.0, 0, 0]), (0, [-0.75, -1.0, 0, 0])):
        tokens.append(token)
        assert processor(mx.array(tokens), logits).tolist() == [expected]


def test_a_request_that_asks_for_nothing_has_no_processors_and_shares_its_sampler() -> None:
    from mlspec.runners.mlx_lm.runtime_sampling import processors_of, sampler_of

    plain = Sampling(max_tokens=1, logprobs=5, stop=("x",))
    assert processors_of(plain) == []
    assert sampler_of(plain) is sampler_of(Sampling(max_tokens=9, seed=4))


def test_a_grammar_forbids_what_a_bias_asks_for(runner: runtime.MlxLmRunner) -> None:
    schema = {"type": "json_schema", "json_schema": {"schema": {"enum": ["yes", "no"]}}}
    both = {"response_format": schema, "logit_bias": {"70": 100}}
    found, beside, free = answers(runner, both, {}, {})
    assert json.loads(found.text) in ("yes", "no")
    assert beside.tokens == free.tokens
    assert found.finish_reason == "stop"


def test_a_format_that_is_too_complex_on_the_way_is_an_error_of_its_request_alone(runner: runtime.MlxLmRunner) -> None:
    many = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}}
    body = {"response_format": {"type": "json_schema", "json_schema": {"schema": many}}}

    async def together() -> list[Any]:
        return await asyncio.gather(ask(runner, body), ask(runner, {}), return_exceptions=True)

    wrong, beside = asyncio.run(together())
    assert isinstance(wrong, ServiceError)
    assert (wrong.status, wrong.code) == (400, "format_too_complex")
    assert beside.tokens == answers(runner, {})[0].tokens


def test_log_probabilities_are_there_if_asked_for(runner: runtime.MlxLmRunner) -> None:
    none, alone, three = answers(runner, {}, {"logprobs": 0}, {"logprobs": 3, "temperature": 1, "seed": 5})
    assert none.logprobs is None
    assert alone.logprobs is not None
    assert three.logprobs is not None
    assert alone.tokens == none.tokens
    assert [told.token for told in alone.logprobs] == alone.tokens
    assert all(told.top == [] and told.logprob <= 0 for told in alone.logprobs)
    assert [told.token for told in three.logprobs] == three.tokens
    assert all(len(told.top) == 3 for told in three.logprobs)


def test_the_likeliest_are_in_order_and_the_impossible_is_left_out() -> None:
    import mlx.core as mx
    from mlx_lm.tokenizer_utils import load

    from mlspec.runners.mlx_lm.runtime_sampling import token_logprobs

    row = mx.array([-math.inf, -2.0, -0.5, -1.0, *[-math.inf] * 764])
    told = token_logprobs(row, 1, 5, load(TINY))
    assert (told.token, told.logprob) == (1, -2.0)
    assert [(other.token, other.logprob) for other in told.top] == [(2, -0.5), (3, -1.0), (1, -2.0)]
    assert token_logprobs(row.astype(mx.bfloat16), 3, 1, load(TINY)).top[0].token == 2


@pytest.mark.parametrize("text", ["Where is my order?", " naïve 東京 🙂\n\ttabs"])
def test_the_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    from mlx_lm.tokenizer_utils import load

    from mlspec.runners.mlx_lm.runtime_logprobs import TokenTexts

    tokenizer = load(TINY)
    texts = TokenTexts(tokenizer)
    tokens = [texts.alternative(token, 0.0) for token in tokenizer.encode(text, add_special_tokens=False)]
    assert bytes(byte for token in tokens for byte in token.bytes or []).decode() == text
    assert texts.alternative(2, 0.0).text == "<|im_end|>"


class Pieces:
    """A SentencePiece tokenizer's pieces."""

    all_special_ids = (0,)
    added_tokens_encoder: Mapping[str, int] = {"<tool>": 4}
    pieces: Sequence[str] = ("</s>", "▁the", "<0xE2>", "é", "<tool>", "▁▁")

    def get_vocab(self) -> dict[str, int]:
        return {piece: token for token, piece in enumerate(self.pieces)}

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.pieces[token]


def test_the_bytes_of_pieces() -> None:
    from mlspec.runners.mlx_lm.runtime_logprobs import TokenTexts

    texts = TokenTexts(Pieces())
    found = [bytes(texts.alternative(token, 0.0).bytes or []) for token in range(6)]
    assert found == [b"</s>", b" the", b"\xe2", "é".encode(), b"<tool>", b"  "]
