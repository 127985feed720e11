"""`mlspec init`: write a commented spec for a model's folder, or the example."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import surroundings
from mlspec.errors import CommandError
from mlspec.exit_codes import OK
from mlspec.starting import Written


def run(options: Namespace) -> int:
    here = surroundings(options)
    written = _example(options, here.working_folder) if options.example else _spec(options, here.hub_cache)
    for path in written.paths:
        print(here.shown(path))
    for message in written.messages:
        sys.stderr.write(f"{message}\n")
    return OK


def _example(options: Namespace, working_folder: Path) -> Written:
    from mlspec.starting.example import write_example

    if options.out is not None or options.name is not None:
        raise CommandError("usage", "--example takes no -o and no --name", "mlspec init --example [DIR]")
    return write_example(working_folder / options.model if options.model else working_folder)


def _spec(options: Namespace, cache: Path) -> Written:
    from mlspec.starting.first_spec import Start, write_spec

    return write_spec(options.model, Start(Path.cwd(), cache), options.out, options.name)
