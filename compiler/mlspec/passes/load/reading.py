"""A spec's file to text: that it is there, is a file, is small enough, and is UTF-8."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mlspec.characters import quoted
from mlspec.diagnostics import Diagnostic, Report, Span
from mlspec.passes.load import remedies
from mlspec.source_text import SourceText
from mlspec.suggest import closest

MAX_BYTES = 1_048_576
_BOM = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_WITHOUT_MARK = "save the file as 'UTF-8', not 'UTF-8 with BOM'"
_MOST_NEIGHBOURS = 2000


def read(path: Path, shown: str, report: Report) -> str | None:
    """The file's text without a byte order mark; None after a fault was reported."""
    content = read_bytes(path, shown)
    if isinstance(content, bytes) and content.startswith(_BOM):
        content = content[len(_BOM) :]
        report.error("yaml-bom", "the file starts with a byte order mark", Span(shown), help=_WITHOUT_MARK)
    text = _decoded(content, shown) if isinstance(content, bytes) else content
    if isinstance(text, str):
        return text
    report.add(text)
    return None


def read_bytes(path: Path, shown: str) -> bytes | Diagnostic:
    """The content of a regular file that isn't too large, or what is wrong with it. Nothing else is ever opened."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return _not_a_file(info.st_mode, shown)
        if info.st_size > MAX_BYTES:
            return _too_large(info.st_size, shown)
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return _not_found(path, shown)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return _unreadable(error, shown)


def _decoded(content: bytes, shown: str) -> str | Diagnostic:
    if content.startswith(_UTF16_MARKS) or content[:2].count(0) == 1:
        return _fault("yaml-encoding", "this file is UTF-16, not UTF-8", shown, "save the file as UTF-8")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(content, error.start, shown)


def _not_utf8(content: bytes, offset: int, shown: str) -> Diagnostic:
    before = content[:offset].decode("utf-8")
    span = SourceText(before + "?", shown).span(len(before), len(before) + 1)
    message = f"the byte 0x{content[offset]:02x} at offset {offset} is not UTF-8"
    return Diagnostic("yaml-encoding", message, span, help="save the file as UTF-8")


def _not_a_file(mode: int, shown: str) -> Diagnostic:
    if stat.S_ISDIR(mode):
        return _fault("not-a-file", f"{quoted(shown)} is a folder", shown, remedies.of_folder(shown))
    return _fault("not-a-file", f"{quoted(shown)} is not a regular file", shown, remedies.of_device(shown))


def _too_large(size_bytes: int, shown: str) -> Diagnostic:
    message = f"the file has {size_bytes:,} bytes; {MAX_BYTES:,} is the limit"
    return _fault("file-too-large", message, shown, remedies.of_large_file(shown))


def _unreadable(error: OSError | ValueError, shown: str) -> Diagnostic:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return _fault("file-unreadable", f"the file can't be read: {reason}", shown, remedies.of_error(error))


def _not_found(path: Path, shown: str) -> Diagnostic:
    folder = path.parent
    if path.is_symlink():
        return _fault("file-not-found", f"{quoted(shown)} is a link to nothing", shown, remedies.of_dead_link(shown))
    if not folder.is_dir():
        help = f"there is no folder {quoted(str(Path(shown).parent))}"
    else:
        names = _neighbours(folder)
        near = closest(path.stem, names)
        help = f"did you mean {quoted(str(Path(shown).with_name(names[near])))}?" if near else "check the path"
    return _fault("file-not-found", f"there is no file {quoted(shown)}", shown, help)


def _fault(code: str, message: str, shown: str, help: str) -> Diagnostic:
    return Diagnostic(code, message, Span(shown), help=help)


def _neighbours(folder: Path) -> dict[str, str]:
    """YAML files that the user may have meant, by their names without the ending."""
    try:
        with os.scandir(folder) as entries:
            names = [Path(entry.name) for entry, _ in zip(entries, range(_MOST_NEIGHBOURS), strict=False)]
    except OSError:  # it can't be listed: then there is no suggestion
        return {}
    return {name.stem: name.name for name in names if name.suffix in (".yaml", ".yml")}
