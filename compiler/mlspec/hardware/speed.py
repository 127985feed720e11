"""How fast a Mac should generate and read a prompt: an estimate with its band, from bandwidth, bytes and layers.

The constants are fitted on one half of the measured chips and checked on the other: docs/speed.md has both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlspec.hardware.tables import table
from mlspec.model.machine import Chip, Machine
from mlspec.model.plan import Speed
from mlspec.suggest import listed

_Band = tuple[float, float, float]


def estimate(
    machine: Machine,
    *,
    bytes_per_token: int,
    layers: int,
    active_parameters: int,
    parameters: int,
    experts: bool,
    four_bit: bool,
) -> Speed | None:
    """Tokens a second of one request that runs alone; None without an Apple chip.

    `bytes_per_token` is what the GPU reads for one token: the weights that it is multiplied with and the mean of the
    KV cache. `active_parameters` counts those weights, `parameters` all of the model's. `four_bit`: of 4 bits or fewer.
    """
    chip = machine.chip
    if chip is None:
        return None
    layer_ms, rate = _layer_ms(chip, experts=experts), _tflops_per_core(machine, chip)
    efficiency, bands = table("speed")["decode"]["efficiency"], table("speed")["decode"]["band"]
    decode_s = bytes_per_token / (efficiency * chip.bandwidth_gb_s * 1e9) + layers * layer_ms / 1e3
    reasons = _reasons(machine, chip, parameters, experts=experts)
    terms = (
        f"{bytes_per_token / 1e9:.3g} GB a token / ({efficiency:g} x {chip.bandwidth_gb_s:g} GB/s)"
        f" + {layers} layers x {layer_ms:.3g} ms",
        f"a prompt by {chip.gpu_cores} GPU cores x {rate:g} TFLOP/s / (2 x {active_parameters / 1e9:.3g}e9)",
        *([f"the band is wider for {listed(reasons, 'and')}"] if reasons else []),
    )
    return Speed(
        decode_tokens_per_s=_band(1 / decode_s, bands["four_bit" if four_bit else "other"], reasons),
        prefill_tokens_per_s=_band(
            prefill_tokens_per_s(machine, chip, active_parameters), table("speed")["prefill"]["band"], reasons
        ),
        rule=f"an estimate, not measured: {'; '.join(terms)}",
        inputs=_inputs(machine, chip),
    )


def prefill_tokens_per_s(machine: Machine, chip: Chip, active_parameters: int) -> float:
    """The rate at which a prompt is read that the estimate expects."""
    return chip.gpu_cores * _tflops_per_core(machine, chip) * 1e12 / (2 * max(1, active_parameters))


def _layer_ms(chip: Chip, *, experts: bool) -> float:
    decode = table("speed")["decode"]
    of_experts: float = decode["expert_layer_ms"] if experts else 0.0
    return _of_generation(decode["layer_ms"], chip) + of_experts


def _of_generation(values: Mapping[int, float], chip: Chip) -> float:
    """The value of the chip's generation, or of the newest before it that has one."""
    return values[max(generation for generation in values if generation <= chip.generation)]


def _tflops_per_core(machine: Machine, chip: Chip) -> float:
    """What a core computes of matrix products: much more with neural accelerators, where macOS lets MLX use them."""
    prefill = table("speed")["prefill"]
    if chip.neural_accelerators and _mlx_uses_them(machine, chip, prefill):
        with_accelerators: float = prefill["neural_accelerator_tflops_per_core"]
        return with_accelerators
    return _of_generation(prefill["tflops_per_core"], chip)


def _mlx_uses_them(machine: Machine, chip: Chip, prefill: Mapping[str, Any]) -> bool:
    """Whether its macOS is new enough: one that isn't named is for chips that were never sold with an older one."""
    if machine.macos is None:
        return bool(chip.generation >= prefill["neural_accelerators_always_from_generation"])
    return _version(machine.macos) >= _version(prefill["neural_accelerators_since_macos"])


def _version(macos: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", macos)[:2])


def _reasons(machine: Machine, chip: Chip, parameters: int, *, experts: bool) -> tuple[str, ...]:
    """Why the band is wider than usual: keys of `wider` in the data."""
    measured = table("speed")["decode"]["measured_until_generation"]
    cases = {
        "an Ultra": chip.tier == "ultra",
        "a mixture of experts": experts,
        "a model under 2B": parameters < 2_000_000_000,
        "passive cooling": machine.cooling == "passive",
        "a chip that isn't known": not chip.known,
        "a chip newer than the measurements": chip.known and (chip.generation > measured or chip.tier == "phone"),
    }
    return tuple(reason for reason, applies in cases.items() if applies)


def _band(expected: float, usual: tuple[float, float], reasons: tuple[str, ...]) -> _Band:
    """The lowest, the expected and the highest rate, each to three digits."""
    wider = table("speed")["wider"]
    below, above = usual
    for reason in reasons:
        below, above = below * wider[reason]["below"], above * wider[reason]["above"]
    widest = table("speed")["widest"]
    low, high = 1 + max(below, widest["below"]), 1 + min(above, widest["above"])
    return _rounded(expected * low), _rounded(expected), _rounded(expected * high)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _inputs(machine: Machine, chip: Chip) -> tuple[str, ...]:
    of_chip = machine.origins.get("chip.bandwidth_gb_s", f"data:chips/{chip.row}/gpu")
    return of_chip, "data:speed/decode", "data:speed/prefill", "data:speed/wider"
