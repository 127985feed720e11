"""`mlspec init`: write a commented spec for a model's folder, the example, or a project of a runner."""

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
    if problem := _usage(options):
        sys.stderr.write(CommandError("usage", *problem).text())
        return USAGE
    written = _written(options, here)
    for path in written.paths:
        print(here.shown(path))
    for message in written.messages:
        sys.stderr.write(f"{message}\n")
    return OK


def _usage(options: Namespace) -> tuple[str, str] | None:
    """What doesn't go together, and what does."""
    of_a_spec = options.out is not None or options.name is not None
    if options.runner is not None and (of_a_spec or options.example):
        return "--runner takes no -o, no --name and no --example", "mlspec init --runner NAME [DIR]"
    if options.example and of_a_spec:
        return "--example takes no -o and no --name", "mlspec init --example [DIR]"
    return None


def _written(options: Namespace, here: Surroundings) -> Written:
    if options.runner is not None:
        return _runner(options.runner, options.model, here)
    return _example(options.model, here) if options.example else _spec(options, here)


def _runner(name: str, folder: Path | None, here: Surroundings) -> Written:
    from mlspec.starting.runner_project import write_runner

    return write_runner(name, folder, here.working_folder, here.shown)


def _example(folder: Path | None, here: Surroundings) -> Written:
    from mlspec.starting.example import write_example

    return write_example(here.working_folder / folder if folder else here.working_folder, here.shown)


def _spec(options: Namespace, here: Surroundings) -> Written:
    from mlspec.starting.first_spec import write_spec
    from mlspec.starting.place import Start

    return write_spec(options.model, Start(here.working_folder, here.hub_cache), options.out, options.name)
