"""`mlspec build`: check specs and write their bundles."""

from __future__ import annotations

import sys
from argparse import Namespace

from mlspec import pipeline
from mlspec.commands import spec_files, surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report


def run(options: Namespace) -> int:
    here, report = surroundings(options), Report()
    out = options.out.absolute() if options.out else None
    progress = Progress(spec_files(options.specs))
    with_models = not options.no_models
    for folder in pipeline.build(progress, here, out, report, options.target, models=with_models, say=progress.say):
        progress.clear()
        if options.output_format in ("text", "concise"):
            sys.stdout.write(f"{here.shown(folder)}\n")
            sys.stdout.flush()
    return tell(report, options, to_stdout=False)
