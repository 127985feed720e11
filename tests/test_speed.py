"""The speed estimate: its constants are the fitted ones, the tables keep its bounds, it behaves as physics would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed_against_tables import LEAST_SHARE, WITHIN, Compared, decodes, groups, markdown, prefills
from benchmarks.speed_rows import Row, fitted_chips, rows
from mlspec.hardware.chips import chip_name, find_chip
from mlspec.hardware.speed import estimate
from mlspec.hardware.tables import table
from mlspec.model.machine import Chip, Machine
from mlspec.model.plan import Speed
from tools.fit_speed import costs, fitted, tokens_per_s

DOCUMENT = Path(__file__).parents[1] / "docs" / "speed.md"
CHIPS = sorted(table("chips"))


def chip(name: str) -> Chip:
    parsed = chip_name(name)
    assert parsed is not None
    return find_chip(parsed, None).chip


def machine(name: str = "Apple M2 Max", *, cooling: str = "desktop", macos: str | None = "26.2") -> Machine:
    made = Machine(memory_bytes=64 * 2**30, chip=chip(name), macos=macos)
    return replace(made, cooling=cooling)


def speed(on: Machine, **changes: int | bool) -> Speed:
    """Of a dense 8-bit model of 8B, but for what is changed."""
    asked = {"bytes_per_token": 8 * 10**9, "layers": 32, "active_parameters": 75 * 10**8, "parameters": 8 * 10**9}
    found = estimate(on, **{**asked, "experts": False, "four_bit": False, **changes})  # type: ignore[arg-type]
    assert found is not None
    return found


def width(rates: tuple[float, float, float] | None) -> tuple[float, float]:
    assert rates is not None
    return rates[0] / rates[1], rates[2] / rates[1]


def test_the_constants_are_those_of_the_fit() -> None:
    again = fitted()
    decode, prefill = table("speed")["decode"], table("speed")["prefill"]
    assert {name: again[name] for name in ("efficiency", "layer_ms", "expert_layer_ms")} == {
        name: decode[name] for name in ("efficiency", "layer_ms", "expert_layer_ms")
    }
    assert again["tflops_per_core"] == prefill["tflops_per_core"]


def test_half_of_the_chips_are_fitted_and_none_of_them_is_an_ultra() -> None:
    halves = {row.chip.name: row.half for row in rows() if row.engine == "llama.cpp"}
    assert set(fitted_chips()) == {name for name, half in halves.items() if half == "fitted"}
    assert sorted(halves.values()).count("fitted") == sorted(halves.values()).count("held out") == 6
    assert {half for name, half in halves.items() if name.endswith("Ultra")} == {"Ultra"}


@pytest.mark.parametrize("compared", [decodes(), prefills()], ids=["generation", "prompt"])
def test_the_tables_keep_the_bounds(compared: tuple[Compared, ...]) -> None:
    found = groups(compared)
    assert len(found[2].compared) == 61
    assert {group.name for group in found if not group.kept} == set()
    assert all(group.share >= LEAST_SHARE for group in found if group.plain)


def test_what_the_document_says_of_swapped_halves() -> None:
    swapped = costs("held out")

    def errors(chosen: list[Row]) -> list[float]:
        return [100 * (row.decode / tokens_per_s(swapped, row) - 1) for row in chosen]

    llama = errors([row for row in rows() if row.engine == "llama.cpp" and row.half == "fitted"])
    qwen = errors([row for row in rows() if row.model == "Qwen3-4B" and row.chip.name == "Apple M4 Max"])
    assert max(map(abs, llama)) < 100 * WITHIN
    text = " ".join(DOCUMENT.read_text().split())
    assert f"fit the 7B rows within {max(map(abs, llama)):.0f} %" in text
    assert f"comes out {min(qwen):.0f} to {max(qwen):.0f} % faster" in text


def test_the_document_holds_what_the_script_prints() -> None:
    head, _, printed = DOCUMENT.read_text(encoding="utf-8").partition("--markdown -->\n")
    assert printed == markdown()
    decode, prefill = table("speed")["decode"], table("speed")["prefill"]
    assert f"bytes / ({decode['efficiency']:g} x bandwidth)  +  layers x {decode['layer_ms'][2]:g} ms" in head
    assert all(f"{rate:g} (M{generation})" in head for generation, rate in prefill["tflops_per_core"].items())


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_of_the_table_has_an_estimate_in_its_own_band(name: str) -> None:
    found = speed(machine(name))
    for rates in (found.decode_tokens_per_s, found.prefill_tokens_per_s):
        assert rates is not None
        assert 0 < rates[0] < rates[1] < rates[2]
    assert found.rule.startswith("an estimate, not measured: 8 GB a token / (")


def test_without_an_apple_chip_there_is_none() -> None:
    asked = {"bytes_per_token": 10**9, "layers": 1, "active_parameters": 1, "parameters": 1}
    assert estimate(Machine(memory_bytes=2**34, cpus=8), **asked, experts=False, four_bit=False) is None


@given(st.sampled_from(CHIPS), st.integers(10**6, 10**12), st.integers(1, 200), st.floats(1.0, 4.0), st.booleans())
def test_more_bandwidth_is_never_slower_and_more_bytes_or_layers_never_faster(
    name: str, size_bytes: int, layers: int, factor: float, experts: bool
) -> None:
    on = machine(name)
    assert on.chip is not None
    asked = {"bytes_per_token": size_bytes, "layers": layers, "experts": experts}
    usual = speed(on, **asked).decode_tokens_per_s
    wide = replace(on, chip=replace(on.chip, bandwidth_gb_s=on.chip.bandwidth_gb_s * factor))
    faster = speed(wide, **asked).decode_tokens_per_s
    assert all(a >= b for a, b in zip(faster, usual, strict=True))
    for more in ({"bytes_per_token": round(size_bytes * factor)}, {"layers": round(layers * factor)}):
        slower = speed(on, **{**asked, **more}).decode_tokens_per_s
        assert all(a <= b for a, b in zip(slower, usual, strict=True))


@given(st.integers(1, 200), st.integers(10**7, 10**11), st.floats(1.0, 4.0))
def test_more_cores_never_read_a_prompt_more_slowly(cores: int, active: int, factor: float) -> None:
    on = machine()
    assert on.chip is not None
    with_few = replace(on, chip=replace(on.chip, gpu_cores=cores))
    with_more = replace(on, chip=replace(on.chip, gpu_cores=round(cores * factor)))
    few = speed(with_few, active_parameters=active).prefill_tokens_per_s
    more = speed(with_more, active_parameters=active).prefill_tokens_per_s
    assert few is not None
    assert more is not None
    assert all(a >= b for a, b in zip(more, few, strict=True))


@pytest.mark.parametrize(
    ("on", "changes", "reason"),
    [
        (machine("Apple M2 Ultra"), {}, "an Ultra"),
        (machine(), {"experts": True}, "a mixture of experts"),
        (machine(), {"parameters": 10**9}, "a model under 2B"),
        (machine(cooling="passive"), {}, "passive cooling"),
        (machine("Apple M9 Max"), {}, "a chip that isn't known"),
        (machine("Apple M5 Max"), {}, "a chip newer than the measurements"),
        (machine("Apple A18 Pro"), {}, "a chip newer than the measurements"),
    ],
)
def test_what_widens_the_band_is_said(on: Machine, changes: dict[str, int | bool], reason: str) -> None:
    usual, wider = speed(machine()), speed(on, **changes)
    assert f"the band is wider for {reason}" in wider.rule
    assert "wider" not in usual.rule
    assert width(wider.decode_tokens_per_s)[0] < width(usual.decode_tokens_per_s)[0] - 0.02
    assert width(wider.prefill_tokens_per_s)[0] < width(usual.prefill_tokens_per_s)[0] - 0.02


def test_all_that_widens_together_leaves_a_band() -> None:
    on = replace(machine("Apple M9 Ultra"), cooling="passive")
    below, above = width(speed(on, experts=True, parameters=10**9, four_bit=True).decode_tokens_per_s)
    widest = table("speed")["widest"]
    assert below == pytest.approx(1 + widest["below"], rel=0.01)
    assert above == pytest.approx(1 + widest["above"], rel=0.01)


def test_neural_accelerators_count_from_the_macos_that_mlx_needs_for_them() -> None:
    old, new, unsaid = (
        speed(machine("Apple M5", macos=macos)).prefill_tokens_per_s for macos in ("26.1", "26.2", None)
    )
    newer = [speed(machine("Apple M6", macos=macos)).prefill_tokens_per_s for macos in ("26.2", None)]
    assert old is not None
    assert new is not None
    assert new[1] > 3 * old[1]
    assert unsaid == old
    assert newer[0] == newer[1]


def test_its_inputs_are_rows_of_the_data() -> None:
    inputs = speed(machine()).inputs
    assert inputs == ("data:chips/Apple M2 Max/gpu", "data:speed/decode", "data:speed/prefill", "data:speed/wider")
    assert all(table("speed")[name.partition("/")[2]]["source"] for name in inputs[1:])
