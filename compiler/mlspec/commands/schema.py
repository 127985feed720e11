"""`mlspec schema`: print a JSON Schema."""

from __future__ import annotations

import sys
from argparse import Namespace

from mlspec.exit_codes import OK
from mlspec.resources import folder


def run(options: Namespace) -> int:
    sys.stdout.write((folder("schema") / f"{options.kind}.schema.json").read_text(encoding="utf-8"))
    return OK
