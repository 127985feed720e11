"""The runner `mlx-lm` in this process with the tiny model: what it answers is what mlx_lm.generate answers."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlspec.runners.mlx_lm import runtime
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateResponse
from mlspec_runtime.plan import Limits
from mlspec_runtime.protocol import RunnerContext, Stats
from runtime.bundles import limits, mlx_settings

pytestmark = pytest.mark.e2e

MODELS = Path(__file__).parents[2] / "specs" / "models"
PROMPTS = ("Where is my order?", "Hello", "Can I return it?", "Tell me about the sea.", "What does it cost?")
Ask = Callable[..., Coroutine[Any, Any, GenerateResponse]]


def other_adapter(folder: Path) -> Path:
    """A second adapter, unlike the first: of another rank, scale and set of layers, made from the first's tensors."""
    import mlx.core as mx

    shutil.copytree(MODELS / "tiny-support", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["lora_parameters"] |= {"rank": 4, "scale": 7.0}
    tensors: Any = mx.load(str(folder / "adapters.safetensors"))
    last_layer = max(name.split(".layers.")[1].split(".")[0] for name in tensors)
    kept = {n: t for n, t in tensors.items() if f".layers.{last_layer}." in n}
    cut = {n: t[:, :4] if n.endswith("lora_a") else t[:4] for n, t in kept.items()}
    mx.save_safetensors(str(folder / "adapters.safetensors"), cut)
    (folder / "adapter_config.json").write_text(json.dumps(config | {"num_layers": 1}))
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"support": MODELS / "tiny-support", "other": other_adapter(tmp_path_factory.mktemp("adapter") / "other")}


def make_runner(
    adapters: dict[str, Path], *, base: Path = MODELS / "tiny", seen: list[Stats] | None = None, **changes: Any
) -> runtime.MlxLmRunner:
    watch = (seen if seen is not None else []).append
    settings = mlx_settings(adapters, **changes.pop("settings", {}))
    context = RunnerContext("generate", settings, Limits(**limits(**changes)), Path(), watch)
    runner = runtime.create(context)
    runner.load({"base": base, **{f"adapters/{name}": folder for name, folder in adapters.items()}})
    return runner


@pytest.fixture(scope="module")
def runner(adapters: dict[str, Path]) -> Iterator[runtime.MlxLmRunner]:
    made = make_runner(adapters)
    yield made
    made.close()


async def ask(runner: runtime.MlxLmRunner, prompt: str = PROMPTS[0], **options: Any) -> GenerateResponse:
    """The whole answer to a prompt."""
    body = {"prompt": prompt, "max_tokens": 16, **options}
    request = runner.request_type.model_validate(body)
    submission = await runner.submit(request, f"ask-{prompt}", stream=False)  # type: ignore[arg-type]
    output = await submission.output()
    assert output.final
    assert isinstance(output.data, GenerateResponse)
    return output.data


def all_of(runner: runtime.MlxLmRunner, asked: Sequence[dict[str, Any]]) -> list[GenerateResponse]:
    """The answers to many requests at once."""

    async def together() -> list[GenerateResponse]:
        return await asyncio.gather(*(ask(runner, **options) for options in asked))

    return asyncio.run(together())


