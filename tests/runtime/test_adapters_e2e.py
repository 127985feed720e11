"""Several adapters in one batch: each row is answered as mlx_lm answers it alone, with its one adapter."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlspec_runtime.errors import ServiceError
from models.blas import preload
from models.shapes import SHAPES, Shape
from runtime.adapted import Alone, Loaded, Together, make_adapter

pytestmark = pytest.mark.e2e

preload()  # before anything here imports MLX
DENSE = SHAPES["grouped"]
PROMPTS = ([5, 9, 2, 77, 31, 8], [400], [11, 12, 13] * 13, [7, 300, 2, 41] * 5)
ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")
TOKENS = 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters that differ in all that they can differ in."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "small": make_adapter(folder / "small", DENSE, 1, rank=2, scale=7.0, num_layers=2),
        "large": make_adapter(folder / "large", DENSE, 2, rank=9, keys=("mlp.down_proj", *ATTENTION), num_layers=8),
        "other": make_adapter(folder / "other", DENSE, 3, keys=("mlp.up_proj",), num_layers=5, scale=1.5),
        "dora": make_adapter(folder / "dora", DENSE, 4, kind="dora", rank=3, keys=("mlp.down_proj", *ATTENTION)),
        "words": make_adapter(folder / "words", DENSE, 5, keys=("model.embed_tokens", "self_attn.o_proj")),
    }


@pytest.fixture(scope="module")
def expected(folders: Mapping[str, Path]) -> dict[str, list[list[int]]]:
    """What mlx_lm answers with each adapter, by prompt."""
    return answers_alone(DENSE, folders)


def answers_alone(shape: Shape, folders: Mapping[str, Path]) -> dict[str, list[list[int]]]:
    alone = {"base": Alone(shape, None), **{name: Alone(shape, folder) for name, folder in folders.items()}}
    return {name: [model.answer(prompt, TOKENS) for prompt in PROMPTS] for name, model in alone.items()}


@pytest.fixture(scope="module")
def loaded(folders: Mapping[str, Path]) -> Loaded:
    return Loaded(DENSE, folders)


def test_the_adapters_answer_differently(expected: Mapping[str, list[list[int]]]) -> None:
    answers = [str(found) for found in expected.values()]
    assert len(set(answers)) == len(answers) == 6


def test_each_alone_equals_mlx_lm(loaded: Loaded, expected: Mapping[str, list[list[int]]]) -> None:
    together = Together(loaded)
    for name, index in itertools.product(expected, range(len(PROMPTS))):
        assert together.answer(PROMPTS[index], name, TOKENS) == expected[name][index], (name, index)


def test_all_at_once_equal_each_alone(loaded: Loaded, expected: Mapping[str, list[list[int]]]) -> None:
    assert loaded.adapters.mixing
    together = Together(loaded, concurrency=24)
    rows = {
        together.start(PROMPTS[index], name, TOKENS): (name, index)
        for index, name in itertools.product(range(len(PROMPTS)), expected)
    }
    together.finish()
    for row, (name, index) in rows.items():
        assert together.answers[row] == expected[name][index], (name, index)


def test_rows_that_join_late_leave_early_and_end_change_no_neighbour(
    loaded: Loaded, expected: Mapping[str, list[list[int]]]
) -> None:
    together = Together(loaded, concurrency=6, prefill_step=7)
    wanted: dict[int, list[int]] = {}
    for turn in range(30):
        name, index = list(expected)[turn % len(expected)], turn * 7 % len(PROMPTS)
        tokens = 2 + turn * 5 % (TOKENS - 1)
        row = together.start(PROMPTS[index], name, tokens)
        wanted[row] = expected[name][index][:tokens]
        together.step(turn % 3)
        if turn % 4 == 3:
            gone = max(together.answers.keys() - together.ended)
            together.drop(gone)
            wanted[gone] = wanted[gone][: len(together.answers[gone])]
    together.finish()
    assert together.answers == wanted
    assert any(len(answer) == TOKENS for answer in wanted.values())


def test_with_a_prefix_cache_each_adapter_has_its_own(loaded: Loaded, expected: Mapping[str, list[list[int]]]) -> None:
    together = Together(loaded, prompt_cache_bytes=1 << 28)
    for _ in range(2):
        rows = {together.start(PROMPTS[2], name, TOKENS): name for name in expected}
        together.finish()
        assert {name: together.answers[row] for row, name in rows.items()} == {n: a[2] for n, a in expected.items()}
    assert [together.reused[row] for row in rows] == [len(PROMPTS[2]) - 1] * len(rows)
    counts = together.model.counts()
    assert (counts["prefix_hits"], counts["prefix_misses"]) == (len(rows), len(rows))


def test_another_adapter_takes_the_slot_that_was_used_longest_ago(
    folders: Mapping[str, Path], expected: Mapping[str, list[list[int]]]
) -> None:
    loaded = Loaded(DENSE, folders, slots=2, preload=["small", "large", "dora"])
    together, count = Together(loaded), 2
    assert loaded.adapters.loads == count
    for name, loads in (("large", 0), ("small", 0), ("dora", 1), ("small", 0), ("large", 1), ("dora", 1), ("words", 1)):
        assert together.answer(PROMPTS[0], name, TOKENS) == expected[name][0], name
        count += loads
        assert loaded.adapters.loads == count, name
    assert together.answer(PROMPTS[0], "base", TOKENS) == expected["base"][0]
    assert together.model.counts()["adapter_loads"] == count


def test_adapters_whose_rows_are_there_keep_their_slots(
    folders: Mapping[str, Path], expected: Mapping[str, list[list[int]]]
) -> None:
    together = Together(Loaded(DENSE, folders, slots=2, preload=[]))
    model = together.model
    rows = {together.start(PROMPTS[0], name, TOKENS): name for name in ("small", "dora", "base")}
    together.step(4)
    assert [model.admits(name) for name in ("small", "dora", "base", "large")] == [True, True, True, False]
    with pytest.raises(RuntimeError, match="don't admit adapter 'large'"):
        together.start(PROMPTS[0], "large")
    together.drop(min(rows))
    assert model.admits("large")
    joined = together.start(PROMPTS[0], "large", TOKENS)
    assert not model.admits("small")
    together.finish()
    assert model.admits("small")
    for row, name in {**dict(list(rows.items())[1:]), joined: "large"}.items():
        assert together.answers[row] == expected[name][0], name


def test_a_reset_frees_every_slot(folders: Mapping[str, Path], expected: Mapping[str, list[list[int]]]) -> None:
    together = Together(Loaded(DENSE, folders, slots=1))
    together.start(PROMPTS[0], "small")
    together.step(3)
    assert not together.model.admits("large")
    together.model.reset()
    together.answers.clear()
    assert together.answer(PROMPTS[0], "large", TOKENS) == expected["large"][0]


def test_adapters_that_are_not_loaded_take_no_memory(folders: Mapping[str, Path]) -> None:
    sizes = [Loaded(DENSE, folders, slots=slots, preload=[]).adapters.nbytes for slots in (1, 2, 5)]
    # The base's own row of zeros besides.
    assert [3 * sizes[0], 6 * sizes[0]] == [2 * sizes[1], 2 * sizes[2]]
    assert Loaded(DENSE, {}).adapters.nbytes == 0


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_base_mixes_as_well(bits: int, tmp_path: Path) -> None:
    shape = SHAPES[f"{bits}-bit"]
    given = {
        "lora": make_adapter(tmp_path / "lora", shape, 1, keys=(*ATTENTION, "model.embed_tokens")),
        "dora": make_adapter(tmp_path / "dora", shape, 2, kind="dora"),
    }
    check_together(shape, given)


@pytest.mark.parametrize("name", ["gemma3", "gpt-oss", "deepseek-v3", "lfm2", "falcon-h1", "qwen3-moe"])
def test_families_of_all_kinds_mix(name: str, tmp_path: Path) -> None:
    """All linear layers that mlx_lm would adapt, but experts'."""
    shape = SHAPES[name]
    keys = sorted(key for key in adaptable(shape) if "switch" not in key and "experts" not in key)
    given = {f"a{seed}": make_adapter(tmp_path / f"a{seed}", shape, seed, keys=keys) for seed in (1, 2)}
    check_together(shape, given)


