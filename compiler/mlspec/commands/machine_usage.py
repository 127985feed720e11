"""Which arguments `mlspec machine` takes for what."""

from __future__ import annotations

from argparse import Namespace

from mlspec.errors import CommandError
from mlspec.suggest import listed

_TAKES = {"capture": {"NAME", "--from", "-o", "--force"}, "list": set[str](), "show": {"NAME"}}
"""Which arguments mean something to each action."""


def check_usage(options: Namespace) -> None:
    """That each argument means something to the action.

    Raises:
        CommandError: wrong usage.
    """
    given = {
        "NAME": options.name is not None,
        "--from": options.from_dir is not None,
        "-o": options.out is not None,
        "--force": options.force,
    }
    foreign = [name for name, is_there in given.items() if is_there and name not in _TAKES[options.action]]
    if foreign:
        message = f"machine {options.action} takes no {listed(foreign, 'and no')}"
        raise CommandError("usage", message, "mlspec machine capture [NAME | -o FILE] | list | show [NAME]")
    if given["NAME"] and given["-o"]:
        message = "NAME and -o both name the profile's file"
        raise CommandError("usage", message, "NAME writes machines/NAME.yaml; -o FILE writes anywhere")
