"""Arguments that several commands take, and the forms of single ones: those raise argparse.ArgumentTypeError."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

FORMATS = ("text", "concise", "json", "sarif", "github")
_MOST_CLIENTS = 512


def takes_specs(parser: argparse.ArgumentParser) -> None:
    """Specs or folders of them, and roots."""
    parser.add_argument("specs", nargs="+", type=path, metavar="SPEC", help="a spec, or a folder of specs")
    takes_roots(parser)


def takes_one_spec(parser: argparse.ArgumentParser) -> None:
    """One spec, a target of it, and roots."""
    parser.add_argument("spec", type=path, metavar="SPEC")
    takes_target(parser)
    takes_roots(parser)


def takes_target(parser: argparse.ArgumentParser) -> None:
    """The name of a target."""
    parser.add_argument("--target", metavar="NAME", help="this target only")


def takes_roots(parser: argparse.ArgumentParser) -> None:
    """`--root NAME=DIR`, any number of times."""
    help = "where a root that mlspec.yaml declares is on this computer"
    parser.add_argument("--root", action="append", default=[], type=root, metavar="NAME=DIR", help=help)


def takes_reproducible(parser: argparse.ArgumentParser) -> None:
    """Whether what depends on this computer is refused."""
    help = "refuse what depends on this computer (machine: auto)"
    parser.add_argument("--reproducible", action="store_true", help=help)


def takes_format(parser: argparse.ArgumentParser) -> None:
    """How findings are printed."""
    parser.add_argument("--output-format", choices=FORMATS, default="text", help="of what is found (%(default)s)")


def path(text: str) -> Path:
    """Any path but the empty one."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a path can't be empty")
    return Path(text)


def words(text: str) -> str:
    """A text that isn't blank."""
    if not text.replace(",", " ").split():
        raise argparse.ArgumentTypeError("it can't be empty: all, or parts of a name, as in 'mini M4'")
    return text


def root(text: str) -> tuple[str, Path]:
    """A root's name and its folder, absolute."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=DIR")
    try:
        return name, Path(folder).expanduser().absolute()
    except (RuntimeError, OSError) as problem:
        raise argparse.ArgumentTypeError(f"'{folder}': {problem}") from problem


def renamed(text: str) -> tuple[str, str]:
    """An input's name and its columns', separated by commas."""
    name, equals, columns = text.partition("=")
    if not (name and equals and columns):
        raise argparse.ArgumentTypeError(f"'{text}' is not INPUT=COLUMN")
    return name, columns


def names(text: str) -> list[str]:
    """Names separated by commas, each once."""
    names = text.split(",")
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of columns, each named once")
    return names


def whole(text: str) -> int:
    """A whole number of at most nine digits."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if not (number := whole(text)):
        raise argparse.ArgumentTypeError("it must be 1 at least")
    return number


def counts(text: str) -> list[int]:
    """Numbers of clients, sorted, each once."""
    counts = sorted({count(part.strip()) for part in text.split(",")})
    if counts[-1] > _MOST_CLIENTS:
        raise argparse.ArgumentTypeError(f"more than {_MOST_CLIENTS} clients at once are too many for one computer")
    return counts


def seconds(text: str) -> float:
    """Seconds, more than 0."""
    number = float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII) else 0.0
    if not number:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of seconds")
    return number


def port(text: str) -> int:
    """A port, 1 to 65535."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"'{text}' is no port: 1 to 65535")
    return int(text)
