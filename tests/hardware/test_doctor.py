"""`mlspec doctor`: each thing that it looks at, in good order and in trouble, and the real computer."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from mlspec.commands.doctor import run
from mlspec.exit_codes import FINDINGS, OK
from mlspec.hardware.asking import Answer, ask
from mlspec.hardware.doctor import examine
from mlspec.hardware.doctor_libraries import container_tool, mlx
from mlspec.hardware.findings import Finding, Here

SAMPLES = Path(__file__).parent / "samples"
SYSCTL = (SAMPLES / "sysctl-m2-max-64gb.txt").read_text(encoding="utf-8")
DEVICE = {
    "device_name": "Apple M2 Max",
    "max_recommended_working_set_size": 55662788608,
    "max_buffer_length": 41747091456,
}
PMSET = "System-wide power settings:\nCurrently in use:\n standby              1\n lowpowermode         0\n sleep 0\n"
MAC = {
    "sysctl": Answer(SYSCTL, 0),
    "device_info": Answer(json.dumps(DEVICE), 0),
    "import mlx": Answer('{"version": "0.32.4", "device": "gpu", "right": true}', 0),
    "import torch": Answer('{"version": "2.13.0", "device": "mps", "right": true}', 0),
    "pmset": Answer(PMSET, 0),
    "notifyutil": Answer("com.apple.system.thermalpressurelevel 0\n", 0),
    "docker": Answer("28.1.1\n", 0),
}
SILENT = Answer("", 1, "Cannot connect")
LINUX = {
    "import mlx": Answer('{"version": "0.32.4", "device": "cpu", "right": true}', 0),
    "import torch": Answer("", 1, "ModuleNotFoundError: No module named 'torch'"),
    "libopenblas": Answer("", 0),
    "podman": Answer("4.3.1\n", 0),
}


class Recorded:
    """Answers by a word of the command, the first that fits."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers

    def __call__(self, command: Sequence[str], timeout_s: float) -> Answer:
        text = " ".join(command)
        return next((answer for word, answer in self.answers.items() if word in text), Answer(trouble="not there"))


def mac(**changed: Answer) -> Here:
    answers = {**MAC, **{key.replace("_", " "): answer for key, answer in changed.items()}}
    return Here("darwin", "arm64", (3, 12, 4), "python", ("", ""), Recorded(answers), lambda name: f"/bin/{name}")


def linux(root: Path, **changed: Answer) -> Here:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/meminfo").write_text("MemTotal:       16777216 kB\n")
    answers = {**LINUX, **{key.replace("_", " "): answer for key, answer in changed.items()}}
    places = {"podman": "/usr/bin/podman"}
    return Here("linux", "x86_64", (3, 11, 7), "python", ("glibc", "2.36"), Recorded(answers), places.get, root)


def told(here: Here) -> dict[str, tuple[str, str]]:
    return {finding.name: (finding.status, finding.text) for finding in examine(here)}


def one(here: Here, name: str) -> Finding:
    return next(finding for finding in examine(here) if finding.name == name)


def test_a_mac_in_good_order() -> None:
    assert told(mac()) == {
        "chip": (
            "ok",
            "Apple M2 Max, MacBook Pro 16 2023: 30 GPU cores, 400 GB/s, cooling laptop",
        ),
        "memory": ("ok", "64 GB, of which the GPU may keep 51.8 GiB"),
        "macOS": ("ok", "26.6.2"),
        "Python": ("ok", "3.12.4"),
        "MLX": ("ok", "0.32.4, computes on gpu"),
        "torch": ("ok", "2.13.0, computes on mps"),
        "power": ("ok", "low-power mode is off"),
        "heat": ("ok", "thermal pressure is nominal"),
        "containers": ("ok", "docker 28.1.1"),
    }


