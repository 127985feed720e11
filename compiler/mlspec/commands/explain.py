"""`mlspec explain CODE`."""

from __future__ import annotations

from argparse import Namespace
from difflib import get_close_matches

from mlspec.codes import explain, known
from mlspec.errors import CommandError
from mlspec.exit_codes import OK


def run(options: Namespace) -> int:
    if options.code is None:
        print("\n".join(known()))
        return OK
    page = explain(options.code)
    if page is None:
        close = get_close_matches(options.code, known(), n=1)
        help = f"did you mean '{close[0]}'?" if close else "mlspec explain lists them"
        raise CommandError("unknown-code", f"there is no diagnostic '{options.code}'", help)
    print(page.rstrip())
    return OK
