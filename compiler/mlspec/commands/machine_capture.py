"""`mlspec machine capture`: a Mac's profile to commit, from its own commands or from what they printed elsewhere."""

from __future__ import annotations

import json
import re
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.errors import CommandError
from mlspec.exit_codes import OK
from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.machines import Found, mac
from mlspec.hardware.profile import text_of
from mlspec.hardware.reading import Reading, profile_of
from mlspec.hardware.recorded import FILES, read_recorded
from mlspec.looking import NO_FILE, kind_of
from mlspec.model.spec import MachineSpec
from mlspec.suggest import listed
from mlspec.workspace import Surroundings
from mlspec.write_file import create_file, replace_file

MOST_BYTES = 16 * 2**20
"""Of a recorded file: `sysctl -a` prints some tens of kilobytes."""
_PROFILE = re.compile(rb"""^[ {]*["']?kind["']?\s*:\s*["']?Machine\b""", re.MULTILINE)
"""What tells a machine's profile, however faulty, from any other file."""
_HOW = (
    "record on the Mac: sysctl -a > sysctl.txt, …; docs/machines.md shows it. Then: mlspec machine capture --from DIR"
)


def capture(options: Namespace, here: Surroundings) -> int:
    """Write the profile; an equal one that is there already is left as it is.

    Raises:
        CommandError: there is nothing to capture, what there is can't be taken, or the file is there.
    """
    try:
        fields = profile_of(_reading(options.from_dir))
    except UnreadableError as problem:
        raise CommandError("machine-output", str(problem), problem.help) from problem
    found = mac(MachineSpec(profile="profile"), "", {"apiVersion": "mlspec/v1", "kind": "Machine", **_given(fields)})
    path = here.working_folder / (options.out or Path("machines") / f"{_name(options.name, found)}.yaml")
    wrote = _write(path, text_of(fields).encode(), options.force, here.shown(path))
    _report(found, here.shown(path), wrote, options.output_format)
    return OK


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _reading(folder: Path | None) -> Reading:
    if folder is not None:
        return read_recorded(_texts(folder))
    if sys.platform != "darwin":
        raise CommandError("machine-output", "this computer is no Mac: there is nothing to capture", _HOW)
    from mlspec.hardware.detect import this_mac

    return this_mac()


def _texts(folder: Path) -> dict[str, str]:
    texts = {name: _text(folder / name) for name in FILES if _is_file(folder / name)}
    if not texts:
        message = f"{quoted(str(folder))} holds no recorded output"
        raise CommandError("machine-output", message, f"it is looked for in {listed(FILES, 'or')}")
    return texts


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UnreadableError(f"{file.name} has more than {MOST_BYTES // 2**20} MB", "it is no such output")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"{file.name} is no text in UTF-8", "record it again") from problem
    except OSError as problem:
        raise _unreadable(file, problem) from problem


def _unreadable(path: Path, problem: OSError) -> CommandError:
    reason = (problem.strerror or "it can't be read").lower()
    return CommandError("machine-output", f"{visible(str(path))}: {reason}", "check its permissions")


def _name(given: str | None, found: Found) -> str:
    """The file's name: the one that was asked for, else the machine's title: `mac-studio-2023-m2-max-64-gb`."""
    if given is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,60}", given, re.ASCII):
        raise CommandError("usage", f"{quoted(given)} can't be a profile's name", "letters, digits and '-'; or -o FILE")
    return given or re.sub(r"[^a-z0-9]+", "-", found.machine.title.lower()).strip("-")


def _write(path: Path, content: bytes, force: bool, shown: str) -> bool:
    """Whether it was written; else it is there already, equal."""
    try:
        create_file(path, content)
        return True
    except FileExistsError as problem:
        if not path.parent.is_dir():  # a file has the name of the folder
            raise _unwritable(problem, shown) from problem
        return _replace(path, content, force, shown)
    except OSError as problem:
        raise _unwritable(problem, shown) from problem


def _replace(path: Path, content: bytes, force: bool, shown: str) -> bool:
    try:
        if (kind := kind_of(path)) != "file":
            raise _taken(shown, NO_FILE[kind], "-o FILE writes another")
        with path.open("rb") as file:
            before = file.read(MOST_BYTES)
        if before == content:
            return False
        if before.strip() and not _PROFILE.search(before):
            raise _taken(shown, "is there already, and is no machine's profile", "-o FILE writes another")
        if not force:
            raise _taken(shown, "is there already, and differs", "--force replaces it, -o FILE writes another")
        replace_file(path, content)
    except OSError as problem:
        raise _unwritable(problem, shown) from problem
    return True


def _taken(shown: str, why: str, help: str) -> CommandError:
    return CommandError("file-exists", f"'{visible(shown)}' {why}", help)


def _unwritable(problem: OSError, shown: str) -> CommandError:
    reason = (problem.strerror or "it can't be written").lower()
    return CommandError(
        "write-failed", f"'{visible(shown)}' can't be written: {reason}", "-o FILE writes elsewhere", failed=True
    )


def _report(found: Found, shown: str, wrote: bool, output_format: str) -> None:
    for warning in found.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    if output_format == "json":
        print(json.dumps({"profile": shown, "title": found.machine.title, "written": wrote}))
        return
    print(f"{visible(shown)}: {found.machine.title}{'' if wrote else ' (as it was)'}")
    print(f"in a spec: machine: {{profile: {visible(shown)}}}")
