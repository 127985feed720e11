"""`mlspec machine`: a profile from recorded output, without what identifies a person or a computer; list and show."""

from __future__ import annotations

import json
import os
import stat
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from mlspec.cli import main
from mlspec.commands.machine import run
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK, USAGE
from mlspec.hardware.recorded import MLX, SYSCTL, SYSTEM_PROFILER
from mlspec.passes.load import load
from mlspec.passes.validate import validate_profile

SAMPLES = Path(__file__).parent / "samples"
SEED = "SEEDED"
SYSCTL_TEXT = (SAMPLES / "sysctl-m2-max-64gb.txt").read_text(encoding="utf-8")
STUDIO = SYSCTL_TEXT.replace("Mac14,6", "Mac14,13")
DISPLAYS = {"SPDisplaysDataType": [{"sppci_model": "Apple M2 Max", "sppci_cores": "38"}]}
DEVICE = {
    "device_name": "Apple M2 Max",
    "memory_size": 64 * 2**30,
    "max_recommended_working_set_size": 55662788608,
    "max_buffer_length": 41747091456,
}
PROFILE = """\
# A computer, for the targets of specs: machine: {profile: PATH}
# Written by `mlspec machine capture`; it holds no serial number and no name.
apiVersion: mlspec/v1
kind: Machine
chip: "Apple M2 Max"
memory_gb: 64
gpu_cores: 38
cpus: 12
cpu_cores: [8, 4]
model: "Mac14,13"
macos: "26.6.2"
working_set_bytes: 55662788608
max_buffer_bytes: 41747091456
"""
NAME = "machines/mac-studio-2023-m2-max-64-gb.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with whole recordings in `recorded/`."""
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path, sysctl=STUDIO, profiler=DISPLAYS, mlx=DEVICE)
    return tmp_path


def recorded(folder: Path, *, sysctl: str | None = None, profiler: Any = None, mlx: Any = None) -> None:
    place = folder / "recorded"
    place.mkdir(exist_ok=True)
    if sysctl is not None:
        (place / SYSCTL).write_text(sysctl, encoding="utf-8")
    if profiler is not None:
        (place / SYSTEM_PROFILER).write_text(json.dumps(profiler), encoding="utf-8")
    if mlx is not None:
        (place / MLX).write_text(json.dumps(mlx), encoding="utf-8")


def machine(action: str, name: str | None = None, **options: Any) -> int:
    defaults = {"from_dir": None, "out": None, "force": False, "output_format": "text"}
    return run(Namespace(action=action, name=name, **{**defaults, **options}))


def capture(**options: Any) -> int:
    return machine("capture", **{"from_dir": Path("recorded"), **options})


def refused(**options: Any) -> CommandError:
    with pytest.raises(CommandError) as refusal:
        capture(**options)
    return refusal.value


def test_capture_writes_a_profile(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert capture() == OK
    assert (project / NAME).read_text(encoding="utf-8") == PROFILE
    said = capsys.readouterr()
    assert said.out == f"{NAME}: Mac Studio 2023, M2 Max, 64 GB\nin a spec: machine: {{profile: {NAME}}}\n"
    assert said.err == ""


def test_a_profile_is_what_its_schema_says(project: Path) -> None:
    capture()
    report = Report()
    document = load(project / NAME, NAME, report)
    assert document is not None
    assert validate_profile(document, report) == {**document.data}
    assert not list(report)


def test_an_equal_profile_stays_and_another_is_not_overwritten(project: Path, capsys: Any) -> None:
    capture()
    before = (project / NAME).stat()
    assert capture() == OK
    assert (project / NAME).stat().st_mtime_ns == before.st_mtime_ns
    assert "(as it was)" in capsys.readouterr().out
    mine = PROFILE.replace("64", "65").replace("cpus: 12", "cpus: [")
    (project / NAME).write_text(mine, encoding="utf-8")
    assert refused().code == "file-exists"
    assert (project / NAME).read_text(encoding="utf-8") == mine
    assert capture(force=True) == OK
    assert (project / NAME).read_text(encoding="utf-8") == PROFILE
    (project / NAME).write_text("")
    assert refused().help.startswith("--force replaces it")
    assert capture(force=True) == OK
    assert (project / NAME).read_text(encoding="utf-8") == PROFILE


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_profile_is_never_replaced(project: Path, force: bool) -> None:
    spec = "apiVersion: mlspec/v1\nkind: ModelService\ntargets: [{name: m, machine: Machine}]\n"
    (project / "spec.yaml").write_text(spec)
    os.mkfifo(project / "pipe")
    (project / "dead").symlink_to("nowhere")
    for name, why in {
        "spec.yaml": "is there already, and is no machine's profile",
        "pipe": "is no regular file",
        "recorded": "is a folder",
        "dead": "is a link to nothing",
        "/dev/null": "is no regular file",
    }.items():
        problem = refused(out=Path(name), force=force)
        assert (problem.code, problem.message) == ("file-exists", f"'{name}' {why}")
        assert problem.help
    assert (project / "spec.yaml").read_text() == spec
    assert stat.S_ISFIFO((project / "pipe").stat().st_mode)


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        ("list", {"name": "extra"}, "machine list takes no NAME"),
        ("list", {"out": Path("x"), "force": True}, "machine list takes no -o and no --force"),
        ("show", {"name": "M4", "from_dir": Path("d"), "force": True}, "machine show takes no --from and no --force"),
        ("capture", {"name": "m", "out": Path("x.yaml")}, "NAME and -o both name the profile's file"),
    ],
)
def test_arguments_that_mean_nothing(action: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError) as refusal:
        machine(action, **options)
    assert (refusal.value.code, refusal.value.message) == ("usage", message)
    assert refusal.value.help


