"""A target's machine from what its spec says, a profile or a product's name, and where each value came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlspec.hardware.machines import Found, UnknownMachineError, linux, mac, products
from mlspec.model.spec import MachineSpec

POINTER = "/targets/0/machine"
GIB = 2**30
STUDIO = {
    "apiVersion": "mlspec/v1",
    "kind": "Machine",
    "chip": "Apple M2 Max",
    "memory_gb": 64,
    "gpu_cores": 38,
    "cpus": 12,
    "cpu_cores": [8, 4],
    "model": "Mac14,13",
    "macos": "26.1",
    "working_set_bytes": 55662788608,
    "max_buffer_bytes": 41747091456,
}


def found(profile: dict[Any, Any] | None = None, /, **given: Any) -> Found:
    return mac(MachineSpec(**given), POINTER, profile)


def refusal(profile: dict[Any, Any] | None = None, /, **given: Any) -> tuple[str, str]:
    with pytest.raises(UnknownMachineError) as refused:
        found(profile, **given)
    return str(refused.value), refused.value.help


def test_a_declared_mac() -> None:
    machine = found(chip="Apple M2 Max", memory_gb=64, model="Mac14,13", macos="26.1", reserve_gb=8).machine
    assert machine.chip is not None
    assert (machine.chip.name, machine.chip.gpu_cores, machine.chip.bandwidth_gb_s) == ("Apple M2 Max", 30, 400)
    assert (machine.product, machine.cooling, machine.cpus) == ("Mac Studio 2023", "desktop", 12)
    assert (machine.memory_bytes, machine.working_set_bytes) == (64 * GIB, 55662788608)
    assert machine.reserved_bytes == 8 * GIB
    assert machine.title == "Mac Studio 2023, M2 Max, 64 GB"
    assert machine.origins == {
        "chip": "spec:/targets/0/machine/chip",
        "chip.bandwidth_gb_s": "data:chips/Apple M2 Max/gpu/0/bandwidth_gb_s",
        "chip.gpu_cores": "data:chips/Apple M2 Max/gpu/0/cores",
        "cooling": "data:machines/Mac14,13/cooling",
        "cpus": "data:chips/Apple M2 Max/cpu/0",
        "macos": "spec:/targets/0/machine/macos",
        "memory_bytes": "spec:/targets/0/machine/memory_gb",
        "model": "spec:/targets/0/machine/model",
        "product": "data:machines/Mac14,13/product",
        "reserved_bytes": "spec:/targets/0/machine/reserve_gb",
        "working_set_bytes": "data:working_set/macos-26/64-95",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Mac Studio 2025, M4 Max, 64 GB",
        "mac studio 2025, m4 max, 64gb",
        "MAC STUDIO, Apple M4 Max, 64 GiB",
        "Apple M4 Max Mac Studio with 64 GB",
        "mac studio m4 max 64g",
        "Mac  Studio (2025), M4-Max, 64GB RAM",
    ],
)
def test_a_product_by_its_name(text: str) -> None:
    machine = found(product=text).machine
    assert machine.title == "Mac Studio 2025, M4 Max, 64 GB"
    assert (machine.model, machine.cooling) == ("Mac16,9", "desktop")
    assert machine.origins["memory_bytes"] == "spec:/targets/0/machine"
    assert machine.origins["chip"] == "data:machines/Mac16,9/chip"
    assert machine.origins["working_set_bytes"] == "data:working_set/macos-15/36-191"


@pytest.mark.parametrize("macos", [None, "15.1", "26.5"])
def test_each_product_is_the_machine_of_a_spec_that_names_it(macos: str | None) -> None:
    assert len(products(macos)) > 100
    for product in products(macos):
        again = found(product=product.title, macos=macos).machine
        assert again.title == product.title == product.machine.title
        assert replace(again, origins={}) == replace(product.machine, origins={})
    assert len({product.title for product in products(macos)}) == len(products(macos))


@pytest.mark.parametrize("text", ["Mac16,9, 64 GB", "mac16,9 64gb", "64 GB Mac16,9", "Mac Studio Mac16,9 M4 Max 64 GB"])
def test_a_product_by_its_model_identifier(text: str) -> None:
    machine = found(product=text).machine
    assert (machine.title, machine.model) == ("Mac Studio 2025, M4 Max, 64 GB", "Mac16,9")
    beside = found(product="Mac16,9", memory_gb=64).machine
    assert replace(beside, origins={}) == replace(machine, origins={})


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("Mac16,9", "the memory of Mac Studio 2025 isn't given", "36, 48, 64 or 128 GB"),
        ("Mac16,9 M2 Max, 64 GB", "no Mac is known as 'Mac16,9 M2 Max, 64 GB'", "mlspec machine list"),
        ("Mac96,9, 64 GB", "no Mac is known as 'Mac96,9, 64 GB'", "mlspec machine list"),
        ("Mac mini 2024, M4, -64 GB", "'Mac mini 2024, M4, -64 GB': no Mac has -64 GB of memory", "at least 1"),
        ("Mac mini 2024, M4, 0 GB", "'Mac mini 2024, M4, 0 GB': no Mac has 0 GB of memory", "at least 1"),
    ],
)
def test_a_name_that_is_none(text: str, message: str, help: str) -> None:
    refused = refusal(product=text)
    assert refused[0] == message
    assert help in refused[1]


def test_a_mac_has_the_cores_that_it_is_sold_with() -> None:
    mini, chip = found(product="Mac mini 2024, M4, 24 GB").machine, found(chip="Apple M4", memory_gb=24).machine
    assert mini.chip is not None
    assert chip.chip is not None
    assert (mini.chip.gpu_cores, chip.chip.gpu_cores) == (10, 8)
    assert mini.origins["chip.gpu_cores"] == "data:machines/Mac16,10/gpu_cores"
    assert found(chip="Apple M4", model="Mac16,10", memory_gb=24).machine.chip == mini.chip
    given = found(product="Mac mini 2024, M4, 24 GB", gpu_cores=8).machine
    assert given.chip is not None
    assert given.chip.gpu_cores == 8
    other = found(chip="Apple M4 Pro", model="Mac16,10", memory_gb=24)
    assert other.machine.chip is not None
    assert other.machine.chip.gpu_cores == 16
    large = found(product="Mac Studio 2023, M2 Max, 96 GB").machine
    assert large.chip is not None
    assert large.chip.gpu_cores == 38


def test_a_product_with_other_values_beside_it() -> None:
    machine = found(product="Mac Studio 2025, M4 Max, 64 GB", gpu_cores=40, macos="26.5").machine
    assert machine.chip is not None
    assert machine.chip.bandwidth_gb_s == 546
    assert machine.origins["chip.bandwidth_gb_s"] == "data:chips/Apple M4 Max/gpu/1/bandwidth_gb_s"
    assert machine.origins["memory_bytes"] == "spec:/targets/0/machine/product"
    assert machine.working_set_bytes == 55662788608


def test_a_chip_with_memory_is_no_product_and_enough() -> None:
    machine = found(product="M1 Ultra, 128 GB").machine
    assert (machine.title, machine.product, machine.cooling) == ("M1 Ultra, 128 GB", None, "unknown")


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("Mac Sudio 2025, M4 Max, 64 GB", "no Mac is known as", "did you mean 'Mac Studio 2025, M4 Max, 64 GB'?"),
        ("Mac Studio 2025, M4, 64 GB", "no Mac is known as", "Mac Studio 2025, M4 Max, 64 GB"),
        ("MacBook, M2, 16 GB", "is the name of several Macs", "MacBook Air 13 2022, M2"),
        ("Mac mini 2024, M4 Pro", "the memory of Mac mini 2024 isn't given", "24, 48 or 64 GB"),
        ("MacBook Pro 14 2024, M4 Pro", "the memory of MacBook Pro 14 2024 isn't given", "24 or 48 GB"),
        ("64 GB", "no Mac is known as", "mlspec machine list"),
        ("ThinkPad", "no Mac is known as 'ThinkPad'", "mlspec machine list"),
        (",", "no Mac is known as", ""),
    ],
)
def test_a_product_that_is_none(text: str, message: str, help: str) -> None:
    said, remedy = refusal(product=text)
    assert message in said
    assert help in remedy


def test_a_chip_that_is_newer_than_the_table() -> None:
    newer = found(chip="Apple M7 Max", memory_gb=48)
    assert newer.machine.chip is not None
    assert (newer.machine.chip.name, newer.machine.chip.row) == ("Apple M7 Max", "Apple M5 Max")
    assert not newer.machine.chip.known
    assert newer.machine.chip.bandwidth_gb_s == 460
    assert newer.warnings == (
        "Apple M7 Max is not in the table of chips: it is taken for Apple M5 Max, the nearest that is no better",
    )


@pytest.mark.parametrize(
    ("chip", "row"),
    [
        ("Apple M5 Ultra", "Apple M5 Ultra"),
        ("apple m5", "Apple M5"),
        ("M6 Pro", "Apple M5 Pro"),
        ("Apple M4 Ultra", "Apple M3 Ultra"),
        ("Apple M12 Extreme", "Apple M6"),
        ("Apple A19 Pro", "Apple A18 Pro"),
        ("Apple A18 Pro", "Apple A18 Pro"),
        ("Apple M1 (Virtual)", "Apple M1"),
        ("Apple M5 Pro (Virtual)", "Apple M5 Pro"),
    ],
)
def test_which_row_a_chip_gets(chip: str, row: str) -> None:
    machine = found(chip=chip, memory_gb=64).machine
    assert machine.chip is not None
    assert machine.chip.row == row


@pytest.mark.parametrize(
    "chip", ["Intel(R) Core(TM) i9", "Apple", "M", "Apple M2 Mux", "Apple A12", "Apple M", "M2Max"]
)
def test_what_is_no_apple_chip(chip: str) -> None:
    assert "chip" in refusal(chip=chip, memory_gb=64)[0]


def test_did_you_mean_a_chip() -> None:
    assert refusal(chip="Apple M2 Mux", memory_gb=64)[1] == "did you mean 'Apple M2 Max'?"
    assert refusal(chip="Appel M2 Max", memory_gb=64)[1] == "did you mean 'Apple M2 Max'?"


def test_a_virtual_machine() -> None:
    virtual = found(chip="Apple M1 (Virtual)", memory_gb=7, macos="15.7.9")
    assert (virtual.machine.cooling, virtual.machine.cpus) == ("virtual", None)
    assert virtual.machine.working_set_bytes == 5010800640
    assert virtual.warnings == (
        "a virtual machine shares its GPU with its host: what is planned for it is no more than a guess",
    )
    by_model = found(chip="Apple M1", memory_gb=7, model="VirtualMac2,1")
    assert (by_model.machine.cooling, by_model.warnings) == ("virtual", virtual.warnings)


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        (
            {"chip": "Apple M4", "memory_gb": 40},
            "Apple M4 is sold with 16, 24 or 32 GB, as far as is known, not with 40",
        ),
        (
            {"product": "MacBook Pro 14 2024, M4 Pro, 64 GB"},
            "a MacBook Pro 14 2024 with Apple M4 Pro is sold with 24 or 48",
        ),
        (
            {"chip": "Apple M4", "memory_gb": 16, "gpu_cores": 9},
            "sold with 8 or 10 GPU cores, as far as is known, not with 9",
        ),
        ({"chip": "Apple M4", "memory_gb": 16, "model": "Mac14,13"}, "a Mac Studio 2023 (Mac14,13) has Apple M2 Max"),
        ({"chip": "Apple M5 Ultra", "memory_gb": 512}, "what is known of Apple M5 Ultra is uncertain"),
        ({"chip": "Apple M1", "memory_gb": 8, "macos": "13.6"}, "MLX needs macOS 14 or later; this machine has 13.6"),
    ],
)
def test_what_is_odd_is_said(given: dict[str, Any], warning: str) -> None:
    warnings = found(**given).warnings
    assert len(warnings) == 1
    assert warning in warnings[0]


@pytest.mark.parametrize(
    ("given", "cores", "bandwidth_gb_s"),
    [
        ({"chip": "M2 Max", "memory_gb": 64}, 30, 400),
        ({"chip": "M2 Max", "memory_gb": 64, "gpu_cores": 38}, 38, 400),
        # Sold with 36 and 96 GB only.
        ({"chip": "M3 Max", "memory_gb": 36}, 30, 300),
        ({"chip": "M3 Max", "memory_gb": 64}, 40, 400),
        ({"chip": "M3 Max", "memory_gb": 64, "gpu_cores": 30}, 30, 300),
    ],
)
def test_the_fewest_cores_that_are_sold_with_the_memory(
    given: dict[str, Any], cores: int, bandwidth_gb_s: float
) -> None:
    chip = found(**given).machine.chip
    assert chip is not None
    assert (chip.gpu_cores, chip.bandwidth_gb_s) == (cores, bandwidth_gb_s)


def test_a_profile() -> None:
    captured = found(STUDIO, profile="machines/studio.yaml")
    assert captured.warnings == ()
    assert captured.machine.chip is not None
    assert (captured.machine.chip.gpu_cores, captured.machine.working_set_bytes) == (38, 55662788608)
    assert captured.machine.origins["working_set_bytes"] == "profile:machines/studio.yaml"
    assert captured.machine.origins["chip.gpu_cores"] == "profile:machines/studio.yaml"
    assert captured.machine.title == "Mac Studio 2023, M2 Max, 64 GB"


def test_a_profile_with_an_override_in_force() -> None:
    """The longest buffer stays at 0.75 of the default working set, whatever the override is."""
    raised = found({**STUDIO, "working_set_bytes": 60 * GIB}, profile="m.yaml")
    assert raised.machine.working_set_bytes == 60 * GIB
    assert len(raised.warnings) == 1
    assert "60.0 GiB where 51.8 GiB are the default" in raised.warnings[0]
    by_limit = {key: STUDIO[key] for key in STUDIO if not key.endswith("_bytes")} | {"wired_limit_mb": 61440}
    limited = found(by_limit, profile="m.yaml")
    assert (limited.machine.working_set_bytes, limited.warnings) == (60 * GIB, raised.warnings)
    assert limited.machine.origins["working_set_bytes"] == "profile:m.yaml"


def test_no_working_set_is_larger_than_the_memory() -> None:
    assert (
        found({**STUDIO, "wired_limit_mb": 10**6, "working_set_bytes": 2**50}, profile="m.yaml").machine
        == found({**STUDIO, "working_set_bytes": 64 * GIB}, profile="m.yaml").machine
    )


def test_what_the_spec_says_counts_and_voids_what_was_measured_elsewhere() -> None:
    older = found(STUDIO, profile="m.yaml", macos="15.7").machine
    assert (older.working_set_bytes, older.macos) == (48 * GIB, "15.7")
    assert older.origins["working_set_bytes"] == "data:working_set/macos-15/36-191"
    smaller = found(STUDIO, profile="m.yaml", memory_gb=32).machine
    assert smaller.origins["working_set_bytes"] == "data:working_set/macos-26/32-63"
    assert found(STUDIO, profile="m.yaml", macos="26.5", reserve_gb=4).machine.working_set_bytes == 55662788608


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({}, "m.yaml is no profile of a machine"),
        ({**STUDIO, "kind": "ModelService"}, "is no profile of a machine"),
        ({**STUDIO, "apiVersion": "mlspec/v2"}, "another apiVersion"),
        ({**STUDIO, "memory_gb": "64"}, "memory_gb can't be '64'"),
        ({**STUDIO, "memory_gb": True}, "memory_gb can't be"),
        ({**STUDIO, "memory_gb": float("nan")}, "memory_gb can't be"),
        ({**STUDIO, "gpu_cores": -1}, "gpu_cores can't be"),
        ({**STUDIO, "chip": "i9"}, "chip can't be 'i9'"),
        ({**STUDIO, "cpu_cores": [8, "x"]}, "cpu_cores can't be"),
        ({**STUDIO, "serial_number": "X"}, "'serial_number' is not a key of a profile"),
        ({**STUDIO, 7: 1}, "is not a key of a profile"),
        ({"apiVersion": "mlspec/v1", "kind": "Machine", "memory_gb": 64}, "the machine's chip isn't given"),
        ({"apiVersion": "mlspec/v1", "kind": "Machine", "chip": "Apple M2"}, "the memory of Apple M2 isn't given"),
    ],
)
def test_a_profile_that_is_none(profile: dict[Any, Any], message: str) -> None:
    assert message in refusal(profile, profile="m.yaml")[0]


def test_keys_of_ones_own_in_a_profile() -> None:
    assert found({**STUDIO, "x-rack": 4}, profile="m.yaml").machine.memory_bytes == 64 * GIB


def test_nothing_is_said() -> None:
    message, help = refusal()
    assert message == "the machine's chip isn't given"
    assert "machine: {chip: Apple M2 Max, memory_gb: 64}" in help
    assert refusal(model="Mac17,12", memory_gb=24)[0] == "the chip of 'Mac17,12' isn't known"


def test_a_linux_machine() -> None:
    machine = linux(MachineSpec(memory_gb=15.5, cpus=8, gpu_memory_gb=24, reserve_gb=1), POINTER, None).machine
    assert (machine.memory_bytes, machine.cpus, machine.gpu_memory_bytes) == (int(15.5 * GIB), 8, 24 * GIB)
    assert (machine.chip, machine.working_set_bytes, machine.reserved_bytes) == (None, None, GIB)
    assert machine.origins["memory_bytes"] == "spec:/targets/0/machine/memory_gb"
    assert machine.origins["gpu_memory_bytes"] == "spec:/targets/0/machine/gpu_memory_gb"


def test_a_linux_machine_by_a_profile() -> None:
    profile = {"apiVersion": "mlspec/v1", "kind": "Machine", "memory_gb": 16, "cpus": 4}
    machine = linux(MachineSpec(profile="server.yaml", cpus=2), POINTER, profile).machine
    assert (machine.memory_bytes, machine.cpus) == (16 * GIB, 2)
    assert machine.origins["memory_bytes"] == "profile:server.yaml"


@pytest.mark.parametrize(
    ("given", "profile"),
    [({"cpus": 8}, None), ({"chip": "Apple M1", "memory_gb": 8}, None), ({"profile": "m.yaml"}, STUDIO)],
)
def test_a_linux_machine_that_is_none(given: dict[str, Any], profile: dict[str, Any] | None) -> None:
    with pytest.raises(UnknownMachineError) as refused:
        linux(MachineSpec(**given), POINTER, profile)
    assert "machine: {memory_gb: 16, cpus: 8}" in refused.value.help
