"""Adapters in PEFT's format: what a build knows of them beforehand, and what it makes of them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facts import looked_at
from mlspec.diagnostics import Report
from mlspec.digests import Digests
from mlspec.errors import CommandError
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.spec import Source
from mlspec.model_files import fingerprint, tensors
from mlspec.passes.lock.writing import lock_text, make_lock
from mlspec.pipeline import Pipeline, build
from mlspec.runners.mlx_lm import build as runner
from mlspec.runners.mlx_lm.facts import inspect_adapter
from mlspec.runners.mlx_lm.facts.believing import check_adapter
from mlspec.runners.mlx_lm.peft.converting import convert
from mlspec.runners.mlx_lm.planning.deriving import conversions
from mlspec_runtime.models import verify
from mlspec_runtime.plan import load_plan
from models import peft
from projects import built, example, faults, surroundings

Q, V = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"
A, B = "lora_A.weight", "lora_B.weight"


def inspected(folder: Path) -> tuple[ModelFacts | None, looked_at.Heard]:
    heard = looked_at.Heard()
    return inspect_adapter(ModelRef("adapters/a", Source(path="y"), ("adapters", 0)), folder, heard), heard


def facts_of(folder: Path) -> ModelFacts:
    facts, heard = inspected(folder)
    assert facts is not None, heard.all
    assert not heard.all
    return facts


def two(dtype: str = "F32", ranks: tuple[int, int] = (8, 8)) -> dict[str, peft.Array]:
    return {**peft.module(Q, 24, 16, ranks[0], 1, dtype), **peft.module(V, 24, 8, ranks[1], 2, dtype)}


def converted(source: Path, into: Path) -> tuple[dict[str, peft.Array], dict[str, Any]]:
    """The tensors and the lora_parameters of what is made."""
    convert(source, into)
    config = json.loads((into / "adapter_config.json").read_text())
    parameters: dict[str, Any] = config["lora_parameters"]
    return peft.read(into / "adapters.safetensors"), parameters


def effect(tensors: dict[str, peft.Array], path: str, scale: float, x: peft.Array) -> peft.Array:
    """What mlx_lm adds to the output of the layer for the input x."""
    result: peft.Array = x @ peft.plain(tensors[f"{path}.lora_a"]) @ peft.plain(tensors[f"{path}.lora_b"]) * scale
    return result


def effect_in_peft(tensors: dict[str, peft.Array], path: str, scale: float, x: peft.Array) -> peft.Array:
    a, b = (peft.plain(tensors[f"{peft.PREFIX}{path}.{end}"]) for end in (A, B))
    result: peft.Array = x @ a.T @ b.T * scale
    return result


# What is known beforehand


def test_its_facts_are_those_of_what_it_becomes(tmp_path: Path) -> None:
    base_model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    facts = facts_of(peft.write(tmp_path / "a", two(), lora_alpha=32, base_model_name_or_path=base_model))
    rows = facts.details["tensors"]
    assert facts.details | {"tensors": None} == {
        "format": "peft",
        "fine_tune_type": "lora",
        "num_layers": None,
        "rank": 8,
        "scale": 4.0,
        "base_model": base_model,
        "tensors": None,
    }
    assert [(row["name"], row["shape"]) for row in rows] == [
        ("model.layers.*.self_attn.q_proj.lora_a", [24, 8]),
        ("model.layers.*.self_attn.q_proj.lora_b", [8, 16]),
        ("model.layers.*.self_attn.v_proj.lora_a", [24, 8]),
        ("model.layers.*.self_attn.v_proj.lora_b", [8, 8]),
    ]
    assert [file.path for file in facts.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert facts.parameter_bytes == 4 * 8 * (24 + 16 + 24 + 8)
    check_adapter(json.loads(json.dumps(facts.details)))


def test_ranks_that_differ_are_told_as_the_largest(tmp_path: Path) -> None:
    facts = facts_of(peft.write(tmp_path / "a", two(ranks=(8, 2)), rank_pattern={"v_proj": 2}))
    assert facts.details["rank"] == 8
    assert {tuple(row["shape"]) for row in facts.details["tensors"]} == {(24, 8), (8, 16), (8, 8)}
    convert(tmp_path / "a", tmp_path / "made")
    made = tensors(tmp_path / "made/adapters.safetensors")
    assert facts.parameter_bytes == sum(tensor.size_bytes for tensor in made.values())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peft_type": "IA3"}, "its peft_type is 'IA3', mlx_lm has LORA alone"),
        ({"peft_type": ["LORA"]}, "its peft_type is"),
        ({"bias": "all"}, "its bias is 'all': mlx_lm's adapters have no biases"),
        ({"modules_to_save": ["lm_head"]}, "it has modules_to_save: it replaces whole modules of the base"),
        ({"trainable_token_indices": [1]}, "it has trainable_token_indices"),
        ({"target_parameters": ["experts.w"]}, "it has target_parameters"),
        ({"layer_replication": [[0, 2]]}, "it has layer_replication"),
        ({"lora_bias": True}, "it has lora_bias"),
        ({"use_qalora": True}, "it has 'use_qalora', which changes what it computes"),
        ({"init_lora_weights": "pissa_niter_4"}, "its init_lora_weights is 'pissa_niter_4'"),
        ({"init_lora_weights": "loftq"}, "its init_lora_weights is 'loftq', which changes the base's own weights"),
        ({"init_lora_weights": ["x"]}, "its init_lora_weights is"),
        ({"alpha_pattern": {"(a+)+b": 3}}, "its alpha_pattern has the regular expression '(a+)+b'"),
        ({"rank_pattern": {".*q_proj": 3}}, "its rank_pattern has the regular expression '.*q_proj'"),
    ],
)
def test_what_mlx_lm_has_nothing_for(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    facts, heard = inspected(peft.write(tmp_path / "a", two(), **change))
    assert facts is None
    ((severity, code, message, pointer),) = heard.all
    assert (severity, code, pointer) == ("error", "not-convertible", ("adapters", 0))
    told = "adapters/a: this PEFT adapter can't be converted into mlx_lm's format: "
    assert message.startswith(told + reason)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("model.embed_tokens.lora_embedding_A", (8, 320), "adapts an embedding"),
        ("lm_head.weight", (320, 24), "belongs to no low-rank adapter"),
        (f"{Q}.lora_B.bias", (16,), "belongs to no low-rank adapter"),
        (f"{Q}.lora_A.default.weight", (8, 24), "belongs to no low-rank adapter"),
        ("model.conv.lora_A.weight", (8, 24, 3, 3), "8 x 24 x 3 x 3: no linear layer's"),
    ],
)
def test_tensors_that_mlx_lm_has_nothing_for(tmp_path: Path, name: str, shape: tuple[int, ...], reason: str) -> None:
    more = {peft.PREFIX + name: np.zeros(shape, np.float32)}
    if "conv" in name:
        more[f"{peft.PREFIX}model.conv.{B}"] = np.zeros((8, 8), np.float32)
    facts, heard = inspected(peft.write(tmp_path / "a", two() | more))
    assert facts is None
    ((_, code, message, _),) = heard.all
    assert (code, reason in message) == ("not-convertible", True), message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 4}, f"'{Q}' has a lora_A.weight of 8 x 24, its rank by the configuration is 4"),
        ({"rank_pattern": {"q_proj": 16}}, "of 8 x 24, its rank by the configuration is 16"),
        ({"r": 0}, "a rank in r is '0': it has to be a whole number from 1"),
        ({"r": True}, "a rank in r is 'true'"),
        ({"lora_alpha": "x"}, "a number in lora_alpha is 'x'"),
        ({"lora_alpha": math.nan}, "a number in lora_alpha is"),
        ({"alpha_pattern": {"q_proj": None}}, "a number in alpha_pattern is 'null'"),
        ({"alpha_pattern": [1]}, "alpha_pattern has to be a map"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes': it has to be true or false"),
        ({"use_dora": True}, f"'{Q}' lacks its lora_magnitude_vector"),
    ],
)
def test_what_peft_could_not_load_either(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    facts, heard = inspected(peft.write(tmp_path / "a", two(), **change))
    assert facts is None
    ((_, code, told, _),) = heard.all
    assert (code, message in told) == ("bad-model-file", True), told


@pytest.mark.parametrize("lost", [f"{Q}.{A}", f"{V}.{B}"])
def test_a_matrix_without_the_other(tmp_path: Path, lost: str) -> None:
    kept = {name: array for name, array in two().items() if not name.endswith(lost)}
    _, heard = inspected(peft.write(tmp_path / "a", kept))
    assert [code for _, code, _, _ in heard.all] == ["bad-model-file"]
    assert "lacks its lora_" in heard.all[0][2]


def test_an_adapter_without_tensors(tmp_path: Path) -> None:
    _, heard = inspected(peft.write(tmp_path / "a", {}))
    assert heard.all[0][2] == "adapters/a: adapter_model.safetensors: holds no tensor"


def test_a_cut_off_file(tmp_path: Path) -> None:
    folder = peft.write(tmp_path / "a", two())
    content = (folder / peft.WEIGHTS_FILE).read_bytes()
    (folder / peft.WEIGHTS_FILE).write_bytes(content[:-10])
    assert [code for _, code, _, _ in inspected(folder)[1].all] == ["bad-model-file"]


# What is made of it


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(("by_root", "scale"), [(False, 16 / 8), (True, 16 / math.sqrt(8))])
def test_it_does_the_same(tmp_path: Path, dtype: str, by_root: bool, scale: float) -> None:
    given = two(dtype)
    made, parameters = converted(peft.write(tmp_path / "a", given, use_rslora=by_root), tmp_path / "made")
    assert parameters == {
        "rank": 8,
        "scale": scale,
        "dropout": 0.0,
        "keys": ["self_attn.q_proj", "self_attn.v_proj"],
    }
    x = np.random.default_rng(0).normal(size=(3, 24))
    for path in (Q, V):
        # No number was touched, whatever their type.
        assert np.array_equal(made[f"{path}.lora_a"].T, given[f"{peft.PREFIX}{path}.{A}"])
        expected = effect_in_peft(given, path, scale, x)
        assert np.allclose(effect(made, path, parameters["scale"], x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("F32", 1e-6), ("F16", 1e-2), ("BF16", 5e-2)])
def test_ranks_and_scales_of_single_modules(tmp_path: Path, dtype: str, tolerance: float) -> None:
    given = two(dtype, (8, 2)) | peft.module("lm_head", 24, 40, 8, 3, dtype)
    patterns = {"rank_pattern": {"^model.layers.1.self_attn.v_proj": 2}, "alpha_pattern": {r"self_attn\.v_proj$": 3}}
    made, parameters = converted(peft.write(tmp_path / "a", given, **patterns), tmp_path / "made")
    assert (parameters["rank"], parameters["scale"]) == (8, 2.0)
    assert parameters["keys"] == ["lm_head", "self_attn.q_proj", "self_attn.v_proj"]
    x = np.random.default_rng(0).normal(size=(3, 24))
    for path, scale in ((Q, 2.0), (V, 3 / 2), ("lm_head", 2.0)):
        expected = effect_in_peft(given, path, scale, x)
        difference = np.abs(effect(made, path, 2.0, x) - expected).max() / np.abs(expected).max()
        assert difference <= tolerance
    assert made[f"{V}.lora_a"].shape == (24, 8)
    assert not made[f"{V}.lora_a"][:, 2:].any()
    assert not made[f"{V}.lora_b"][2:].any()


def test_a_product_is_rounded_to_the_nearest_bfloat16(tmp_path: Path) -> None:
    given = two("BF16")
    made, _ = converted(peft.write(tmp_path / "a", given, alpha_pattern={"q_proj": 24}), tmp_path / "made")
    # The scales are 3 and 2; the larger of the two stays, as both are of one module.
    exact = peft.plain(given[f"{peft.PREFIX}{V}.{B}"]).T * (2 / 3)
    got = peft.plain(made[f"{V}.lora_b"])
    ulp = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    assert (np.abs(got - exact) <= ulp * 0.5001).all()


def test_patterns_match_as_in_peft(tmp_path: Path) -> None:
    """The first that matches counts; a name's end must begin at a dot."""
    patterns = {"proj": 80, "layers.1.self_attn.v_proj": 32, "v_proj": 64, "^self_attn.q_proj": 96}
    made, parameters = converted(peft.write(tmp_path / "a", two(), alpha_pattern=patterns), tmp_path / "made")
    assert parameters["scale"] == 4.0
    given = two()
    assert np.array_equal(made[f"{V}.lora_b"].T, given[f"{peft.PREFIX}{V}.{B}"])
    assert np.array_equal(made[f"{Q}.lora_b"].T, given[f"{peft.PREFIX}{Q}.{B}"] * np.float32(0.5))