def test_where_it_is_written(project: Path, capsys: Any) -> None:
    assert capture(name="studio") == OK
    assert capture(out=Path("deep/er/m.yaml"), output_format="json") == OK
    assert (project / "machines/studio.yaml").read_bytes() == (project / "deep/er/m.yaml").read_bytes()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said == {"profile": "deep/er/m.yaml", "title": "Mac Studio 2023, M2 Max, 64 GB", "written": True}
    assert refused(name="../x").code == "usage"
    (project / "file").write_text("")
    assert refused(out=Path("file/m.yaml")).code == "write-failed"


def test_what_identifies_is_never_in_a_profile(project: Path, capsys: Any) -> None:
    """Serial numbers, UUIDs and names, in keys of their own and after what is read."""
    lines = [f"kern.hostname: {SEED}", f"kern.uuid: {SEED}", f"hw.serialnumber: {SEED}", f"hw.model.{SEED}: {SEED}"]
    private = {"serial_number": SEED, "platform_UUID": SEED, "provisioning_UDID": SEED, "_name": SEED, SEED: SEED}
    hardware = {"chip_type": "Apple M2 Max", "machine_name": SEED, "model_number": SEED, "boot_rom_version": SEED}
    software = {"user_name": SEED, "local_host_name": SEED, "os_version": f"macOS 26.6.2 ({SEED})"}
    profiler = {
        "SPHardwareDataType": [{**hardware, **private}],
        "SPDisplaysDataType": [{**DISPLAYS["SPDisplaysDataType"][0], **private, "spdisplays_ndrvs": [private]}],
        "SPSoftwareDataType": [{**software, **private}],
        SEED: [private],
    }
    recorded(project, sysctl="\n".join([*lines, STUDIO, *lines]), profiler=profiler, mlx={**DEVICE, **private})
    assert capture() == OK
    assert (project / NAME).read_text(encoding="utf-8") == PROFILE
    said = capsys.readouterr()
    assert SEED not in said.out + said.err


@pytest.mark.parametrize("key", [line.split(":")[0] for line in STUDIO.splitlines()])
def test_what_is_read_can_not_carry_a_name_either(project: Path, key: str) -> None:
    """A value that isn't of its own shape is left out, or nothing is written at all."""
    lines = [f"{key}: {SEED} 1" if line.startswith(f"{key}:") else line for line in STUDIO.splitlines()]
    (project / "recorded" / SYSTEM_PROFILER).unlink()
    (project / "recorded" / MLX).unlink()
    recorded(project, sysctl="\n".join(lines))
    said = said_by_capture(name="m")
    written = (project / "machines/m.yaml").read_text(encoding="utf-8") if said is None else said
    assert SEED not in written
    assert (said is not None) == (key in ("machdep.cpu.brand_string", "hw.memsize"))


def said_by_capture(**options: Any) -> str | None:
    """The error that it ended with, None if it wrote a profile."""
    try:
        capture(**options)
    except CommandError as problem:
        return problem.text()
    return None