def test_a_linux_in_good_order(tmp_path: Path) -> None:
    found = told(linux(tmp_path))
    assert found.pop("memory")[1].startswith("16.0 GB by /proc/meminfo, ")
    assert found == {
        "system": ("ok", "Linux x86_64, glibc 2.36"),
        "Python": ("ok", "3.11.7"),
        "MLX": ("ok", "0.32.4, computes on cpu"),
        "torch": ("ok", "not installed; only models of torch need it"),
        "OpenBLAS": ("ok", "found: float32 products on the CPU are fast"),
        "heat and power": ("ok", "not governed on Linux: a service pays no heed to them there"),
        "containers": ("ok", "podman 4.3.1"),
    }


def test_an_override_in_force() -> None:
    raised = {**DEVICE, "max_recommended_working_set_size": 60 * 2**30}
    finding = one(replace(mac(), ask=Recorded({**MAC, "device_info": Answer(json.dumps(raised), 0)})), "machine")
    assert finding.status == "warning"
    assert "60.0 GiB where 51.8 GiB are the default" in finding.text
    assert finding.remedy.startswith("sudo sysctl iogpu.wired_limit_mb=0")


@pytest.mark.parametrize(
    ("sysctl", "name", "status", "text"),
    [
        (SYSCTL.replace("26.6.2", "13.6"), "macOS", "problem", "13.6: MLX needs 14 or later"),
        (SYSCTL.replace("26.6.2", "14.5"), "macOS", "warning", "14.5: weights can be kept resident from 15 on"),
        (SYSCTL.replace("26.6.2", "26.1").replace("M2 Max", "M5 Max"), "macOS", "warning", "26.1: this chip's matrix"),
        (SYSCTL.replace("26.6.2", "26.2").replace("M2 Max", "M5 Max"), "macOS", "ok", "26.2"),
        (SYSCTL.replace("kern.osproductversion", "x"), "macOS", "warning", "its version isn't known"),
        (SYSCTL.replace("M2 Max", "M9 Max"), "machine", "warning", "Apple M9 Max is not in the table of chips"),
        ("machdep.cpu.brand_string: Intel(R) Core(TM) i9", "chip", "problem", "no Mac with Apple Silicon"),
        ("machdep.cpu.brand_string: VirtualApple @ 2.50GHz", "chip", "problem", "under Rosetta"),
        ("", "chip", "problem", "names the Mac's chip"),
    ],
)
def test_what_a_mac_is(sysctl: str, name: str, status: str, text: str) -> None:
    answers = {**MAC, "sysctl": Answer(sysctl, 0)}
    answers.pop("device_info")
    finding = one(replace(mac(), ask=Recorded(answers)), name)
    assert finding.status == status
    assert text in finding.text
    assert (status == "ok") == (not finding.remedy)


