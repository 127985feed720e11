"""A base image like Docker's `python:X.Y-slim-SUITE`, made of Debian's packages: no registry is asked.

The root filesystem is made once and kept, by the hash of its recipe.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import tempfile
from pathlib import Path

from container.machine import MachineError, apt_settings, output

_PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip"
_NAME = re.compile(r"python:(?P<python>3\.\d+)-slim-(?P<suite>[a-z]+)")


def recipe(image: str) -> list[str]:
    """The options of mmdebstrap for an image's name. Raises MachineError for one that Debian can't stand in for."""
    found = _NAME.fullmatch(image)
    if found is None:
        raise MachineError(f"no stand-in for the base image {image}")
    python = found["python"]
    hooks = (
        # As in Docker's image: `python` and `pip` are its own, of this version, and pip may install.
        f'test -x "$1/usr/bin/python{python}" && ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
        f'rm -f "$1/usr/lib/python{python}/EXTERNALLY-MANAGED"',
        # mmdebstrap copied them from this machine.
        ': > "$1/etc/resolv.conf" && : > "$1/etc/hosts" && : > "$1/etc/hostname"',
    )
    options = ["--quiet", "--variant=minbase", f"--include={_PACKAGES}"]
    return [*options, *(f"--customize-hook={hook}" for hook in hooks), found["suite"]]


def root_filesystem(image: str, cache: Path) -> Path:
    """The tar file of an image's root filesystem, from the cache or made now (about a minute)."""
    options, apt = recipe(image), apt_settings()
    key = hashlib.sha256(json.dumps([options, apt, platform.machine()]).encode()).hexdigest()[:16]
    kept = cache / f"root-filesystem-{key}.tar"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            settings = Path(made, "apt.conf")
            settings.write_text(apt)
            output(["mmdebstrap", f"--aptopt={settings}", *options, f"{made}/root.tar"])
            Path(made, "root.tar").replace(kept)
    return kept
