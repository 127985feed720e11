"""What the model of a bundle takes and needs by the rows of its batches, measured by the bundle's own runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mlspec.commands.test import tail
from mlspec.errors import CommandError
from mlspec.model.calibration import KIND, Calibration, Point

ROWS = (1, 2, 4, 8, 16, 32, 64)
_MODULE = "mlspec_runtime.predict.calibrate"
_HEAD = """\
# Written by `mlspec bench {spec} --calibrate`: how long batches of the spec's model take, and what memory they need.
# The plan takes the size of batches from it. Commit it, and measure again when the model changes.
"""


def points(bundle: Path, body: Mapping[str, Any], say: Callable[[str], None]) -> tuple[Point, ...]:
    """Measure in a process of its own, from one row up to 64, or until memory or patience ends.

    Raises:
        CommandError: not even one row could be computed.
    """
    command = [sys.executable, "-m", _MODULE, ",".join(map(str, ROWS))]
    found: list[Point] = []
    with TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - an argument list of our own
            command,
            cwd=bundle,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes
            process.stdin.write(json.dumps(body))
            process.stdin.close()
            for line in process.stdout:
                told = json.loads(line)
                if problem := told.get("problem"):
                    say(f"batches of {told['rows']} were left out: {problem}\n")
                    break
                found.append(Point(**told))
                say(f"{told['rows']} rows: {told['seconds'] * 1e3:.3g} ms")
        if not found:
            sys.stderr.write(tail(log))
            raise CommandError("not-calibrated", "the model computed nothing that could be measured", failed=True)
    return tuple(found)


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    # The command line's own setting: a model's code may have plugins.
    environment.pop("PYDANTIC_DISABLE_PLUGINS", None)
    return environment


def calibration_text(spec: str, measured: Sequence[Calibration]) -> str:
    """The file's text: YAML in flow style, a line for each number of rows."""
    head = json.dumps(spec)[1:-1]
    entries = ",\n".join(_entry(one) for one in sorted(measured, key=lambda one: one.target))
    front = {"apiVersion": "mlspec/v1", "kind": KIND, "spec": spec}
    lines = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in front.items())
    return f'{_HEAD.format(spec=head)}{{\n{lines}  "targets": [\n{entries}\n  ]\n}}\n'


def _entry(one: Calibration) -> str:
    data = one.as_data()
    rows = ",\n".join(f"        {json.dumps(point)}" for point in data.pop("points"))
    lines = "".join(f"      {json.dumps(key)}: {json.dumps(value)},\n" for key, value in data.items())
    return f'    {{\n{lines}      "points": [\n{rows}\n      ]\n    }}'
