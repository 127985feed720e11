"""`mlspec explain CODE`."""

from __future__ import annotations

from argparse import Namespace

from mlspec.codes import explain, known
from mlspec.errors import CommandError
from mlspec.exit_codes import OK
from mlspec.suggest import did_you_mean


def run(options: Namespace) -> int:
    if options.code is None:
        print("\n".join(known()))
        return OK
    page = explain(options.code)
    if page is None:
        help = did_you_mean(options.code, known()) or "mlspec explain lists them"
        raise CommandError("unknown-code", f"there is no diagnostic '{options.code}'", help)
    print(page.rstrip())
    return OK
