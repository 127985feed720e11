"""buildah and podman with a storage of their own, which is emptied at the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from container.machine import named_paths, output, pip_settings

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
_ENGINE = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{folder}/podman"
"""
# The default limits are above what some hosts allow, and then no container starts.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:20000", "nproc=4096:4096"]
http_proxy = {proxy}
volumes = {volumes}
"""


@dataclass(frozen=True)
class Engine:
    """The commands, with the configuration in `folder`."""

    folder: Path

    def build(self, *arguments: str) -> str:
        """buildah, with this machine's pip settings mounted into every RUN."""
        return output(["buildah", *arguments], self._environment("build.conf"))

    def podman(self, *arguments: str) -> str:
        """podman, with nothing of this machine in its containers but what the arguments mount."""
        return output(["podman", *arguments], self._environment("run.conf"))

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """podman where a failure is an answer."""
        command = ["podman", *arguments]
        environment = self._environment("run.conf")
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def inspect(self, image: str) -> dict[str, Any]:
        """What an image says of itself, in Docker's form."""
        return dict(json.loads(self.build("inspect", "--type", "image", image))["Docker"])

    def size_bytes(self, image: str) -> int:
        """All files of an image's layers."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image))

    @contextmanager
    def files(self, image: str) -> Iterator[Path]:
        """The root folder of an image, mounted to be read."""
        try:
            yield Path(self.podman("image", "mount", image).strip())
        finally:
            self.podman("image", "unmount", image)

    def _environment(self, configuration: str) -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "CONTAINERS_CONF": str(self.folder / configuration),
            "TMPDIR": str(self.folder / "tmp"),
            # No daemon and no user namespace; and Docker's format, as the other one has no health check.
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_FORMAT": "docker",
        }


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine with an empty storage; all that it made is gone at the end."""
    # Not pytest's folder: its path is too long for podman's sockets, and pytest keeps it for three runs.
    folder = Path(tempfile.mkdtemp(prefix="mlspec-images-"))
    made = Engine(folder)
    try:
        _configure(folder)
        try:
            yield made
        finally:
            made.podman("rm", "--force", "--all", "--time", "1")
            made.build("rm", "--all")
            made.build("rmi", "--all", "--force")
    finally:
        _unmount_below(folder)
        shutil.rmtree(folder)


def _configure(folder: Path) -> None:
    for name in ("storage", "run", "podman", "tmp"):
        (folder / name).mkdir()
    settings = pip_settings()
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{k} = {v}\n" for k, v in settings.items()))
    mounted = {path: path for path in named_paths(settings)} | {folder / "pip.conf": Path("/etc/pip.conf")}
    volumes = [f"{here}:{there}:ro" for here, there in mounted.items()]
    _write_configuration(folder / "build.conf", volumes)
    _write_configuration(folder / "run.conf", [])
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
    (folder / "registries.conf").write_text("unqualified-search-registries = []\n")


def _write_configuration(path: Path, volumes: Sequence[str]) -> None:
    containers = _CONTAINERS.format(volumes=json.dumps(volumes), proxy=json.dumps(bool(volumes)))
    path.write_text(containers + _ENGINE.format(folder=path.parent))


def _unmount_below(folder: Path) -> None:
    """What a container that was killed left mounted; innermost first."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{folder}/")]):
        output(["umount", "--lazy", mount])
