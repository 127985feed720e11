"""What a plan sets of the runner `mlx-lm`: memory limits, types, prompt steps and the prompt cache."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.runners.mlx_lm import runtime
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateResponse, Sampling
from mlspec_runtime.heat.allowance import Allowance
from models.blas import environment, preload
from models.shapes import SHAPES, Shape
from runtime.adapted import Loaded, Together
from runtime.test_mlx_e2e import MODELS, PROMPTS, Oracle, all_of, make_runner, other_adapter, same

pytestmark = pytest.mark.e2e

preload()  # before anything here imports MLX
LONG = "Tell me about the sea, the order, the parcel and the lamp, and then about everything else. " * 8
CACHE_BYTES = 64 << 20


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"support": MODELS / "tiny-support", "other": other_adapter(tmp_path_factory.mktemp("adapter") / "other")}


@pytest.fixture(scope="module")
def plain(adapters: dict[str, Path]) -> Iterator[runtime.MlxLmRunner]:
    made = make_runner(adapters)
    yield made
    made.close()


@pytest.fixture
def caching(adapters: dict[str, Path]) -> Iterator[runtime.MlxLmRunner]:
    made = make_runner(adapters, settings={"prompt_cache_bytes": CACHE_BYTES})
    yield made
    made.close()


async def converse(runner: runtime.MlxLmRunner, adapter: str, turns: int = 4) -> tuple[list[list[int]], list[int]]:
    """The answers of a conversation, and how many tokens of each prompt came from the cache."""
    messages: list[dict[str, str]] = []
    answers, reused = [], []
    for prompt in (*PROMPTS, *PROMPTS)[:turns]:
        messages.append({"role": "user", "content": prompt})
        body = {"messages": messages, "max_tokens": 24, "adapter": adapter}
        request = runner.request_type.model_validate(body)
        submission = await runner.submit(request, "turn", stream=False)  # type: ignore[arg-type]
        output = await submission.output()
        assert isinstance(output.data, GenerateResponse)
        assert output.measures is not None
        answers.append(output.data.tokens)
        reused.append(output.measures.reused_tokens)
        messages.append({"role": "assistant", "content": output.data.text})
    return answers, reused


def test_conversations_with_a_prompt_cache_go_as_without(
    plain: runtime.MlxLmRunner, caching: runtime.MlxLmRunner
) -> None:
    async def check() -> None:
        for adapter in ("base", "support", "other", "base"):
            expected, none = await converse(plain, adapter)
            found, reused = await converse(caching, adapter)
            assert found == expected, adapter
            assert none == [0] * 4
            assert all(reused[1:]), adapter
        assert 0 < caching.vitals().memory_bytes["prompt_cache"] <= CACHE_BYTES
        assert plain.vitals().memory_bytes["prompt_cache"] == 0

    asyncio.run(check())


def test_many_conversations_at_once_with_a_prompt_cache(
    plain: runtime.MlxLmRunner, caching: runtime.MlxLmRunner
) -> None:
    async def check() -> None:
        names = ["base", "support", "other"] * 3
        alone = {name: (await converse(plain, name))[0] for name in set(names)}
        together = await asyncio.gather(*(converse(caching, name) for name in names))
        for name, (answers, _) in zip(names, together, strict=True):
            assert answers == alone[name], name
        assert sum(sum(reused) for _, reused in together) > 500

    asyncio.run(check())


def test_the_same_prompt_again_and_a_penalty_see_the_reused_tokens(
    plain: runtime.MlxLmRunner, caching: runtime.MlxLmRunner
) -> None:
    body = {"prompt": LONG, "max_tokens": 24}
    penalized = {**body, "repetition_penalty": 1.8}
    expected = [answer.tokens for answer in all_of(plain, [body, penalized])]
    assert expected[0] != expected[1]
    for _ in range(3):
        assert [answer.tokens for answer in all_of(caching, [body, penalized])] == expected


def test_the_prompt_cache_stays_within_its_bytes_and_a_reset_empties_it(
    adapters: dict[str, Path], plain: runtime.MlxLmRunner
) -> None:
    runner = make_runner(adapters, settings={"prompt_cache_bytes": 200_000})
    asked: list[dict[str, Any]] = [{"prompt": f"{n} {LONG}"[: 150 + 17 * n], "max_tokens": 8} for n in range(12)]
    for _ in range(2):
        assert [a.tokens for a in all_of(runner, asked)] == [a.tokens for a in all_of(plain, asked)]
        assert 100_000 < runner.vitals().memory_bytes["prompt_cache"] <= 200_000
    model: Any = runner._engine._model
    model.reset()
    assert runner.vitals().memory_bytes["prompt_cache"] == 0
    runner.close()


@pytest.mark.parametrize("name", ["gemma3", "gpt-oss", "deepseek-v3", "lfm2", "falcon-h1", "qwen3-moe"])
def test_every_kind_of_cache_can_be_reused(name: str) -> None:
    """Windows, latent attention, state spaces: the shapes whose caches are no plain keys and values."""
    whole, cached = (BatchOf(SHAPES[name], prompt_cache_bytes=size) for size in (0, 1 << 28))
    for start in (90, 280):
        prompts = [[*range(100, 100 + start), 7 * n, n + 50, n + 9] for n in range(2)]
        first = [whole.answer(prompt)[0] for prompt in prompts]
        assert [cached.answer(prompt)[0] for prompt in prompts] == first
        turns = [[*prompt, *answer, 5, 6, 7] for prompt, answer in zip(prompts, first, strict=True)]
        again = [cached.answer(turn) for turn in turns]
        assert [tokens for tokens, _ in again] == [whole.answer(turn)[0] for turn in turns]
        assert all(reused >= start for _, reused in again)


class BatchOf:
    """A small network of some shape in the runner's batch, without a tokenizer."""

    def __init__(self, shape: Shape, prompt_cache_bytes: int) -> None:
        self._batch = Together(Loaded(shape, {}), prefill_step=64, prompt_cache_bytes=prompt_cache_bytes)

    def answer(self, prompt: list[int]) -> tuple[list[int], int]:
        """Twelve tokens, and how many of the prompt's were reused."""
        row = self._batch.start(prompt, "base", 12)
        self._batch.finish()
        return self._batch.answers[row], self._batch.reused[row]


