"""`mlspec build`: check specs and write their bundles."""

from __future__ import annotations

import sys
from argparse import Namespace

from mlspec import pipeline
from mlspec.cli import FAILED
from mlspec.commands import spec_files, surroundings, tell
from mlspec.diagnostics import Report

_WRITING = ("write-failed",)


def run(options: Namespace) -> int:
    here, report = surroundings(options), Report()
    out = options.out.absolute() if options.out else None
    for folder in pipeline.build(spec_files(options.specs), here, out, report, options.target):
        if options.output_format in ("text", "concise"):
            print(here.shown(folder))
            sys.stdout.flush()
    code = tell(report, options, to_stdout=False)
    return FAILED if any(found.code in _WRITING for found in report) else code