def test_an_alpha_of_zero_adds_nothing(tmp_path: Path) -> None:
    made, parameters = converted(peft.write(tmp_path / "a", two(), alpha_pattern={"q_proj": 0}), tmp_path / "made")
    assert parameters["scale"] == 2.0
    assert not made[f"{Q}.lora_b"].any()
    _, parameters = converted(peft.write(tmp_path / "b", two(), lora_alpha=0), tmp_path / "none")
    assert parameters["scale"] == 0.0


def test_dora_keeps_its_magnitudes(tmp_path: Path) -> None:
    magnitudes = {
        f"{peft.PREFIX}{path}.lora_magnitude_vector": np.arange(rows, dtype=np.float32)
        for path, rows in ((Q, 16), (V, 8))
    }
    folder = peft.write(tmp_path / "a", two() | magnitudes, use_dora=True)
    assert facts_of(folder).details["fine_tune_type"] == "dora"
    made, _ = converted(folder, tmp_path / "made")
    assert json.loads((tmp_path / "made/adapter_config.json").read_text())["fine_tune_type"] == "dora"
    assert np.array_equal(made[f"{Q}.m"], np.arange(16, dtype=np.float32))
    assert made[f"{V}.m"].shape == (8,)


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = peft.write(
        tmp_path / "a", two("BF16") | peft.module("lm_head", 24, 40, 8, 3), alpha_pattern={"lm_head": 5}
    )
    for name in ("one", "two"):
        convert(source, tmp_path / name)
    for file in ("adapter_config.json", "adapters.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    # It is as it was foretold: names, types and shapes, in the order in which each lies where its type may.
    made = inspected(tmp_path / "one")[0]
    assert made is not None
    assert made.details["tensors"] == facts_of(source).details["tensors"]


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_number_that_gets_too_large(tmp_path: Path, dtype: str) -> None:
    given = two(dtype) | peft.module("lm_head", 24, 40, 8, 3, dtype)
    largest = {"F16": np.float16(60000).view(np.uint16), "BF16": np.uint16(0x7F7F)}[dtype]
    given[f"{peft.PREFIX}{Q}.{B}"].view(np.uint16)[0, 0] = largest
    convert(peft.write(tmp_path / "a", given, alpha_pattern={"q_proj": 8}), tmp_path / "made")
    with pytest.raises(CommandError, match=f"lora_B of '{Q}' times 2 is too large for its type") as error:
        convert(peft.write(tmp_path / "b", given, alpha_pattern={"q_proj": 32}), tmp_path / "more")
    assert error.value.code == "conversion-failed"


# In a build


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The shipped example, its adapter rewritten in PEFT's format."""
    project = example(tmp_path / "project")
    support = project / "specs/models/tiny-support"
    peft.as_peft(support, project / "specs/models/support-peft")
    spec = project / "specs/lora.yaml"
    spec.write_text(spec.read_text().replace("models/tiny-support", "models/support-peft"))
    return project


def test_the_bundle_serves_what_was_made(project: Path) -> None:
    report, said = Report(), list[str]()
    places = list(build([project / "specs/lora.yaml"], surroundings(project), None, report, "linux", say=said.append))
    assert not list(report)
    assert said == ["converting adapters/support, 0.1 MiB: once only\n"]
    made = (places[0] / "models/adapters/support").resolve()
    assert made.parent == project / "home/.cache/mlspec/models"
    original = peft.read(project / "specs/models/tiny-support/adapters.safetensors")
    found = peft.read(made / "adapters.safetensors")
    assert found.keys() == original.keys()
    assert all(np.array_equal(found[name], original[name]) for name in found)
    planned = next(model for model in load_plan(places[0]).models if model.role == "adapters/support")
    assert planned.derived is not None
    verify(planned, made)
    again: list[str] = []
    list(build([project / "specs/lora.yaml"], surroundings(project), None, report, "linux", say=again.append))
    assert not again


def test_the_plan_says_so(project: Path) -> None:
    report, pipeline = Report(), Pipeline(surroundings(project))
    checked = pipeline.check(project / "specs/lora.yaml", report)
    assert checked is not None
    (plan,) = pipeline.plans(checked, report, "linux")
    (decision,) = [one for one in plan.decisions if one.key == "model.adapters.support.format"]
    assert (decision.value, "rank 8, scale 4" in decision.rule) == ("converted", True)
    (made,) = plan.derivations
    assert (made.role, made.work) == ("adapters/support", "convert")
    assert made.bytes == plan.resolved.facts.of("adapters/support").parameter_bytes
    assert not any(path.startswith("home") for path in plan.copied)


def test_another_adapter_is_another_conversion(tmp_path: Path) -> None:
    first = facts_of(peft.write(tmp_path / "a", two()))
    other = facts_of(peft.write(tmp_path / "b", two(), lora_alpha=4))
    own = facts_of(_own(tmp_path / "c"))
    (one,), (two_,) = conversions(Facts((first, own))), conversions(Facts((other,)))
    assert one.key != two_.key
    assert conversions(Facts((own,))) == ()


def _own(folder: Path) -> Path:
    """The same adapter in mlx_lm's format."""
    source = peft.write(folder / "source", two())
    convert(source, folder / "made")
    return folder / "made"


def test_checking_makes_nothing(project: Path) -> None:
    assert faults(project, project / "specs/lora.yaml") == []
    assert not (project / "home/.cache/mlspec/models").exists()


def test_a_lock_stands_for_it_where_it_is_not(project: Path) -> None:
    spec, report, pipeline = project / "specs/lora.yaml", Report(), Pipeline(surroundings(project))
    checked = pipeline.check(spec, report)
    assert checked is not None
    resolved = next(pipeline.plans(checked, report, "linux")).resolved
    digests = Digests(project / "digests", lambda text: None)
    lock = make_lock(spec.name, resolved.facts, resolved.located, digests)
    spec.with_name("lora.lock.yaml").write_text(lock_text(lock))
    here = built(project, spec)
    shutil.rmtree(project / "specs/models")
    elsewhere = built(project, spec)
    assert here == elsewhere


def test_one_that_does_not_fit_is_told_by_its_tensor(project: Path) -> None:
    folder = project / "specs/models/support-peft"
    peft.write(folder, peft.module("model.layers.7.self_attn.q_proj", 64, 64, 8, 1))
    report = Report()
    list(build([project / "specs/lora.yaml"], surroundings(project), None, report))
    (fault,) = report
    assert fault.code == "adapter-misfit"
    assert "its tensor 'model.layers.7.self_attn.q_proj.lora_a' is of layer 7" in fault.message


def test_a_source_that_changed_while_it_was_read_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(settings: Any, source: Path, into: Path) -> None:
        (project / "empty").mkdir()
        (project / "empty/adapter_config.json").write_text("{}")
        original(settings, project / "empty", into)

    original = runner.derive
    monkeypatch.setattr(runner, "derive", spoiled)
    report = Report()
    assert not list(build([project / "specs/lora.yaml"], surroundings(project), None, report, "linux"))
    (fault,) = report
    assert fault.code == "conversion-failed"
    assert fault.message == "adapters/support can't be converted: adapter_model.safetensors: is missing"
    assert not list((project / "home/.cache/mlspec/models").iterdir())


def test_its_digests_are_those_of_its_own_files(tmp_path: Path) -> None:
    folder = peft.write(tmp_path / "a", two())
    names = [peft.CONFIG_FILE, peft.WEIGHTS_FILE]
    assert facts_of(folder).files == fingerprint(folder, names)