def adaptable(shape: Shape) -> set[str]:
    """The linear layers in a network's layers, by their paths in them."""
    from mlx.nn.layers.linear import Linear
    from mlx_lm.models.switch_layers import SwitchLinear

    from runtime.adapted import seeded

    modules = itertools.chain.from_iterable(layer.named_modules() for layer in seeded(shape).layers)
    return {path for path, module in modules if isinstance(module, Linear | SwitchLinear)}


def check_together(shape: Shape, given: Mapping[str, Path]) -> None:
    expected = answers_alone(shape, given)
    assert len({str(answers) for answers in expected.values()}) == len(expected)
    loaded = Loaded(shape, given)
    assert loaded.adapters.mixing
    together = Together(loaded, concurrency=16)
    rows = {
        together.start(PROMPTS[index], name, TOKENS): (name, index)
        for index, name in itertools.product(range(len(PROMPTS)), expected)
    }
    together.finish()
    for row, (name, index) in rows.items():
        assert together.answers[row] == expected[name][index], (name, index)


@pytest.mark.parametrize("name", ["gpt-oss", "qwen3-moe"])
def test_experts_have_one_adapter_at_a_time(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    keys = sorted(key for key in adaptable(shape) if "switch" in key or "experts" in key or "q_proj" in key)
    given = {f"a{seed}": make_adapter(tmp_path / f"a{seed}", shape, seed, keys=keys, rank=seed) for seed in (1, 2)}
    expected = answers_alone(shape, given)
    check_in_turns(Together(Loaded(shape, given, slots=1)), expected)


def test_whole_fine_tunes_take_turns(tmp_path: Path) -> None:
    given = {f"a{seed}": make_adapter(tmp_path / f"a{seed}", DENSE, seed, kind="full") for seed in (1, 2)}
    expected = answers_alone(DENSE, given)
    for slots in (1, 2):
        loaded = Loaded(DENSE, given, slots=slots)
        check_in_turns(Together(loaded), expected)
        # The second, and the first again.
        assert loaded.adapters.loads == (3 if slots == 1 else 2)


def check_in_turns(together: Together, expected: Mapping[str, list[list[int]]]) -> None:
    for name in ("a1", "a2", "base", "a1"):
        rows = [together.start(prompt, name, TOKENS) for prompt in PROMPTS]
        for other in expected:
            assert together.model.admits(other) == (other == name)
        together.step(2)
        together.finish()
        assert [together.answers[row] for row in rows] == expected[name], name


def test_a_family_whose_layers_confuse_rows_takes_turns(folders: Mapping[str, Path], monkeypatch: Any) -> None:
    """As a layer does that is called with tokens in an order of its own."""
    import mlx.core as mx

    from mlspec.runners.mlx_lm.runtime_adapted_layers import AdaptedLinear

    whole = AdaptedLinear.__call__

    def turned(self: Any, x: mx.array) -> mx.array:
        if x.shape[0] == 1:
            return whole(self, x)
        return mx.roll(whole(self, mx.roll(x, 1, axis=0)), -1, axis=0)

    monkeypatch.setattr(AdaptedLinear, "__call__", turned)
    assert not Loaded(DENSE, {"small": folders["small"]}).adapters.mixing
    monkeypatch.undo()
    assert Loaded(DENSE, {"small": folders["small"]}).adapters.mixing


def refused(folders: Mapping[str, Path]) -> ServiceError:
    with pytest.raises(ServiceError) as problem:
        Loaded(DENSE, folders)
    assert (problem.value.code, problem.value.status) == ("adapter_misfit", 503)
    return problem.value


def change(folder: Path, tensors: Mapping[str, Any] | None = None, without: str | None = None, **config: Any) -> Path:
    import mlx.core as mx

    found: Any = mx.load(str(folder / "adapters.safetensors"))
    kept = {name: tensor for name, tensor in {**found, **(tensors or {})}.items() if name != without}
    mx.save_safetensors(str(folder / "adapters.safetensors"), kept)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | config))
    return folder


