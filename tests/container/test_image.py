"""What the image of specs/lora.yaml holds, and what its Dockerfile is made of."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from container.conftest import SECRET
from container.engine import Engine
from container.machine import hadolint

pytestmark = pytest.mark.container

USER_ID = "10001"
MAX_SERVICE_BYTES = 600_000_000
"""What the service may add to its base image: measured are 420 MB."""

_CHECKED_HASH = 0b11
"""The flags of byte code that is valid as long as the source's content is the same."""


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
