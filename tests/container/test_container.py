"""The Dockerfile that a build writes: it builds, and its image serves, shows and holds what it should.

`MLSPEC_CONTAINER_TESTS=off` leaves these tests out; everywhere else a machine that can't run them fails them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from container.conftest import ROOT, SECRET, Measure, build_bundle, build_image
from container.engine import Engine
from container.machine import hadolint
from mlspec.serving import ask, free_port

pytestmark = pytest.mark.container

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 10
"""What `docker stop` waits by itself before it kills."""
USER_ID = "10001"
MEMORY_LIMIT = "768m"
MAX_MEMORY_BYTES = 500_000_000
MAX_SERVICE_BYTES = 600_000_000
"""What the service may add to its base image: measured are 420 MB."""

_CHECKED_HASH = 0b11
"""The flags of byte code that is valid as long as the source's content is the same."""

HOSTILE = [
    "",
    " ",
    " a  b ",
    "it's",
    'say "hi"',
    '"',
    "'",
    "\\",
    "\\\\",
    "ends with \\",
    '\\"',
    "\\n",
    "$HOME",
    "${HOME}",
    "${HOME:-x}",
    "$$",
    "\\$HOME",
    "$(id)",
    "`id`",
    "a=b c=d",
    "# none",
    "a # b",
    '{"a": [1]}',
    "[x]",
    "<<EOF",
    "--x",
    "&& id",
    "; id",
    "| id",
    "%s %(x)s",
    "{{ x }}{% x %}",
    "*",
    "~",
    "é ü \u6f22\u5b57 \U0001f34e",
    "a\u00a0b",
    "\u2019",
]


@dataclass(frozen=True)
class Service:
    """A running container, and where it listens."""

    containers: Engine
    name: str
    port: int

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.containers.podman("inspect", "--format", "{{json .State}}", self.name)))

    def check_health(self) -> bool:
        """Run the image's health check."""
        return self.containers.attempt("healthcheck", "run", self.name).returncode == 0

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command in the container."""
        return self.containers.attempt("exec", self.name, *command)

    def logs(self) -> str:
        done = self.containers.attempt("logs", self.name)
        return done.stdout + done.stderr

    def wait(self, told: str) -> None:
        """Until the log has this."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while told not in self.logs():
            assert self.state()["Running"], self.logs()
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.3)

    def stop(self) -> float:
        """As `docker stop` does; the seconds that it took."""
        began_at = time.monotonic()
        self.containers.podman("stop", "--time", str(STOP_TIMEOUT_S), self.name)
        return time.monotonic() - began_at


@contextmanager
def started(containers: Engine, image: str, *options: str, port: int = 3000) -> Iterator[Service]:
    """A container without rights and with nothing to write to but /tmp."""
    bounds = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    bounds += ["--memory", MEMORY_LIMIT, "--memory-swap", MEMORY_LIMIT]
    name = containers.podman("run", "--detach", *bounds, *options, image).split()[-1]
    try:
        yield Service(containers, name, port)
    finally:
        containers.podman("rm", "--force", "--time", "1", name)


@pytest.fixture(scope="module")
def service(containers: Engine, image: str, models: Path, measure: Measure) -> Iterator[Service]:
    """The image on the host's network, so that the tests reach it: at loopback alone, at a free port."""
    port = free_port()
    options = ["--network", "host", "--env", "HOST=127.0.0.1", "--env", f"PORT={port}"]
    began_at = time.monotonic()
    with started(containers, image, *options, "--volume", f"{models}:/models:ro", port=port) as made:
        made.wait("is ready")
        measure(f"ready {time.monotonic() - began_at:.1f} s after its start")
        yield made


def predict(service: Service, **body: Any) -> dict[str, Any]:
    answer = ask(f"http://127.0.0.1:{service.port}/predict", body)
    assert answer is not None
    assert answer.status == 200, answer.body
    return dict(answer.body)


def test_the_model_answers_with_its_adapter(service: Service) -> None:
    answer = predict(service, prompt="Where is my order?")
    assert answer["adapter"] == "support"
    assert answer["text"] == "Thank you for asking! Your order is on its way and arrives within two days."
    assert answer["finish_reason"] == "stop"
    assert predict(service, prompt="Where is my order?", adapter="base")["text"] != answer["text"]


def test_the_health_check_passes(service: Service) -> None:
    assert service.check_health()
    # Nothing listens there: a check that asks a port of its own choice would be about some other server.
    assert service.run("env", f"PORT={free_port()}", *health_command(service)).returncode != 0


