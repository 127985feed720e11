"""`mlspec fmt`: lay specs out in the one way. Comments, quotes and anchors are kept."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import spec_files, surroundings
from mlspec.errors import CommandError
from mlspec.write_file import replace_file


def run(options: Namespace) -> int:
    from mlspec.exit_codes import FINDINGS, OK

    here, findings = surroundings(options), False
    for path in spec_files(options.specs):
        try:
            changed = format_file(path, check=options.check, shown=here.shown(path))
        except CommandError as error:
            # One file that can't be formatted doesn't keep the others from it.
            sys.stderr.write(error.text())
            changed, findings = False, True
        if changed:
            print(f"would change {here.shown(path)}" if options.check else here.shown(path))
            findings = findings or options.check
    return FINDINGS if findings else OK


def formatted(text: str, shown: str = "<text>") -> str:
    """A spec's text in its one layout; formatting that again changes nothing.

    Raises:
        CommandError: it is no YAML document, or its layout can't be changed without changing what it says.
    """
    from ruamel.yaml.error import YAMLError

    from mlspec.formatting import formatted_text

    try:
        return formatted_text(text)
    except YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        reason = getattr(problem, "problem", None) or "not a YAML document"
        raise CommandError("not-formattable", f"{place}: {reason}", f"mlspec check {shown} says more") from problem
    except ValueError as problem:
        help = "it is left as it is; rewrite the part that is laid out unusually"
        raise CommandError("not-formattable", f"{shown}: {problem}", help) from problem


def format_file(path: Path, *, check: bool, shown: str = "") -> bool:
    """Format a file, or with `check` only look. True if it changed or would; a link stays one, a mode stays.

    Raises:
        CommandError: it can't be read, formatted or written.
    """
    shown = shown or str(path)
    old = _content(path, shown)
    try:
        new = formatted(old.decode("utf-8"), shown).encode("utf-8")
        if new != old and not check:
            replace_file(path, new)
    except UnicodeDecodeError as problem:
        message = f"{shown}: byte {problem.start + 1} is no UTF-8"
        raise CommandError("not-formattable", message, "save the file as UTF-8") from problem
    except OSError as problem:
        reason = (problem.strerror or "can't be written").lower()
        raise CommandError("not-formattable", f"{shown}: {reason}") from problem
    return new != old


def _content(path: Path, shown: str) -> bytes:
    """What the file holds, read as `check` reads it: no pipe, no device, nothing without an end."""
    from mlspec.characters import quoted
    from mlspec.diagnostics import Diagnostic
    from mlspec.passes.load.reading import read_bytes

    content = read_bytes(path, shown)
    if isinstance(content, Diagnostic):
        named = quoted(shown) in content.message
        raise CommandError(content.code, content.message if named else f"{shown}: {content.message}", content.help)
    return content