@pytest.mark.parametrize("step", [7, 64, 4096])
def test_the_prompt_step_changes_no_answer(step: int, plain: runtime.MlxLmRunner) -> None:
    runner = make_runner({}, settings={"prefill_step": step})
    asked: list[dict[str, Any]] = [{"prompt": LONG, "adapter": "base"}, {"prompt": "Hello", "adapter": "base"}]
    assert [a.tokens for a in all_of(runner, asked)] == [a.tokens for a in all_of(plain, asked)]
    runner.throttle(Allowance(concurrency=1, prefill_step=5))
    assert [a.tokens for a in all_of(runner, asked)] == [a.tokens for a in all_of(plain, asked)]
    batch: Any = runner._engine._model
    assert batch._batch.prefill_step_size == 5
    runner.throttle(Allowance(concurrency=8, prefill_step=9999))
    all_of(runner, asked)
    assert batch._batch.prefill_step_size == step
    runner.close()


def test_the_pace_is_known_after_answers(plain: runtime.MlxLmRunner) -> None:
    plain.vitals()
    all_of(plain, [{"prompt": "Tick forever.", "max_tokens": 60, "adapter": "base"}])
    paces = plain.vitals().paces
    assert {pace.kind.rows for pace in paces} == {1}
    assert 50 <= sum(pace.tokens for pace in paces) <= 59
    assert set(plain.vitals().memory_bytes) == {"active", "cache", "peak", "limit", "prompt_cache", "adapters"}


def in_16_bits(folder: Path, *, bits: int | None) -> Path:
    """The tiny model in bfloat16; with `bits`, quantized."""
    import mlx_lm

    mlx_lm.convert(
        str(MODELS / "tiny"), str(folder), quantize=bits is not None, q_bits=bits, q_group_size=32, dtype="bfloat16"
    )
    return folder