def health_command(service: Service) -> list[str]:
    found = service.containers.podman("inspect", "--format", "{{json .Config.Healthcheck.Test}}", service.name)
    kind, *command = json.loads(found)
    assert kind == "CMD"
    return list(command)


def test_it_runs_without_rights(service: Service) -> None:
    process = Path("/proc", str(service.state()["Pid"]), "status").read_text()
    assert re.search(rf"^Uid:\t{USER_ID}\t{USER_ID}\t{USER_ID}\t{USER_ID}$", process, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", process, re.MULTILINE)
    # The server itself, not a shell around it, or the signal to stop would not reach it.
    assert service.run("cat", "/proc/1/comm").stdout == "bentoml\n"
    assert service.run("touch", "/models/x").returncode != 0


def test_it_needs_little_memory(service: Service, measure: Measure) -> None:
    predict(service, prompt="Where is my order?")
    found = service.containers.podman("stats", "--no-stream", "--format", "{{.MemUsageBytes}}", service.name)
    number, unit = re.fullmatch(r"([\d.]+)(MiB|GiB) / .*", found.strip()).groups()  # type: ignore[union-attr]
    memory_bytes = float(number) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit]
    measure(f"{memory_bytes / 1e6:.0f} MB of memory")
    assert memory_bytes < MAX_MEMORY_BYTES
    assert not service.state()["OOMKilled"]


def test_it_stops_when_told(service: Service, measure: Measure) -> None:
    """The last that this container does."""
    stop_s = service.stop()
    measure(f"stopped in {stop_s:.1f} s")
    assert stop_s < STOP_TIMEOUT_S
    assert service.state()["ExitCode"] == 0, service.logs()


def test_by_itself_it_listens_everywhere_and_says_what_is_missing(containers: Engine, image: str) -> None:
    """Without models, in a network of its own, where all interfaces are the container's."""
    with started(containers, image, "--network", "none") as service:
        service.wait("not ready")
        assert not service.check_health()
        assert "model 'base'" in service.logs()
        sockets = service.run("cat", "/proc/net/tcp").stdout
        assert f" 00000000:{3000:04X} 00000000:0000 0A " in sockets
        assert service.stop() < STOP_TIMEOUT_S
        assert service.state()["ExitCode"] == 0, service.logs()


def test_the_image_holds_the_service_and_nothing_else(containers: Engine, image: str) -> None:
    with containers.files(image) as root:
        assert sorted(path.name for path in (root / "service").iterdir()) == [
            "__pycache__",
            "mlspec_runtime",
            "plan.json",
            "requirements.txt",
            "service.py",
        ]
        names = {path.name for path in (root / "service").rglob("*")}
        assert not {name for name in names if name.endswith((".safetensors", ".env"))}
        assert not (root / "opt/service/bin/pip").exists()
        assert not (root / "root/.cache").exists()
        assert not list((root / "var/lib/apt/lists").glob("*"))
        assert not list((root / "var/cache/apt").rglob("*.deb"))
        assert not list((root / "tmp").iterdir())