@pytest.mark.parametrize(
    ("answer", "name", "status", "text"),
    [
        ({"pmset": Answer(" lowpowermode         1\n", 0)}, "power", "warning", "low-power mode is on"),
        ({"pmset": Answer(" powermode         1\n", 0)}, "power", "warning", "low-power mode is on"),
        ({"pmset": Answer("", 0)}, "power", "ok", "unavailable"),
        ({"pmset": Answer(trouble="x")}, "power", "ok", "unavailable"),
        ({"notifyutil": Answer("com.apple.system.thermalpressurelevel 1\n", 0)}, "heat", "ok", "moderate"),
        ({"notifyutil": Answer("com.apple.system.thermalpressurelevel 2\n", 0)}, "heat", "warning", "heavy"),
        ({"notifyutil": Answer("com.apple.system.thermalpressurelevel 3\n", 0)}, "heat", "warning", "trapping"),
        ({"notifyutil": Answer("com.apple.system.thermalpressurelevel 9\n", 0)}, "heat", "ok", "unavailable"),
        ({"notifyutil": Answer("", 1)}, "heat", "ok", "unavailable"),
    ],
)
def test_heat_and_power(answer: dict[str, Answer], name: str, status: str, text: str) -> None:
    finding = one(mac(**answer), name)
    assert finding.status == status
    assert text in finding.text


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (Answer("", 1, "ModuleNotFoundError: No module named 'mlx'"), "warning", "not installed"),
        (Answer("", 1, "ImportError: libmlx.so: cannot open"), "problem", "libmlx.so: cannot open"),
        (Answer("", -6), "problem", "ended by signal 6"),
        (Answer(trouble="it didn't answer within 120 s"), "problem", "didn't answer"),
        (Answer('{"version": "1", "device": "gpu", "right": false}', 0), "problem", "gets a small product wrong"),
        (Answer("", 3), "problem", "installed, but fails with status 3"),
        (Answer("rubbish", 0), "problem", "gets a small product wrong"),
        (Answer('{"version": "1", "device": "cpu", "right": true}', 0), "warning", "without Metal"),
        (Answer('a warning\n{"version": "1", "device": "gpu", "right": true}\n', 0), "ok", "1, computes on gpu"),
    ],
)
def test_mlx_on_a_mac(answer: Answer, status: str, text: str) -> None:
    finding = one(mac(import_mlx=answer), "MLX")
    assert (finding.status, text in finding.text) == (status, True)
    # That name on the public index is another project's.
    assert "install mlspec" not in finding.remedy.replace("mlspec-compiler", "")


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (Answer("", 1, "OSError: libtorch.dylib"), "problem", "libtorch.dylib"),
        (Answer('{"version": "2", "device": "cpu", "right": true}', 0), "warning", "MPS isn't available"),
    ],
)
def test_torch_on_a_mac(answer: Answer, status: str, text: str) -> None:
    finding = one(mac(import_torch=answer), "torch")
    assert (finding.status, text in finding.text) == (status, True)


def test_no_openblas(tmp_path: Path) -> None:
    finding = one(linux(tmp_path, libopenblas=Answer("", 1, "OSError: cannot open")), "OpenBLAS")
    assert (finding.status, "libopenblas0-pthread" in finding.remedy) == ("warning", True)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (
            {"docker": Answer("", 1, "Cannot connect"), "podman": Answer("5.2.0\n", 0)},
            "podman 5.2.0 (docker doesn't answer)",
        ),
        (
            {"docker": Answer("", 1), "podman": Answer(trouble="x"), "buildah": Answer("buildah version 1.28\n", 0)},
            "buildah 1.28 (docker and podman don't answer)",
        ),
        (
            {"docker": Answer("", 3), "podman": Answer("", -9), "buildah": Answer("hello\n", 0)},
            "docker fails with status 3; podman is ended by signal 9; buildah doesn't tell its version",
        ),
        ({"docker": Answer("\n\n", 0), "podman": Answer("5.2.0\n", 0)}, "podman 5.2.0 (docker doesn't answer)"),
        (
            {"docker": Answer("", 1, "Cannot connect"), "podman": Answer(trouble="x")},
            "docker doesn't answer: Cannot connect",
        ),
    ],
)
def test_container_tools(answers: dict[str, Answer], text: str) -> None:
    assert text in one(mac(**answers), "containers").text


def test_no_container_tool() -> None:
    finding = one(replace(mac(), which=lambda name: None), "containers")
    assert (finding.status, finding.text) == ("warning", "neither docker nor podman nor buildah is here")


@pytest.mark.parametrize(
    ("changes", "name", "status"),
    [
        ({"libc": ("glibc", "2.31")}, "system", "warning"),
        ({"libc": ("", "")}, "system", "warning"),
        ({"processor": "riscv64"}, "system", "problem"),
        ({"system": "win32"}, "system", "problem"),
        ({"python": (3, 10, 1)}, "Python", "warning"),
        ({"python": (3, 14, 0)}, "Python", "warning"),
    ],
)
def test_systems_that_will_not_do(tmp_path: Path, changes: dict[str, Any], name: str, status: str) -> None:
    finding = one(replace(linux(tmp_path), **changes), name)
    assert finding.status == status
    assert finding.remedy


