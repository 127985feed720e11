"""This computer: what a Mac's commands answered, Linux' own files, and the real one that runs the tests."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlspec.hardware.asking import Answer, ask
from mlspec.hardware.detect import mac_fields, this_computer, this_mac
from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.fields import with_row
from mlspec.hardware.linux import linux_fields
from mlspec.hardware.machines import mac_of

SAMPLES = Path(__file__).parent / "samples"
SYSCTL = (SAMPLES / "sysctl-m2-max-64gb.txt").read_text(encoding="utf-8")
PROFILER = json.dumps({"SPDisplaysDataType": [{"sppci_model": "Apple M2 Max", "sppci_cores": "38"}]})
DEVICE = json.dumps({"device_name": "Apple M2 Max", "max_recommended_working_set_size": 55662788608})
GIB = 2**30


class Recorded:
    """Answers by the name of the program, as they were recorded; others aren't there."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers

    def __call__(self, command: Sequence[str], timeout_s: float) -> Answer:
        assert timeout_s > 0
        return self.answers.get(Path(command[0]).name.split(".")[0].replace("-", "_"), Answer(trouble="not there"))


def recorded(**outputs: str) -> Recorded:
    """`python` is the process that asks MLX."""
    renamed = {Path(sys.executable).name.split(".")[0] if k == "python" else k: v for k, v in outputs.items()}
    return Recorded(**{name: Answer(output, 0) for name, output in renamed.items()})


def test_a_mac() -> None:
    reading = this_mac(recorded(sysctl=SYSCTL, system_profiler=PROFILER, python=DEVICE))
    found = mac_of(with_row(mac_fields(reading)))
    assert found.machine.title == "MacBook Pro 16 2023, M2 Max, 64 GB"
    assert found.machine.working_set_bytes == 55662788608
    assert found.machine.origins["working_set_bytes"] == "here:mx.device_info"
    assert found.machine.origins["memory_bytes"] == "here:sysctl"
    assert found.machine.origins["chip.gpu_cores"] == "here:system_profiler"
    assert found.machine.origins["cooling"] == "data:machines/Mac14,6/cooling"


def test_a_mac_without_mlx_and_with_a_sysctl_that_knows_not_all_names() -> None:
    answers = Recorded(sysctl=Answer(SYSCTL, 1, "unknown oid 'iogpu.wired_limit_mb'"))
    found = mac_of(with_row(mac_fields(this_mac(answers))))
    assert found.machine.origins["working_set_bytes"] == "data:working_set/macos-26/64-95"
    assert found.warnings == ()


def test_an_intel_mac() -> None:
    with pytest.raises(UnreadableError, match="no Mac with Apple Silicon"):
        this_mac(recorded(sysctl=(SAMPLES / "sysctl-intel-macbookpro.txt").read_text(encoding="utf-8")))


def test_a_mac_that_says_nothing() -> None:
    with pytest.raises(UnreadableError, match="names the Mac's chip"):
        mac_fields(this_mac(Recorded()))


def linux(root: Path, files: dict[str, str], ask: Recorded | None = None) -> dict[str, object]:
    for name, text in {"proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return {name: value for name, (value, _) in linux_fields(ask or Recorded(), root).items() if name != "cpus"}


@pytest.mark.parametrize(
    ("files", "memory_gb"),
    [
        ({}, 16),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4294967296\n"}, 4),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "2147483648\n"}, 2),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 16),
        ({"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "1073741824\n"}, 1),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "8589934592\n",
                "sys/fs/cgroup/a/memory.max": "3221225472\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "5:cpu,memory:/docker/x\n0::/\n",
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "5368709120\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            5,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "rubbish"}, 16),
        ({"proc/self/cgroup": "rubbish\n::\n"}, 16),
    ],
)
def test_the_memory_that_linux_lets_us_have(tmp_path: Path, files: dict[str, str], memory_gb: float) -> None:
    assert linux(tmp_path, files) == {"memory_gb": memory_gb}


def test_a_linux_that_does_not_say_how_much_memory_it_has(tmp_path: Path) -> None:
    assert linux(tmp_path, {"proc/meminfo": "MemFree: 1 kB\n"}) == {}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer("81559\n", 0), 81559 / 1024),
        (Answer("143771\n24564\n", 0), 24564 / 1024),
        (Answer("[N/A]\n", 0), None),
        (Answer("", 0), None),
        (Answer("81559\n", 9), None),
    ],
)
def test_an_nvidia_gpu(tmp_path: Path, answer: Answer, expected: float | None) -> None:
    assert linux(tmp_path, {}, Recorded(nvidia_smi=answer)).get("gpu_memory_gb") == expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks at this computer")
def test_this_computer() -> None:
    machine = this_computer().machine
    assert machine.chip is None
    assert machine.cpus == len(os.sched_getaffinity(0))
    assert 0 < machine.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_program_that_never_ends_its_output_is_stopped() -> None:
    assert ask([sys.executable, "-c", "while True: print('1.2.3')"], 60) == Answer(
        trouble="it printed more than 64 KiB"
    )
    assert ask(["/bin/sh", "-c", "yes >&2"], 60) == Answer(trouble="it printed more than 64 KiB")


def test_a_program_that_leaves_another_behind(tmp_path: Path) -> None:
    """What holds the streams open, or sleeps on, neither keeps us waiting nor stays."""
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    assert ask(["/bin/sh", "-c", f"exec 3>{tmp_path}/held; sleep 600 & echo x"], 30) == Answer("x\n", 0)
    assert select.select([held], [], [], 60)[0], "the sleeper still holds the pipe"
    assert os.read(held, 1) == b""
    os.close(held)
    assert ask(["/bin/sh", "-c", "sleep 60; true"], 0.3) == Answer(trouble="it didn't answer within 0.3 s")
    assert ask(["/bin/sh", "-c", "exec >&- 2>&-; sleep 60"], 0.3).trouble == "it didn't answer within 0.3 s"


def test_asking_a_program() -> None:
    assert ask([sys.executable, "-c", "print('x')"], 60) == Answer("x\n", 0)
    assert ask([sys.executable, "-c", "import sys; print('x'); sys.exit('a\\nwhy')"], 60) == Answer("x\n", 1, "why")
    assert ask([sys.executable, "-c", "import os; os.abort()"], 60).status == -6
    assert ask([sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xff')"], 60).output == "\ufffd"
    assert ask([sys.executable, "-c", "import sys; print(sys.stdin.read())"], 60).output == "\n"
    assert ask(["/no/such/program"], 60) == Answer(trouble="no such file or directory")
    assert ask([sys.executable, "-c", "import time; time.sleep(60)"], 0.2) == Answer(
        trouble="it didn't answer within 0.2 s"
    )