def test_no_secret_is_in_the_image(containers: Engine, image: str) -> None:
    assert SECRET not in json.dumps(containers.inspect(image))
    with containers.files(image) as root:
        search = ["grep", "--recursive", "--devices=skip", "--files-with-matches", "--fixed-strings", "--regexp"]
        assert subprocess.run([*search, "bentoml==", str(root / "service")], check=False).returncode == 0
        found = subprocess.run([*search, SECRET, str(root)], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")


def test_anybody_can_read_the_service_and_only_root_change_it(containers: Engine, image: str) -> None:
    """The bundle was private to its owner, and the image may run under any number."""
    with containers.files(image) as root:
        for path in (root / "service", *(root / "service").rglob("*")):
            found = path.stat()
            assert found.st_uid == 0, path
            assert found.st_mode & 0o7777 == (0o755 if path.is_dir() else 0o644), path


def test_byte_code_is_valid_whatever_the_dates(containers: Engine, image: str) -> None:
    with containers.files(image) as root:
        compiled = [*(root / "service").rglob("*.pyc"), *(root / "opt/service/lib").rglob("*.pyc")]
        assert len(compiled) > 1000
        assert not [path for path in compiled if _flags(path) != _CHECKED_HASH]
        for source in (root / "service").rglob("*.py"):
            assert (source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc").exists(), source


def _flags(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(8)[4:], "little")


def test_the_size_is_sane(containers: Engine, image: str, bundle: Path) -> None:
    base = re.findall(r"^FROM (\S+)", (bundle / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert containers.size_bytes(image) - containers.size_bytes(base) < MAX_SERVICE_BYTES


def test_what_the_image_says_of_itself(containers: Engine, image: str) -> None:
    said = containers.inspect(image)["config"]
    assert said["User"] == USER_ID
    assert said["WorkingDir"] == "/service"
    assert said["ExposedPorts"] == {"3000/tcp": {}}
    assert said["StopSignal"] == "SIGTERM"
    assert said["Labels"]["team"] == "support"
    assert {"HOST=0.0.0.0", "PORT=3000", "MLSPEC_MODELS=/models", "BENTOML_DO_NOT_TRACK=true"} <= set(said["Env"])


def test_hadolint_is_quiet(bundle: Path, cache: Path) -> None:
    """Each exception is named where it stands, with its reason: DL3008, versions of Debian's packages."""
    command = [hadolint(cache), "--no-color", "--failure-threshold", "ignore", str(bundle / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.findall("hadolint ignore=(.*)", (bundle / "Dockerfile").read_text()) == ["DL3008"]


def test_the_dockerfile_needs_no_buildkit(bundle: Path) -> None:
    """The classic builder, and an older buildah, know none of these; `# syntax=` would fetch a front end."""
    text = (bundle / "Dockerfile").read_text()
    assert not re.findall(r"^#\s*(?:syntax|escape|check)\s*=.*|<<-?\w+|--(?:mount|chmod|link|parents)\b", text)
    known = {"FROM", "ARG", "COPY", "RUN", "WORKDIR", "ENV", "LABEL", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    joined = text.replace("\\\n", " ")
    instructions = {line.split()[0] for line in joined.splitlines() if line and not line.startswith("#")}
    assert instructions <= {*known, "CMD"}


@pytest.fixture(scope="module")
def hostile_image(containers: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image whose labels and environment would do harm if anything read them; most layers are those of `image`."""
    project = tmp_path_factory.mktemp("hostile")
    shutil.copytree(ROOT / "specs/models", project / "models")
    variables = [{"name": f"HOSTILE_{n}", "value": value} for n, value in enumerate(HOSTILE)]
    spec = {
        "apiVersion": "mlspec/v1",
        "kind": "ModelService",
        "metadata": {
            "name": "hostile",
            "project": "container",
            "description": "\\ $(id) `id` \"'",
            "labels": {f"hostile/{n}": value for n, value in enumerate(HOSTILE)},
        },
        "model": {
            "runner": "lora",
            "base": {"path": "models/tiny"},
            "adapters": [{"name": "support", "path": "models/tiny-support"}],
        },
        "service": {"env": [*variables, {"name": "API_KEY"}]},
        "targets": [{"name": "linux", "platform": "linux"}],
    }
    (project / "mlspec.yaml").write_text("{apiVersion: mlspec/v1, kind: Project}\n")
    (project / "hostile.yaml").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")  # JSON is YAML
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_KEY", SECRET)
        bundle = build_bundle(project, "hostile.yaml", project / "build")
        return build_image(containers, bundle, "hostile:linux")


def test_hostile_labels_and_variables_come_out_as_they_are(containers: Engine, hostile_image: str) -> None:
    said = containers.inspect(hostile_image)["config"]
    assert {key: value for key, value in said["Labels"].items() if key.startswith("hostile/")} == {
        f"hostile/{n}": value for n, value in enumerate(HOSTILE)
    }
    assert sorted(text for text in said["Env"] if text.startswith("HOSTILE_")) == sorted(_assignments())
    seen = containers.podman("run", "--rm", "--network", "none", hostile_image, "env", "--null").split("\0")
    assert set(_assignments()) <= set(seen)


def _assignments() -> list[str]:
    return [f"HOSTILE_{n}={value}" for n, value in enumerate(HOSTILE)]


def test_a_variable_without_a_value_is_asked_for_and_never_kept(containers: Engine, hostile_image: str) -> None:
    assert os.environ.get("API_KEY") != SECRET
    said = json.dumps(containers.inspect(hostile_image))
    assert SECRET not in said
    assert "API_KEY" not in said
    refused = containers.attempt("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", hostile_image)
    assert refused.returncode != 0
    assert "API_KEY" in refused.stdout + refused.stderr
