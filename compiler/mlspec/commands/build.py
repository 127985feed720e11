"""`mlspec build`: check specs and write their bundles."""

from __future__ import annotations

import sys
from argparse import Namespace

from mlspec import pipeline
from mlspec.commands import spec_files, surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report
from mlspec.exit_codes import FAILED

_WRITING = ("write-failed", "output-taken")
"""Codes of the package pass: the specs were fine, the build failed."""


def run(options: Namespace) -> int:
    here, report = surroundings(options), Report()
    out = options.out.absolute() if options.out else None
    progress = Progress(spec_files(options.specs))
    for folder in pipeline.build(progress, here, out, report, options.target):
        progress.clear()
        if options.output_format in ("text", "concise"):
            sys.stdout.write(f"{here.shown(folder)}\n")
            sys.stdout.flush()
    code = tell(report, options, to_stdout=False)
    return FAILED if any(found.code in _WRITING for found in report) else code
