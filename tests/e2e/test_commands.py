"""`mlspec serve` and `mlspec test` as a user runs them, with the tiny model."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlspec.serving import ask, free_port
from projects import example

pytestmark = pytest.mark.e2e

MLSPEC = [sys.executable, "-m", "mlspec"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return example(tmp_path / "a project")


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MLSPEC, *arguments], cwd=project, capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def serving(project: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mlspec serve` of the example, once it is healthy; what is left of it is killed at the end."""
    port = free_port()
    command = [*MLSPEC, "serve", "specs/lora.yaml", "--port", str(port), *arguments]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(1200):
                answer = ask(f"{url}/health")
                if answer is not None and answer.status == 200:
                    break
                assert process.poll() is None
                time.sleep(0.1)
            yield process, url
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def workers(project: Path) -> list[str]:
    """Command lines of processes that serve a bundle of this project."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            inside = str((folder / "cwd").readlink()).startswith(str(project))
        except OSError:
            continue
        if inside and "bentoml" in command:
            found.append(command)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_answers_and_ends_clean(project: Path, number: int) -> None:
    with serving(project) as (process, url):
        answer = ask(f"{url}/predict", {"prompt": "Where is my order?"})
        assert answer is not None
        assert answer.body["text"].startswith("Thank you for asking!")
        assert workers(project)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"serving build/example/support-lora/linux at {url} (Ctrl-C ends it)" in stderr
        assert "Traceback" not in stderr
    assert not workers(project)


def test_serve_listens_on_loopback_only(project: Path) -> None:
    with serving(project) as (_, url):
        port = int(url.rpartition(":")[2])
        listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
        addresses = [line.split()[1] for line in listening if line.split()[3] == "0A"]
        assert [a for a in addresses if int(a.partition(":")[2], 16) == port] == [f"0100007F:{port:04X}"]


def test_serve_on_a_port_that_is_taken(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(project, "serve", "specs/lora.yaml", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 3
    assert done.stderr.startswith("error[port-taken]: can't listen at 127.0.0.1")


@pytest.mark.parametrize("command", ["serve", "test"])
def test_what_must_be_set_is_asked_for_before_anything_starts(
    project: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = project / "specs/lora.yaml"
    text = spec.read_text()
    assert "\nservice:\n" in text
    spec.write_text(
        text.replace("\nservice:\n", "\nservice:\n  auth: {api_key_env: SHOP_KEY}\n  env: [{name: REGION}]\n")
    )
    for name in ("SHOP_KEY", "REGION"):
        monkeypatch.delenv(name, raising=False)
    done = run(project, command, "specs/lora.yaml")
    error = "error[environment-missing]: not set in the environment: REGION, SHOP_KEY\n  help: set it and start again\n"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(error)
    assert "serving" not in done.stderr
    monkeypatch.setenv("REGION", "north")
    monkeypatch.setenv("SHOP_KEY", "short")
    short = run(project, command, "specs/lora.yaml")
    assert short.returncode == 1
    assert "error[environment-missing]: SHOP_KEY holds a key of fewer than 8 characters" in short.stderr


def test_test_prints_each_test_with_its_latency(project: Path) -> None:
    done = run(project, "test", "specs/lora.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^passed  answers  \d+ ms\n +'Thank you for asking!", done.stdout, re.M)
    assert done.stdout.endswith("3 passed, 0 failed\n")
    assert not workers(project)


def test_a_test_that_fails_says_how(project: Path) -> None:
    spec = project / "specs/lora.yaml"
    spec.write_text(spec.read_text().replace("finish_reason: stop, max_latency_s: 30", "contains: Napoleon"))
    done = run(project, "test", "specs/lora.yaml")
    assert done.returncode == 1
    assert "FAILED  answers" in done.stdout
    assert "the text lacks 'Napoleon'" in done.stdout
    assert done.stdout.endswith("2 passed, 1 failed\n")


FAILING = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: failing, project: p}
model:
  runner: python
  module: own.py
  class: Own
  inputs: [{name: x, shape: [batch]}]
  outputs: [{name: y, shape: [batch]}]
targets: [{name: here, platform: linux}]
tests:
  - {predict: {inputs: {x: [1]}}, expect: {status: STATUS}}
"""


@pytest.mark.parametrize(("status", "is_told"), [(200, True), (500, False)])
def test_what_the_models_code_raises_is_shown(project: Path, status: int, is_told: bool) -> None:
    """Unless it was expected."""
    (project / "own.py").write_text("class Own:\n    def predict(self, inputs): raise OSError('the disk is full')\n")
    (project / "specs/failing.yaml").write_text(FAILING.replace("STATUS", str(status)))
    done = run(project, "test", "specs/failing.yaml")
    assert done.returncode == int(is_told)
    assert "the model's code failed" in done.stdout
    assert ("OSError: the disk is full" in done.stderr) == is_told


def test_a_spec_without_tests(project: Path) -> None:
    spec = project / "specs/lora.yaml"
    spec.write_text(spec.read_text().partition("tests:")[0])
    done = run(project, "test", "specs/lora.yaml")
    assert (done.returncode, done.stderr.splitlines()[0]) == (1, "error[no-tests]: specs/lora.yaml has no tests")


def test_no_target_for_this_computer(project: Path) -> None:
    done = run(project, "serve", "specs/lora.yaml", "--target", "mac")
    assert done.returncode == 1
    assert done.stderr.startswith("error[no-target-here]: no target of this spec fits this computer (linux")


def test_a_service_that_cannot_start_says_why(project: Path) -> None:
    """BentoML's configuration isn't there: the test ends at once, with the service's own words."""
    environment = {**os.environ, "BENTOML_CONFIG": str(project / "nowhere.yaml")}
    command = [*MLSPEC, "test", "specs/lora.yaml"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3
    assert "error[service-ended]" in done.stderr
    assert "nowhere.yaml" in done.stderr
