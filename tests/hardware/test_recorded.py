"""What Macs' commands print, as it was recorded and in the odd shapes that there are, to exact profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.machines import mac
from mlspec.hardware.parse_mlx_device_info import parse_mlx_device_info
from mlspec.hardware.parse_sysctl import parse_sysctl
from mlspec.hardware.parse_system_profiler import cpu_counts, parse_system_profiler
from mlspec.hardware.profile import checked
from mlspec.hardware.reading import Reading, profile_of
from mlspec.hardware.recorded import MLX, SYSCTL, SYSTEM_PROFILER, read_recorded
from mlspec.model.spec import MachineSpec

SAMPLES = Path(__file__).parent / "samples"
GIB = 2**30
PROFILER: dict[str, dict[str, Any]] = json.loads((SAMPLES / "system_profiler.json").read_text(encoding="utf-8"))
DEVICES: list[dict[str, Any]] = json.loads((SAMPLES / "mlx_device_info.json").read_text(encoding="utf-8"))


def text(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def refusal(texts: dict[str, str]) -> UnreadableError:
    with pytest.raises(UnreadableError) as refused:
        profile_of(read_recorded(texts))
    assert refused.value.help
    return refused.value


def profile(**texts: str) -> dict[str, Any]:
    """What a profile holds, of recordings by their kind."""
    files = {"sysctl": SYSCTL, "profiler": SYSTEM_PROFILER, "mlx": MLX}
    fields = profile_of(read_recorded({files[kind]: each for kind, each in texts.items()}))
    kept = {key: value for key, value in fields.items() if value is not None}
    assert checked({"apiVersion": "mlspec/v1", "kind": "Machine", **kept}, "p") == kept
    return kept


def test_sysctl_of_an_m2_max() -> None:
    assert profile(sysctl=text("sysctl-m2-max-64gb.txt")) == {
        "chip": "Apple M2 Max",
        "memory_gb": 64,
        "cpus": 12,
        "cpu_cores": [8, 4],
        "model": "Mac14,6",
        "macos": "26.6.2",
    }


def test_sysctl_that_leaves_the_memory_out() -> None:
    said = parse_sysctl(text("sysctl-m1-pro.txt"))
    assert said == Reading(chip="Apple M1 Pro", cpus=10, cpu_cores=(8, 2))
    assert "names the Mac's memory" in str(refusal({SYSCTL: text("sysctl-m1-pro.txt")}))


def test_an_intel_mac_is_refused() -> None:
    problem = refusal({SYSCTL: text("sysctl-intel-macbookpro.txt")})
    assert "no Mac with Apple Silicon" in str(problem)
    intel = {"SPHardwareDataType": [{"cpu_type": "8-Core Intel Core i9", "machine_model": "MacBookPro16,1"}]}
    assert str(refusal({SYSTEM_PROFILER: json.dumps(intel)})) == str(problem)


def test_a_program_for_intel_does_not_see_the_chip() -> None:
    problem = refusal({SYSCTL: "machdep.cpu.brand_string: VirtualApple @ 2.50GHz\nhw.memsize: 17179869184\n"})
    assert "Rosetta" in str(problem)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "m4_air",
            {"chip": "Apple M4", "memory_gb": 16, "cpus": 10, "cpu_cores": [4, 6], "model": "Mac16,12"},
        ),
        ("m2_mbp13", {"chip": "Apple M2", "memory_gb": 16, "cpus": 8, "cpu_cores": [4, 4], "model": "Mac14,7"}),
        (
            "m4max_mbp16",
            {"chip": "Apple M4 Max", "memory_gb": 48, "cpus": 16, "cpu_cores": [12, 4], "model": "Mac16,5"},
        ),
    ],
)
def test_system_profiler_on_hardware(name: str, expected: dict[str, Any]) -> None:
    assert profile(profiler=json.dumps(PROFILER[name])) == expected


@pytest.mark.parametrize(
    ("name", "chip", "cores"), [("m4_gpu", "M4", 10), ("m5max_gpu", "M5 Max", 40), ("m1_gpu7", "M1", 7)]
)
def test_system_profiler_on_graphics(name: str, chip: str, cores: int) -> None:
    assert parse_system_profiler(json.dumps(PROFILER[name])) == Reading(chip=f"Apple {chip}", gpu_cores=cores)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, ("Apple A18 Pro", 8, 5726633984, 4294967296, "26.5.1")),
        (1, ("Apple M2", 16, 12713115648, 9534832640, None)),
        (2, ("Apple M4 Pro", 48, 40200896512, 30150672384, None)),
        (3, ("Apple M5 Max", 128, 115448725504, 86586540032, None)),
    ],
)
def test_mlx_device_info(index: int, expected: tuple[Any, ...]) -> None:
    (said,) = parse_mlx_device_info(json.dumps(DEVICES[index]))
    found = profile_of(said)
    keys = ("chip", "memory_gb", "working_set_bytes", "max_buffer_bytes", "macos")
    assert tuple(found[key] for key in keys) == expected


def test_a_list_of_devices_and_a_processor_that_is_one() -> None:
    assert [said.chip for said in parse_mlx_device_info(text("mlx_device_info.json"))] == [
        "Apple A18 Pro",
        "Apple M2",
        "Apple M4 Pro",
        "Apple M5 Max",
    ]
    assert parse_mlx_device_info(json.dumps([DEVICES[4]])) == ()
    assert "several computers: Apple A18 Pro, Apple M2, Apple M4 Pro" in str(
        refusal({MLX: text("mlx_device_info.json")})
    )
    assert "names the Mac's chip" in str(refusal({MLX: json.dumps(DEVICES[4])}))


def test_of_a_list_of_devices_the_one_of_this_mac() -> None:
    hardware = {"chip_type": "Apple M4 Pro", "physical_memory": "48 GB", "number_processors": "proc 14:10:4"}
    both = profile(profiler=json.dumps({"SPHardwareDataType": [hardware]}), mlx=text("mlx_device_info.json"))
    assert both == {
        "chip": "Apple M4 Pro",
        "memory_gb": 48,
        "cpus": 14,
        "cpu_cores": [10, 4],
        "working_set_bytes": 40200896512,
        "max_buffer_bytes": 30150672384,
    }


def test_all_three_together() -> None:
    profiler = {**PROFILER["m2_mbp13"], "SPDisplaysDataType": [{"sppci_model": "Apple M2", "sppci_cores": "10"}]}
    sysctl = "machdep.cpu.brand_string: Apple M2\nhw.memsize: 17179869184\nkern.osproductversion: 26.1\n"
    assert profile(sysctl=sysctl, profiler=json.dumps(profiler), mlx=json.dumps(DEVICES[1])) == {
        "chip": "Apple M2",
        "memory_gb": 16,
        "gpu_cores": 10,
        "cpus": 8,
        "cpu_cores": [4, 4],
        "model": "Mac14,7",
        "macos": "26.1",
        "working_set_bytes": 12713115648,
        "max_buffer_bytes": 9534832640,
    }


def test_recordings_of_different_macs() -> None:
    texts = {SYSCTL: text("sysctl-m2-max-64gb.txt"), MLX: json.dumps(DEVICES[2])}
    assert "sysctl.txt says Apple M2 Max, mlx_device_info.json says Apple M4 Pro" in str(refusal(texts))
    texts = {SYSCTL: text("sysctl-m2-max-64gb.txt"), SYSTEM_PROFILER: json.dumps(PROFILER["m4_air"])}
    assert "different computers" in str(refusal(texts))


def test_a_file_of_several_recordings() -> None:
    assert "several computers: m4_air, m2_mbp13" in str(refusal({SYSTEM_PROFILER: text("system_profiler.json")}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("proc 10:4:6", (10, (4, 6))),
        ("proc 8:4", (8, ())),
        ("proc 8:8", (8, (8,))),
        ("proc 8", (8, ())),
        ("8", (8, ())),
        (8, (8, ())),
        ("proc 18:6:0:12", (18, (6, 12))),
        ("proc 18:6:12:0", (18, (6, 12))),
        ("proc 12:4:4:4", (12, (4, 4, 4))),
        ("proc 4:0:4", (4, (4,))),
        ("proc 10:4:5", (10, ())),
        ("proc", (None, ())),
        ("proc 10:x:6", (None, ())),
        ("", (None, ())),
        ("proc 99999:1:1", (None, ())),
        (8.0, (None, ())),
        (True, (None, ())),
        (None, (None, ())),
        (["proc 8"], (None, ())),
    ],
)
def test_number_processors(value: object, expected: tuple[Any, ...]) -> None:
    assert cpu_counts(value) == expected


@pytest.mark.parametrize(
    ("cores", "expected"),
    [("10", 10), (10, 10), (" 10 ", 10), ("ten", None), (None, None), (10.5, None), ("²", None), (0, None), ({}, None)],
)
def test_graphics_cores(cores: object, expected: int | None) -> None:
    assert parse_system_profiler(
        json.dumps({"SPDisplaysDataType": [{"sppci_model": "Apple M4", "sppci_cores": cores}]})
    ) == (Reading(chip="Apple M4", gpu_cores=expected))


@pytest.mark.parametrize("displays", [[], None, {}, "x", [None], [{}], [[]], [{"sppci_model": "AMD Radeon Pro"}]])
def test_no_displays(displays: object) -> None:
    data = {**PROFILER["m4_air"], "SPDisplaysDataType": displays}
    assert "gpu_cores" not in profile(profiler=json.dumps(data))


def test_apples_gpu_beside_another() -> None:
    displays = [{"sppci_model": "Radeon", "sppci_cores": "60"}, {"_name": "Apple M4", "sppci_cores": 10}]
    assert profile(profiler=json.dumps({**PROFILER["m4_air"], "SPDisplaysDataType": displays}))["gpu_cores"] == 10


@pytest.mark.parametrize("hardware", [[], None, {}, [None], [{}], [{"chip_type": 7, "physical_memory": 16}]])
def test_no_hardware(hardware: object) -> None:
    assert parse_system_profiler(json.dumps({"SPHardwareDataType": hardware})).chip is None


def test_a_virtual_machine() -> None:
    hardware = {
        "chip_type": "Apple M1 (Virtual)",
        "machine_model": "VirtualMac2,1",
        "number_processors": "proc 3:3:0",
        "physical_memory": "7 GB",
    }
    device = {"device_name": "Apple Paravirtual device", "max_recommended_working_set_size": 5010800640}
    displays = [{"_name": "spdisplays_display", "sppci_model": "Apple Paravirtual device"}]
    profiler = json.dumps({"SPHardwareDataType": [hardware], "SPDisplaysDataType": displays})
    found = profile(profiler=profiler, mlx=json.dumps(device))
    assert found == {
        "chip": "Apple M1 (Virtual)",
        "memory_gb": 7,
        "cpus": 3,
        "cpu_cores": [3],
        "model": "VirtualMac2,1",
        "working_set_bytes": 5010800640,
    }
    machine = mac(MachineSpec(profile="p"), "", {"apiVersion": "mlspec/v1", "kind": "Machine", **found}).machine
    assert (machine.cooling, machine.cpus, machine.working_set_bytes) == ("virtual", 3, 5010800640)


@pytest.mark.parametrize(("chip", "row"), [("Apple M5 Ultra", "Apple M5 Ultra"), ("Apple M9 Max", "Apple M5 Max")])
def test_an_ultra_and_a_chip_that_is_newer_than_the_table(chip: str, row: str) -> None:
    found = profile(sysctl=f"machdep.cpu.brand_string: {chip}\nhw.memsize: {256 * GIB}\n")
    machine = mac(MachineSpec(profile="p"), "", {"apiVersion": "mlspec/v1", "kind": "Machine", **found}).machine
    assert machine.chip is not None
    assert (machine.chip.name, machine.chip.row) == (chip, row)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("iogpu.wired_limit_mb: 57344", 57344),
        ("iogpu.wired_limit_mb = 57344", 57344),
        ("  iogpu.wired_limit_mb:57344\r", 57344),
        ("iogpu.wired_limit_mb: 0", None),
        ("iogpu.wired_limit_mb: -1", None),
        ("iogpu.wired_limit_mb: 9999999999999999999999", None),
        ("iogpu.wired_limit_mb:", None),
    ],
)
def test_the_wired_limit(line: str, expected: int | None) -> None:
    assert parse_sysctl(line).wired_limit_mb == expected


@pytest.mark.parametrize(
    ("size", "memory_bytes"),
    [("16 GB", 16 * GIB), ("1 TB", 1024 * GIB), ("1.5 TB", 1536 * GIB), ("512 MB", GIB // 2), ("16 Go", 16 * GIB)],
)
def test_sizes(size: str, memory_bytes: int) -> None:
    said = parse_system_profiler(json.dumps({"SPHardwareDataType": [{"physical_memory": size}]}))
    assert said.memory_bytes == memory_bytes


@pytest.mark.parametrize("size", ["", "GB", "16", "-16 GB", "1e3 GB", "0 GB", "16 GB 2", None, [], "99999999 TB"])
def test_what_is_no_size(size: object) -> None:
    said = parse_system_profiler(json.dumps({"SPHardwareDataType": [{"physical_memory": size}]}))
    assert said.memory_bytes in (None, 16)


def test_the_version_of_macos_with_what_stands_around_it() -> None:
    data = {"SPSoftwareDataType": [{"os_version": "macOS 26.1 (25B78)", "user_name": "Ada (ada)"}]}
    assert parse_system_profiler(json.dumps(data)) == Reading(macos="26.1")
    assert parse_sysctl("kern.osproductversion: 26.1beta").macos is None


@pytest.mark.parametrize(
    "broken", ["", "{", "[1]", "null", "7", '"x"', "{}", "[" * 100_000, "1" * 10_000, "\x00", "NaN"]
)
def test_what_is_no_output_at_all(broken: str) -> None:
    assert refusal({SYSTEM_PROFILER: broken}).help
    assert refusal({MLX: broken}).help
    assert refusal({SYSCTL: broken}).help
