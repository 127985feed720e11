"""What `mlspec predict` is asked for, before anything is built."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from mlspec.characters import visible
from mlspec.errors import CommandError
from mlspec_runtime.batch.job import FORMATS, BatchJob


def job_of(options: Namespace, here: Path) -> BatchJob:
    """Paths made absolute, and that they don't get in each other's way.

    Raises:
        CommandError: they do, or the output's name doesn't say what it is to be.
    """
    source, output = here / options.input, here / options.output
    failed = here / options.failed if options.failed else output.with_name(f"{output.name}.failed.jsonl")
    _check_output(output)
    for place in (output, failed):
        if place == source or (source.is_dir() and place.resolve().is_relative_to(source.resolve())):
            message = f"'{visible(str(place))}' would be a part of the input"
            raise CommandError("usage", message, "write elsewhere")
    if output == failed:
        raise CommandError("usage", "the output and the file of failed rows are the same", "name another file")
    keep = tuple(options.keep) if options.keep is not None else None
    return BatchJob(
        source,
        output,
        failed,
        columns=dict(options.column),
        keep=keep,
        restart=options.restart,
        engine=options.engine,
        rows_per_part=options.rows_per_part,
        batch_rows=options.batch_rows,
    )


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in FORMATS:
        message = f"'{visible(output.name)}' doesn't say how to write it"
        raise CommandError("usage", message, f"let its name end in one of {', '.join(FORMATS)}")