def test_a_python_for_intel_on_a_mac() -> None:
    assert one(replace(mac(), processor="x86_64"), "Python").status == "problem"


def test_a_library_that_takes_its_process_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real thing: a process of its own, a library that aborts as Metal does."""
    (tmp_path / "mlx").mkdir()
    (tmp_path / "mlx/__init__.py").write_text("")
    (tmp_path / "mlx/core.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    here = replace(linux(tmp_path), ask=ask, executable=sys.executable)
    assert [finding.text for finding in mlx(here)] == ["installed, but ended by signal 6 at a small product"]


def test_the_real_computer(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(Namespace(output_format="json"))
    said = json.loads(capsys.readouterr().out)
    assert code == (OK if said["ok"] else FINDINGS)
    found = {finding["name"]: finding for finding in said["findings"]}
    assert {"Python", "MLX", "torch", "containers"} <= set(found)
    assert found["Python"]["status"] == "ok"
    assert all(finding["remedy"] for finding in said["findings"] if finding["status"] != "ok")


PROGRAMS = {"docker": "exit 3", "podman": "sleep 60", "buildah": "yes 1.2.3"}


def test_container_tools_that_fail_hang_and_babble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real thing, but for how long each may take."""
    for name, line in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("mlspec.hardware.doctor_libraries._TOOLS_PATIENCE_S", 0.5)

    def asked(command: Sequence[str], timeout_s: float) -> Answer:
        own = Path(command[0]).parent == tmp_path
        return ask(command, timeout_s) if own else Recorded(LINUX)(command, timeout_s)

    here = replace(linux(tmp_path), ask=asked, which=lambda name: str(tmp_path / name))
    monkeypatch.setattr("mlspec.commands.doctor._here", lambda: here)
    assert run(Namespace(output_format="text")) == OK
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "containers" in line]
    assert "docker fails with status 3; podman doesn't answer: it didn't answer within 0.5 s; buildah" in line
    assert line.endswith("buildah doesn't answer: it printed more than 64 KiB")


def test_each_finding_comes_as_soon_as_it_is_known(tmp_path: Path) -> None:
    """Where torch's process only answers once the others have been told."""
    told_before = Event()

    def asked(command: Sequence[str], timeout_s: float) -> Answer:
        if "import torch" in " ".join(command):
            assert told_before.wait(30)
        return Recorded(LINUX)(command, timeout_s)

    findings = examine(replace(linux(tmp_path), ask=asked))
    names = [finding.name for _, finding in zip(range(7), findings, strict=False)]
    assert names == ["system", "memory", "Python", "OpenBLAS", "heat and power", "containers", "MLX"]
    told_before.set()
    assert [finding.name for finding in findings] == ["torch"]


def test_who_goes_away_leaves_no_program_behind(tmp_path: Path) -> None:
    started, stopped = tmp_path / "started", Event()
    (tmp_path / "podman").write_text(f"#!/bin/sh\necho $$ > {started}\nsleep 60\n")
    (tmp_path / "podman").chmod(0o755)
    places = {"podman": str(tmp_path / "podman")}
    here = replace(linux(tmp_path), ask=partial(ask, stopped=stopped), which=places.get, stop=stopped.set)
    findings = container_tool(here)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: [finding.text for finding in findings])
        while not (started.exists() and started.read_text().strip()):
            time.sleep(0.01)
        here.stop()
        assert found.result() == ["podman doesn't answer: nobody waits for it"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trouble = replace(linux(tmp_path, libopenblas=Answer("", 1)), processor="riscv64")
    monkeypatch.setattr("mlspec.commands.doctor._here", lambda: trouble)
    assert run(Namespace(output_format="text")) == FINDINGS
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "problem  system          Linux riscv64, glibc 2.36"
    assert lines[1] == "                         MLX has wheels for x86_64 and aarch64"
    assert "warning  OpenBLAS        not found: MLX on the CPU is about ten times slower" in lines
    assert not [line for line in lines if "\x1b" in line]