def test_what_does_not_fit_is_refused_at_start(tmp_path: Path) -> None:
    import mlx.core as mx

    q = "model.layers.7.self_attn.q_proj"
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"tensors": {f"{q}.lora_a": mx.zeros((999, 4))}}, f"'bad': {q}.lora_a has the shape (999, 4), the base model"),
        ({"tensors": {f"{q}.lora_a": mx.zeros((4,))}}, "has the shape (4,), the base model wants"),
        (
            {"tensors": {"model.layers.7.nowhere.lora_a": mx.zeros((4, 4))}},
            "no place for its tensor model.layers.7.now",
        ),
        ({"tensors": {f"{q}.lora_c": mx.zeros((4, 4))}}, f"no place for its tensor {q}.lora_c"),
        ({"tensors": {"model.norm.lora_a": mx.zeros((4, 4))}}, "no place for its tensor model.norm.lora_a"),
        ({"without": f"{q}.lora_a"}, f"'bad' has no tensor {q}.lora_a"),
        ({"tensors": {f"{q}.lora_b": mx.zeros((9, 512))}}, f"{q}.lora_a and lora_b are of different ranks"),
        ({"tensors": {f"{q}.m": mx.zeros((512,))}}, f"no place for its tensor {q}.m"),
        ({"fine_tune_type": "dora"}, "'bad' has no tensor model.layers.5.self_attn.q_proj.m"),
        ({"fine_tune_type": "ia3"}, "'bad' is of a kind that the service doesn't know"),
        ({"fine_tune_type": "full"}, "no place for its tensor"),
    )
    for number, (changes, words) in enumerate(cases):
        folder = change(make_adapter(tmp_path / str(number), DENSE, 1), **changes)
        assert words in refused({"bad": folder}).message
    both = {"a": make_adapter(tmp_path / "a", DENSE, 1), "b": make_adapter(tmp_path / "b", DENSE, 1, kind="full")}
    assert "a is lora, b is full" in refused(both).message


def test_files_that_change_after_the_start_are_not_served(tmp_path: Path) -> None:
    given = {name: make_adapter(tmp_path / name, DENSE, seed) for seed, name in enumerate(("kept", "new", "gone"))}
    together = Together(Loaded(DENSE, given, slots=1, preload=["kept"]))
    first = together.answer(PROMPTS[0], "kept")
    change(given["new"], scale=1.0)
    (given["gone"] / "adapters.safetensors").unlink()
    for name, words in (("new", "have changed since the service started"), ("gone", "can't be read")):
        with pytest.raises(ServiceError, match=words) as problem:
            together.start(PROMPTS[0], name)
        assert (problem.value.code, problem.value.status) == ("adapter_unavailable", 503)
        assert str(tmp_path) not in problem.value.message
    # The slot that was given up for them is free; what was there comes back.
    assert together.answer(PROMPTS[0], "kept") == first
