"""`mlspec check`: everything that `build` does, but for writing."""

from __future__ import annotations

from argparse import Namespace

from mlspec import pipeline
from mlspec.commands import spec_files, surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report


def run(options: Namespace) -> int:
    report = Report()
    here = surroundings(options)
    pipeline.check(Progress(spec_files(options.specs)), here, report)
    return tell(report, options, to_stdout=True)