def test_warnings_of_a_capture(project: Path, capsys: Any) -> None:
    recorded(project, mlx={**DEVICE, "max_recommended_working_set_size": 60 * 2**30})
    assert capture(name="m") == OK
    assert "warning: iogpu.wired_limit_mb is set: the GPU may keep 60.0 GiB where 51.8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sysctl", "message"),
    [
        ("machdep.cpu.brand_string: Intel(R) Core(TM) i9", "no Mac with Apple Silicon"),
        ("machdep.cpu.brand_string: Apple M2 Max", "names the Mac's memory"),
        ("", "names the Mac's chip"),
    ],
)
def test_output_that_is_not_enough(tmp_path: Path, monkeypatch: Any, sysctl: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path, sysctl=sysctl)
    problem = refused()
    assert problem.code == "machine-output"
    assert message in problem.message
    assert problem.help
    assert not (tmp_path / "machines").exists()


def test_files_that_can_not_be_read(project: Path) -> None:
    file = project / "recorded" / SYSCTL
    file.write_bytes(STUDIO.encode("utf-16"))
    assert refused().message == "sysctl.txt is no text in UTF-8"
    file.write_bytes(b"x" * (16 * 2**20 + 1))
    assert refused().message == "sysctl.txt has more than 16 MB"
    file.write_bytes(b"\xef\xbb\xbf" + STUDIO.replace("\n", "\r\n").encode())
    assert capture() == OK
    assert refused(from_dir=Path("nowhere")).message == "'nowhere' holds no recorded output"
    assert refused(from_dir=file).code == "machine-output"


def test_no_mac_and_no_recordings(monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    problem = refused(from_dir=None)
    assert problem.message == "this computer is no Mac: there is nothing to capture"
    assert "--from DIR" in problem.help


def test_list(capsys: Any) -> None:
    assert machine("list") == OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PRODUCT", "CHIP", "MEMORY,", "GB", "COOLING"]
    assert ["Mac", "Studio", "2025", "M4", "Max", "36", "48", "64", "128", "desktop"] in [
        line.split() for line in lines
    ]
    assert len(lines) == len(set(lines))
    assert machine("show", lines[-1].removeprefix("in a spec: machine: ")) == OK


def test_list_for_programs(capsys: Any) -> None:
    assert machine("list", output_format="json") == OK
    rows = {(row["product"], row["chip"]): row for row in json.loads(capsys.readouterr().out)}
    assert rows["Mac Studio 2025", "Apple M3 Ultra"]["memory_gb"] == [96, 256, 512]
    assert rows["MacBook Pro 14 2024", "Apple M4 Pro"]["memory_gb"] == [24, 48]
    assert {row["cooling"] for row in rows.values()} == {"passive", "laptop", "desktop"}


def test_show_a_product(capsys: Any) -> None:
    assert machine("show", "mac studio 2025 m4 max 64gb") == OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Mac Studio 2025, M4 Max, 64 GB"
    assert "  bandwidth    546 GB/s         chips/Apple M4 Max/gpu/1/bandwidth_gb_s (confirmed)" in lines
    assert "  working set  48.0 GiB         working_set/macos-15/36-191 (confirmed)" in lines
    assert "  memory       64.0 GiB         as named" in lines


def test_show_a_profile(project: Path, capsys: Any) -> None:
    capture(name="m")
    capsys.readouterr()
    assert machine("show", "machines/m.yaml", output_format="json") == OK
    shown = json.loads(capsys.readouterr().out)
    assert shown["title"] == "Mac Studio 2023, M2 Max, 64 GB"
    assert shown["origins"]["working_set_bytes"] == "profile:machines/m.yaml"
    assert shown["chip"]["gpu_cores"] == 38
    (project / "machines/m.yaml").write_text("kind: Machine\nmemory_gb: many\n")
    assert machine("show", "machines/m.yaml") == FINDINGS
    assert "machines/m.yaml:2:12: error[" in capsys.readouterr().err
    assert machine("show", "nowhere.yaml") == FINDINGS


def test_show_a_linux_machine(project: Path, capsys: Any) -> None:
    (project / "server.yaml").write_text("apiVersion: mlspec/v1\nkind: Machine\nmemory_gb: 16\ncpus: 4\n")
    assert machine("show", "server.yaml") == OK
    assert capsys.readouterr().out.splitlines() == [
        "16 GB",
        "  CPU cores  4         server.yaml",
        "  memory     16.0 GiB  server.yaml",
        "  cooling    unknown",
    ]


def test_show_what_is_unknown() -> None:
    with pytest.raises(CommandError) as refusal:
        machine("show", "ThinkPad")
    assert (refusal.value.code, refusal.value.help) == ("unknown-machine", "mlspec machine list has all")


def test_wrong_usage_has_its_exit_code(capsys: Any) -> None:
    assert main(["machine", "list", "extra"]) == USAGE
    assert main(["machine", "show", "M4", "--from", "d", "--force"]) == USAGE
    assert capsys.readouterr().err.count("error[usage]") == 2