class Oracle:
    """mlx_lm's own generate, of a model loaded by mlx_lm's own load."""

    def __init__(self, adapter: Path | None) -> None:
        from mlx_lm import load

        loaded = load(str(MODELS / "tiny"), adapter_path=None if adapter is None else str(adapter))
        self.model: Any = loaded[0]
        self.tokenizer: Any = loaded[1]

    def generate(self, prompt: str, max_tokens: int = 16, *, raw: bool = False) -> tuple[list[int], str, str | None]:
        from mlx_lm import stream_generate

        ids: Any = prompt
        if not raw:
            messages = [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        parts = list(stream_generate(self.model, self.tokenizer, ids, max_tokens=max_tokens))
        tokens = [part.token for part in parts if part.token not in self.tokenizer.eos_token_ids]
        return tokens, "".join(part.text for part in parts), parts[-1].finish_reason


@pytest.fixture(scope="module")
def oracles(adapters: dict[str, Path]) -> dict[str, Oracle]:
    return {"base": Oracle(None), **{name: Oracle(folder) for name, folder in adapters.items()}}


def same(answer: GenerateResponse, expected: tuple[list[int], str, str | None]) -> bool:
    return (answer.tokens, answer.text, answer.finish_reason) == expected


@pytest.mark.parametrize("adapter", ["base", "support", "other"])
def test_greedy_equals_mlx_lm(runner: runtime.MlxLmRunner, oracles: dict[str, Oracle], adapter: str) -> None:
    for prompt in PROMPTS:
        (answer,) = all_of(runner, [{"prompt": prompt, "adapter": adapter, "max_tokens": 24}])
        assert same(answer, oracles[adapter].generate(prompt, 24)), prompt
        assert answer.adapter == adapter


def test_a_raw_prompt_is_continued_as_it_stands(runner: runtime.MlxLmRunner, oracles: dict[str, Oracle]) -> None:
    (answer,) = all_of(runner, [{"prompt": "Once upon", "raw": True, "adapter": "base"}])
    assert same(answer, oracles["base"].generate("Once upon", raw=True))


def test_messages_and_a_prompt_are_the_same(runner: runtime.MlxLmRunner) -> None:
    async def both() -> tuple[GenerateResponse, GenerateResponse]:
        messages = [{"role": "user", "content": PROMPTS[0]}]
        request = runner.request_type.model_validate({"messages": messages, "max_tokens": 16})
        submission = await runner.submit(request, "m", stream=False)  # type: ignore[arg-type]
        of_messages = (await submission.output()).data
        assert isinstance(of_messages, GenerateResponse)
        return of_messages, await ask(runner)

    one, other = asyncio.run(both())
    assert (one.tokens, one.usage) == (other.tokens, other.usage)


def test_fifty_at_once_of_all_adapters_equal_each_alone(
    runner: runtime.MlxLmRunner, oracles: dict[str, Oracle]
) -> None:
    names = ["base", "support", "other"]
    asked: list[dict[str, Any]] = [
        {"prompt": PROMPTS[i % 5], "adapter": names[i % 3], "max_tokens": 4 + i % 13, "temperature": 0.0}
        for i in range(50)
    ]
    for options, answer in zip(asked, all_of(runner, asked), strict=True):
        assert same(answer, oracles[options["adapter"]].generate(options["prompt"], options["max_tokens"])), options
    assert runner.stats() == Stats(0, 0)


def test_sampled_neighbours_change_nothing(runner: runtime.MlxLmRunner, oracles: dict[str, Oracle]) -> None:
    greedy = [{"prompt": prompt} for prompt in PROMPTS]
    sampled = [
        {"prompt": p, "temperature": 1.0, "top_p": 0.9, "top_k": 40, "min_p": 0.02, "repetition_penalty": 1.2}
        for p in PROMPTS
    ]
    answers = all_of(runner, [*greedy, *sampled, *greedy])
    for prompt, answer in zip((*PROMPTS, *PROMPTS), answers[:5] + answers[10:], strict=True):
        assert same(answer, oracles["support"].generate(prompt))


def test_a_seed_repeats_its_answer_among_any_neighbours(runner: runtime.MlxLmRunner) -> None:
    seeded = {"prompt": "Hello", "temperature": 5.0, "top_k": 100, "seed": 7, "max_tokens": 20}
    (alone,) = all_of(runner, [seeded])
    noise = [{"prompt": p, "temperature": 2.0, "max_tokens": 9} for p in PROMPTS]
    crowd = all_of(runner, [*noise, seeded, *noise, seeded])
    assert crowd[5].tokens == crowd[11].tokens == alone.tokens
    (another,) = all_of(runner, [{**seeded, "seed": 8}])
    assert another.tokens != alone.tokens
    unseeded = all_of(runner, [{**seeded, "seed": None} for _ in range(3)])
    assert len({tuple(answer.tokens) for answer in unseeded}) > 1


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 1e-320},
        {"temperature": 10.0, "top_p": 1e-300},
        {"temperature": 10.0, "min_p": 1e-320},
        {"temperature": 10.0, "min_p": 0.999999999},
        {"repetition_penalty": 0.01},
        {"temperature": 1.0, "repetition_penalty": 0.01},
        {"temperature": 1.0, "top_k": 1, "seed": 2**63 - 1},
    ],
)
def test_extreme_options_hurt_nobody(
    runner: runtime.MlxLmRunner, oracles: dict[str, Oracle], extreme: dict[str, Any]
) -> None:
    odd, neighbour = all_of(runner, [extreme, {}])
    assert len(odd.tokens) > 0 or odd.finish_reason == "stop"
    assert same(neighbour, oracles["support"].generate(PROMPTS[0]))


def test_top_k_of_the_whole_vocabulary_is_off(runner: runtime.MlxLmRunner) -> None:
    (answer,) = all_of(runner, [{"temperature": 1.0, "top_k": 10_000_000, "seed": 1}])
    (off,) = all_of(runner, [{"temperature": 1.0, "seed": 1}])
    assert answer.tokens == off.tokens


