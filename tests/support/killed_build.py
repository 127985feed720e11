"""`mlspec build specs/lora.yaml`, killed just before the Nth call that changes the disk: killed_build.py N"""

from __future__ import annotations

import os
import sys

from write_bundles import CALLS, Killer

import mlspec.pipeline  # noqa: F401 - imported before the calls are counted
from mlspec.cli import main
from mlspec.passes import package as package_pass

if __name__ == "__main__":
    killer = Killer(int(sys.argv[1]))
    for name in (*CALLS, "link", "replace"):
        setattr(os, name, killer.watch(getattr(os, name)))
    package_pass.exchange = killer.watch(package_pass.exchange)  # type: ignore[attr-defined]
    sys.exit(main(["build", "specs/lora.yaml"]))