@pytest.mark.parametrize("bits", [None, 4])
def test_weights_are_cast_as_they_are_loaded(bits: int | None, tmp_path: Path, adapters: dict[str, Path]) -> None:
    """Scales of quantized layers, too: with 16-bit ones a CPU computes in 16 bits, many times slower."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from mlspec.runners.mlx_lm.runtime_adapted_layers import AdaptedLayer
    from mlspec.runners.mlx_lm.runtime_loaded import LoadedModel
    from mlspec.runners.mlx_lm.runtime_settings import Settings

    folder = in_16_bits(tmp_path / "model", bits=bits)
    for dtype, expected in ((None, mx.bfloat16), ("float32", mx.float32)):
        settings = Settings(64, ("support",), "support", None, Sampling(1), dtype=dtype)  # type: ignore[arg-type]
        loaded = LoadedModel(folder, {"support": adapters["support"]}, settings)
        tensors = dict(tree_flatten(loaded.model.parameters()))
        assert {t.dtype for t in tensors.values()} == {expected} | ({mx.uint32} if bits else set())
        if dtype:
            adapted: list[Any] = [m.tensors for m in loaded.model.modules() if isinstance(m, AdaptedLayer)]
            assert {array.dtype for layer in adapted for array in layer.arrays} == {mx.float32}
            logits = loaded.model(mx.array([[1, 2, 3]]))
            assert logits.dtype == mx.float32
        loaded.close()


def test_a_cast_model_answers_as_the_one_in_float32(tmp_path: Path) -> None:
    folder = in_16_bits(tmp_path / "model", bits=None)
    runner = make_runner({}, base=folder, settings={"dtype": "float32"})
    answers = all_of(runner, [{"prompt": prompt} for prompt in PROMPTS])
    oracle = Oracle(None)
    assert [same(a, oracle.generate(p)) for p, a in zip(PROMPTS, answers, strict=True)] == [True] * len(PROMPTS)
    runner.close()


def test_a_cache_that_cannot_be_quantized_is_refused_at_load() -> None:
    # Heads of 32 elements; the quantized cache is in groups of 64.
    with pytest.raises(ServiceError, match="can't be quantized to 8 bits") as refused:
        make_runner({}, settings={"kv_bits": 8})
    assert (refused.value.status, refused.value.code) == (503, "kv_bits_unsupported")


@pytest.mark.parametrize(
    ("name", "why"), [("gemma3", "RotatingKVCache"), ("deepseek-v3", "ValueError"), ("falcon-h1", "none of its layers")]
)
def test_families_without_a_quantized_cache_are_refused(name: str, why: str) -> None:
    from mlspec.runners.mlx_lm.runtime_sequences import SequencesModel

    loaded: Any = Loaded(SHAPES[name], {})
    with pytest.raises(ServiceError, match=why):
        SequencesModel(loaded, kv_bits=4, prefill_step=64)


LIMITS = """
import json, logging, sys
import mlx.core as mx
from pathlib import Path
from mlspec.runners.mlx_lm import runtime_loaded
from mlspec.runners.mlx_lm.runtime_settings import PlannedMemory, Settings
from mlspec_runtime.generate.messages import Sampling
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
limits = PlannedMemory(**json.loads(sys.argv[2]))
loaded = runtime_loaded.LoadedModel(Path(sys.argv[1]), {}, Settings(64, (), "base", None, Sampling(1), memory=limits))
mx.eval(mx.zeros(4 << 20), mx.zeros(4 << 20))
print(json.dumps({"memory": mx.get_memory_limit(), "cache": mx.get_cache_memory(), "was": mx.set_cache_limit(0)}))
"""


def limited(**limits: int) -> tuple[dict[str, int], str]:
    """What MLX's limits are in a process that loaded the tiny model with these; and its log."""
    command = [sys.executable, "-c", LIMITS, str(MODELS / "tiny"), json.dumps(limits)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found, done.stderr


def test_planned_limits_are_set_before_loading() -> None:
    found, log = limited(memory_limit_bytes=300 << 20, cache_limit_bytes=1 << 20, wired_limit_bytes=200 << 20)
    assert (found["memory"], found["was"]) == (300 << 20, 1 << 20)
    assert found["cache"] <= 1 << 20
    assert f"INFO memory_limit_bytes: {300 << 20}, as planned" in log
    assert "INFO wired_limit_bytes: 209715200 planned; there is no such limit on this computer" in log


def test_more_than_there_is_is_not_taken() -> None:
    found, log = limited(memory_limit_bytes=1 << 50)
    assert found["memory"] < 1 << 44
    assert "WARNING memory_limit_bytes: 1125899906842624 planned, " in log


RECOMMENDED = 12713115648
AVAILABLE = RECOMMENDED - int(0.05 * RECOMMENDED)
MAC = {"memory_size": 17179869184, "max_recommended_working_set_size": RECOMMENDED}


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[int]:
    """Each wired limit that was set, on a Mac, as its figures and MLX's calls tell."""
    import mlx.core as mx

    caplog.set_level(logging.INFO, "mlspec.mlx")
    found = [0]

    def set_wired_limit(limit: int) -> int:
        assert limit <= RECOMMENDED, "MLX raises"
        found.append(limit)
        return found[-2]

    monkeypatch.setattr(mx, "device_info", lambda: MAC)
    monkeypatch.setattr(mx, "set_wired_limit", set_wired_limit)
    for name in ("set_memory_limit", "set_cache_limit"):
        monkeypatch.setattr(mx, name, lambda limit: limit)
    return found


@pytest.mark.parametrize(("planned", "taken"), [(10 << 30, 10 << 30), (20 << 30, AVAILABLE), (0, 0), (None, AVAILABLE)])
def test_the_planned_wired_limit_outlives_mlx_lms_own(planned: int | None, taken: int, wired: list[int]) -> None:
    """Each new batch sets the recommended limit."""
    runner = make_runner({}, settings={"memory": {"wired_limit_bytes": planned}})
    assert RECOMMENDED in wired
    assert wired[-1] == taken
    model: Any = runner._engine._model
    del wired[1:]
    model.reset()
    assert RECOMMENDED in wired
    assert wired[-1] == taken
    runner.close()


def test_without_a_planned_wired_limit_a_lower_one_stays(wired: list[int]) -> None:
    from mlspec.runners.mlx_lm.runtime_loaded import LoadedModel
    from mlspec.runners.mlx_lm.runtime_settings import Settings

    loaded = LoadedModel(MODELS / "tiny", {}, Settings(64, (), "base", None, Sampling(1)))
    assert wired == [0]
    loaded.wire()
    assert wired[-1] == 0
    loaded.close()


def planned_memory(fixed: int, request: int) -> dict[str, Any]:
    return {"memory": {"fixed_bytes": fixed, "request_bytes": request}, "prompt_cache_bytes": CACHE_BYTES}


def test_a_smaller_computer_computes_fewer_at_once(wired: list[int], plain: runtime.MlxLmRunner) -> None:
    fixed = AVAILABLE - (3 << 30) + CACHE_BYTES
    runner = make_runner({}, settings=planned_memory(fixed, 1 << 30))
    capacity = runner.stats().capacity
    assert capacity is not None
    assert (capacity.planned, capacity.concurrency) == (8, 3)
    model: Any = runner._engine._model
    assert model._batch.completion_batch_size == 3
    assert model._prefixes is None
    # The governor allows more than the memory does, and less.
    for allowed, expected in ((8, 3), (2, 2), (4, 3)):
        runner.throttle(Allowance(allowed))
        assert runner._engine._concurrency == expected
    asked: list[dict[str, Any]] = [{"prompt": prompt, "adapter": "base"} for prompt in PROMPTS]
    assert [a.tokens for a in all_of(runner, asked)] == [a.tokens for a in all_of(plain, asked)]
    runner.close()


def test_a_computer_without_room_for_one_request_is_refused_before_loading(wired: list[int], tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=f"{AVAILABLE} bytes") as refused:
        # There is nothing to load.
        make_runner({}, base=tmp_path, settings=planned_memory(AVAILABLE + CACHE_BYTES, 1))
    assert (refused.value.status, refused.value.code) == (503, "memory_too_small")


def test_the_planned_machine_computes_all_that_was_planned(wired: list[int]) -> None:
    runner = make_runner({}, settings=planned_memory(AVAILABLE - (8 << 30), 1 << 30))
    assert runner.stats().capacity is None
    model: Any = runner._engine._model
    assert (model._batch.completion_batch_size, runner._engine._concurrency) == (8, 8)
    assert model._prefixes is not None
    runner.close()