def test_a_stop_text_ends_the_answer_before_it(runner: runtime.MlxLmRunner, oracles: dict[str, Oracle]) -> None:
    _, text, _ = oracles["support"].generate(PROMPTS[0])
    # From the middle of one word into the next: no token's edge.
    stop = text[5:9]
    answer, neighbour = all_of(runner, [{"stop": ["never there", stop]}, {}])
    assert (answer.text, answer.finish_reason) == (text[: text.index(stop)], "stop")
    assert answer.usage.completion_tokens == len(answer.tokens) < 16
    assert neighbour.text == text
    assert runner.stats() == Stats(0, 0)


def test_a_stream_gives_the_same_text_and_tokens(runner: runtime.MlxLmRunner) -> None:
    async def stream() -> tuple[str, list[int], GenerateResponse]:
        request = runner.request_type.model_validate({"prompt": "Tell me, naïve one: 你好 🙂?", "max_tokens": 30})
        submission = await runner.submit(request, "s", stream=True)  # type: ignore[arg-type]
        outputs = [await submission.output()]
        while not outputs[-1].final:
            outputs.append(await submission.output())
        events: list[Any] = [output.data for output in outputs[:-1]]
        whole = outputs[-1].data
        assert isinstance(whole, GenerateResponse)
        tokens = [token for event in events for token in event.tokens]
        return "".join(event.text for event in events), tokens, whole

    text, tokens, whole = asyncio.run(stream())
    assert text == whole.text
    assert tokens == whole.tokens[: len(tokens)]


def test_cancelling_frees_the_place(adapters: dict[str, Path]) -> None:
    runner = make_runner(adapters, concurrency=1, queue=1, max_tokens=2000)

    async def check() -> None:
        long = runner.request_type.model_validate({"prompt": "Hello", "max_tokens": 1900, "temperature": 5.0})
        running = await runner.submit(long, "running", stream=True)  # type: ignore[arg-type]
        await running.output()
        waiting = await runner.submit(long, "waiting", stream=False)  # type: ignore[arg-type]
        assert runner.stats() == Stats(waiting=1, running=1)
        with pytest.raises(ServiceError) as full:
            await runner.submit(long, "refused", stream=False)  # type: ignore[arg-type]
        assert (full.value.status, full.value.code) == (429, "queue_full")
        runner.cancel(waiting)
        runner.cancel(running)
        runner.cancel(running)
        assert len((await asyncio.wait_for(ask(runner), 10)).tokens) > 0
        assert runner.stats() == Stats(0, 0)

    asyncio.run(check())
    runner.close()


def test_a_poisoned_batch_fails_its_requests_and_no_later_ones(
    adapters: dict[str, Path], oracles: dict[str, Oracle]
) -> None:
    runner = make_runner(adapters)

    async def check() -> None:
        (before,) = [await ask(runner)]
        model = runner._engine._model
        whole_step = model.step

        def broken_step() -> Any:
            # As an allocation that fails in the midst of a step does: the real batch has rows in flight.
            model.step = whole_step  # type: ignore[method-assign]
            whole_step()
            raise RuntimeError("[malloc] secret detail")

        model.step = broken_step  # type: ignore[method-assign]
        lost = await asyncio.gather(ask(runner, "Hello"), ask(runner, PROMPTS[1]), return_exceptions=True)
        errors = [error for error in lost if isinstance(error, ServiceError)]
        assert errors
        assert all((error.status, error.code) == (500, "engine_error") for error in errors)
        assert all("secret" not in error.message for error in errors)
        after = await asyncio.gather(*(ask(runner, prompt) for prompt in PROMPTS))
        assert after[0].tokens == before.tokens
        assert [same(a, oracles["support"].generate(p)) for p, a in zip(PROMPTS, after, strict=True)] == [True] * 5
        assert (await runner.health(5)).checked == "recently"

    asyncio.run(check())
    runner.close()


def test_a_dead_engine_fails_requests_and_health(adapters: dict[str, Path]) -> None:
    runner = make_runner(adapters)

    def die() -> None:
        raise SystemExit

    async def check() -> None:
        model = runner._engine._model
        model.step = die  # type: ignore[method-assign, assignment]
        with pytest.raises(ServiceError) as first:
            await asyncio.wait_for(ask(runner), 10)
        with pytest.raises(ServiceError) as later:
            await ask(runner)
        assert first.value.code == later.value.code == "engine_dead"
        with pytest.raises(ServiceError, match=r"has (died|ended)"):
            await runner.health(5)

    asyncio.run(check())
    runner.close()


