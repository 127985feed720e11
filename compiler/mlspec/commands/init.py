"""`mlspec init`: write a commented spec for a model's folder, or the example."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import surroundings
from mlspec.errors import CommandError
from mlspec.exit_codes import OK, USAGE
from mlspec.starting import Written
from mlspec.workspace import Surroundings


def run(options: Namespace) -> int:
    here = surroundings(options)
    if options.example and (options.out is not None or options.name is not None):
        wrong = CommandError("usage", "--example takes no -o and no --name", "mlspec init --example [DIR]")
        sys.stderr.write(wrong.text())
        return USAGE
    written = _example(options.model, here) if options.example else _spec(options, here)
    for path in written.paths:
        print(here.shown(path))
    for message in written.messages:
        sys.stderr.write(f"{message}\n")
    return OK


def _example(folder: Path | None, here: Surroundings) -> Written:
    from mlspec.starting.example import write_example

    return write_example(here.working_folder / folder if folder else here.working_folder, here.shown)


def _spec(options: Namespace, here: Surroundings) -> Written:
    from mlspec.starting.first_spec import Start, write_spec

    return write_spec(options.model, Start(here.working_folder, here.hub_cache), options.out, options.name)
