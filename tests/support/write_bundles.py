"""Write a bundle whose files all hold the same text: write_bundles.py OUT TEXT exchange|renames [N|forever]

With N, this process kills itself just before the Nth call that changes the disk; `forever` writes on and on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlspec import exchange
from mlspec.diagnostics import Report
from mlspec.model.bundle import Bundle
from mlspec.passes import package as package_pass

CALLS = ("mkdir", "open", "write", "symlink", "rename", "rmdir", "unlink")


class Killer:
    """Counts the calls that change the disk and kills the process before the one that was asked for."""

    def __init__(self, fatal: int) -> None:
        self.left = fatal

    def watch(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return watched


def main(out: Path, text: str, swap: str, until: str = "0") -> None:
    if swap == "renames":
        exchange._swap_call = lambda: None
    if until.isdecimal():
        killer = Killer(int(until))
        for name in CALLS:
            setattr(os, name, killer.watch(getattr(os, name)))
        package_pass.exchange = killer.watch(package_pass.exchange)  # type: ignore[attr-defined]
    model = out.parent
    number = 0
    while True:
        number += 1
        content = f"{text} {number}" * 5000
        names = [f"part{n}/file{n}.txt" for n in range(11)]
        plan = json.dumps({"files": names, "text": content}).encode()
        report = Report()
        files = {**dict.fromkeys(names, content.encode()), "plan.json": plan}
        bundle = Bundle("project/name/target", files, {"models/base": model})
        assert package_pass.package(bundle, out, report), list(report)
        if until != "forever":
            return
        sys.stdout.write(".")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