def test_health_generates_when_nothing_has_lately(adapters: dict[str, Path]) -> None:
    runner = make_runner(adapters)

    async def check() -> None:
        assert (await runner.health(10)).checked == "computed"
        assert (await runner.health(10)).checked == "recently"
        runner._engine.progress_at = 0.0
        probes = await asyncio.gather(*(runner.health(10) for _ in range(5)))
        assert {probe.checked for probe in probes} <= {"computed", "recently"}
        assert runner.stats() == Stats(0, 0)

    asyncio.run(check())
    runner.close()


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"prompt": "word " * 4000}, "prompt_too_long", "the context holds 2048"),
        ({"messages": [{"role": "user", "content": "a " * 5000}]}, "prompt_too_long", "tokens"),
    ],
)
def test_a_prompt_beyond_the_context(runner: runtime.MlxLmRunner, body: Any, code: str, words: str) -> None:
    async def check() -> None:
        request = runner.request_type.model_validate(body)
        with pytest.raises(ServiceError, match=words) as error:
            await runner.submit(request, "r", stream=False)  # type: ignore[arg-type]
        assert (error.value.status, error.value.code) == (400, code)

    asyncio.run(check())


def test_an_answer_ends_at_the_context(adapters: dict[str, Path]) -> None:
    runner = make_runner(adapters, settings={"context_length": 20})
    (answer,) = all_of(runner, [{"prompt": "Hi", "max_tokens": 60, "temperature": 5.0}])
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 20
    runner.close()


def test_a_whole_fine_tune_beside_an_adapter_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    whole = made_adapter(tmp_path / "whole", "full", seed=1)
    with pytest.raises(ServiceError, match="support is lora, whole is full"):
        make_runner({"support": adapters["support"], "whole": whole})


def test_dora_without_magnitudes_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    dora = tmp_path / "dora"
    shutil.copytree(adapters["support"], dora)
    config = json.loads((dora / "adapter_config.json").read_text())
    (dora / "adapter_config.json").write_text(json.dumps(config | {"fine_tune_type": "dora"}))
    with pytest.raises(ServiceError, match=r"'dora' has no tensor .*\.m;"):
        make_runner({"support": adapters["support"], "dora": dora})


def test_an_adapter_of_another_model_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    import mlx.core as mx

    shutil.copytree(adapters["support"], tmp_path / "wide")
    tensors: Any = mx.load(str(tmp_path / "wide" / "adapters.safetensors"))
    name = next(n for n in tensors if n.endswith("lora_a"))
    tensors[name] = mx.zeros((999, 8))
    mx.save_safetensors(str(tmp_path / "wide" / "adapters.safetensors"), tensors)
    with pytest.raises(ServiceError, match="has the shape"):
        make_runner({"wide": tmp_path / "wide"})


def test_without_openblas_it_goes_on(adapters: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner({}, settings={"preload_blas": "libnowhere.so.0"})
    assert "libnowhere.so.0" in caplog.text
    (answer,) = all_of(runner, [{"prompt": "Hello"}])
    assert answer.adapter == "base"
    runner.close()


def made_adapter(folder: Path, kind: str, *, seed: int) -> Path:
    """An adapter of any kind with tensors by chance, as mlx_lm writes it."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm import load
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model: Any = load(str(MODELS / "tiny"))[0]
    parameters = {"rank": 2 + seed, "scale": 3.0, "dropout": 0.5, "keys": ["self_attn.q_proj", "mlp.down_proj"]}
    mx.random.seed(seed)
    if kind != "full":
        model.freeze()
        linear_to_lora_layers(model, 2, parameters, use_dora=kind == "dora")
    tensors = dict(tree_flatten(model.trainable_parameters()))
    size = {"lora": 1.0, "dora": 4.0, "full": 0.1}[kind]
    moved = {name: tensor + size * mx.random.normal(tensor.shape) for name, tensor in tensors.items()}
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), moved)
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_two_adapters_of_each_kind_equal_mlx_lm(kind: str, tmp_path: Path) -> None:
    adapters = {f"a{n}": made_adapter(tmp_path / f"a{n}", kind, seed=n) for n in (1, 2)}
    oracles = {"base": Oracle(None), **{name: Oracle(folder) for name, folder in adapters.items()}}
    runner = make_runner(adapters)
    asked: list[dict[str, Any]] = [{"prompt": p, "adapter": name} for p in PROMPTS for name in ("a2", "base", "a1")]
    answers = all_of(runner, asked)
    for options, answer in zip(asked, answers, strict=True):
        assert same(answer, oracles[options["adapter"]].generate(options["prompt"])), options
    assert len({answer.text for answer in answers[:3]}) == 3
    runner.close()
