"""The command line: arguments in, a report out, an exit code. No logic."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from mlspec import __version__
from mlspec.arguments import (
    count,
    counts,
    names,
    path,
    port,
    renamed,
    seconds,
    takes_format,
    takes_one_spec,
    takes_reproducible,
    takes_roots,
    takes_specs,
    takes_target,
    whole,
    words,
)
from mlspec.errors import CommandError
from mlspec.exit_codes import FAILED, FINDINGS, INTERRUPTED, OUR_BUG, USAGE
from mlspec.streams import tolerant

_SCHEMAS = (
    *("mlspec", "project", "plan", "plan-report", "lock", "calibration"),
    *("machine", "chips", "machines", "working_set"),
)
_WRONG_USAGE = "usage"
"""The code of what no argument's own form forbids: two that don't go together."""
_EXIT_CODES = "exit codes: 0 fine, 1 findings, 2 wrong usage, 3 the build failed, 4 a bug of mlspec's"
_NAME_OF_A_MACHINE = "capture: the profile's file is machines/NAME.yaml; show: a product, or a profile's file"
_BUG = """\
mlspec: internal error: {error}
  This is a bug of mlspec's, not of your spec. Please report it with the command, the spec and what
  MLSPEC_DEBUG=1 mlspec … prints (it shows where it happened). mlspec {version}, Python {python}.
"""


def entry() -> NoReturn:
    """The command `mlspec`.

    Ends without taking the interpreter down: freeing what the libraries made takes a sixth of a build's time, and all
    files are closed and all processes ended by then.
    """
    code = main()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (see `mlspec --help`)."""
    # A build makes many objects that stay and hardly a cycle: looking for some costs time.
    gc.set_threshold(100_000)
    # Pydantic would look through all installed packages for plugins, and run what it finds within the passes.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    with tolerant() as stdout:
        code = _run(arguments)
        stdout.flush()
        if not stdout.failed:
            return code
        sys.stderr.write(f"error: can't write to standard output: {stdout.problem}\n")
        return code or FAILED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
        run = import_module(f"mlspec.commands.{options.module}").run
        code: int = run(options)
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except CommandError as error:
        sys.stderr.write(error.text())
        if error.code == _WRONG_USAGE:
            return USAGE
        return FAILED if error.failed else FINDINGS
    except Exception as error:
        # The last line of defence: what no pass foresaw is a bug of ours, and has its own exit code.
        if os.environ.get("MLSPEC_DEBUG"):
            raise
        python = sys.version.split()[0]
        sys.stderr.write(_BUG.format(error=f"{type(error).__name__}: {error}", version=__version__, python=python))
        return OUR_BUG


def parser() -> argparse.ArgumentParser:
    about = "Compile YAML model specs to running model services."
    parser = argparse.ArgumentParser(prog="mlspec", description=about, epilog=_EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"mlspec {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_InAnyOrder)
    _add_build(commands)
    _add_check(commands)
    _add_plan(commands)
    _add_why(commands)
    _add_lock(commands)
    _add_serve(commands)
    _add_test(commands)
    _add_bench(commands)
    _add_predict(commands)
    _add_init(commands)
    _add_machine(commands)
    _add_doctor(commands)
    _add_others(commands)
    return parser


class _InAnyOrder(argparse.ArgumentParser):
    """Takes positional arguments wherever they stand: argparse alone fills optional ones at the first it meets."""

    _again = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, left_over = super().parse_known_args(args, namespace)
        # Python's own way of taking them in any order comes back to this method, and (3.11) loses what "--" says.
        if self._again or not left_over or "--" in (args or ()):
            return found, left_over
        self._again = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._again = False


if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[_InAnyOrder]


def _command(commands: _Commands, name: str, about: str, module: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".", epilog=_EXIT_CODES)
    parser.set_defaults(module=module or name)
    return parser


def _add_build(commands: _Commands) -> None:
    parser = _command(commands, "build", "check specs and write their bundles")
    takes_specs(parser)
    parser.add_argument("-o", "--out", type=path, metavar="DIR", help="where bundles go (the project's build/)")
    takes_target(parser)
    parser.add_argument("--no-models", action="store_true", help="no links to models, and none is quantized here")
    takes_reproducible(parser)
    takes_format(parser)


def _add_check(commands: _Commands) -> None:
    parser = _command(commands, "check", "check specs and their models; write nothing")
    takes_specs(parser)
    takes_reproducible(parser)
    takes_format(parser)


def _add_plan(commands: _Commands) -> None:
    parser = _command(commands, "plan", "show what is decided for each target, its memory and its speed")
    takes_one_spec(parser)
    parser.add_argument(
        "--machines", type=words, metavar="all|NAME", help="which Macs can serve it: all, or those so named"
    )
    parser.add_argument("--html", type=path, metavar="FILE", help="write a page to look at")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="(%(default)s)")


def _add_why(commands: _Commands) -> None:
    parser = _command(commands, "why", "tell one decided value's whole story")
    parser.add_argument("spec", type=path, metavar="SPEC")
    parser.add_argument("key", nargs="?", metavar="KEY", help="as in service.concurrency; without one: all keys")
    takes_target(parser)
    takes_roots(parser)


def _add_lock(commands: _Commands) -> None:
    parser = _command(commands, "lock", "commit what is known of a spec's models, so that it builds without them")
    takes_specs(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a lock would change")
    takes_format(parser)


def _add_machine(commands: _Commands) -> None:
    parser = _command(commands, "machine", "capture this Mac's profile; list and show known machines")
    parser.add_argument("action", choices=("capture", "list", "show"))
    parser.add_argument("name", nargs="?", metavar="NAME", help=_NAME_OF_A_MACHINE)
    parser.add_argument("--from", dest="from_dir", type=path, metavar="DIR", help="capture: read recorded output there")
    parser.add_argument("-o", "--out", type=path, metavar="FILE", help="capture: the profile to write")
    parser.add_argument("--force", action="store_true", help="capture: replace a profile that is there")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="(%(default)s)")


def _add_doctor(commands: _Commands) -> None:
    parser = _command(commands, "doctor", "look at this computer: what serving needs, and what is amiss")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="(%(default)s)")


def _add_serve(commands: _Commands) -> None:
    parser = _command(commands, "serve", "build a spec and serve it here, until Ctrl-C")
    takes_one_spec(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=port, default=3000, help="port to listen at (%(default)s)")


def _add_test(commands: _Commands) -> None:
    parser = _command(commands, "test", "build and serve a spec, run its tests against it, stop")
    takes_one_spec(parser)


def _add_bench(commands: _Commands) -> None:
    parser = _command(commands, "bench", "build and serve a spec, load it at several concurrencies, show its speed")
    takes_one_spec(parser)
    levels = "clients at once, one load after the other (1,2,4,8)"
    parser.add_argument("--concurrency", type=counts, default=[1, 2, 4, 8], metavar="N,N", help=levels)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--requests", type=count, metavar="N", help="in each load (4 of each client, 8 at least)")
    length.add_argument("--duration", type=seconds, metavar="S", help="seconds of each load, in place of a number")
    prompts = "generate prompts of about so many (else the spec's tests are asked; 64 if it has none)"
    parser.add_argument("--prompt-tokens", type=count, metavar="N", help=prompts)
    parser.add_argument("--max-tokens", type=count, metavar="N", help="of each answer (as the test says, or 64)")
    rows = "generate requests of so many rows, for a model of tensors (else the spec's tests are asked; 1 without any)"
    parser.add_argument("--rows", type=count, metavar="N", help=rows)
    parser.add_argument(
        "--shared-prefix", type=whole, default=0, metavar="N", help="tokens that all prompts begin with"
    )
    parser.add_argument("--adapters", metavar="mix|NAME", help="ask for this adapter, or for all in turn")
    parser.add_argument("--endpoint", choices=("stream", "predict", "chat", "completions"), help="(the first there is)")
    parser.add_argument("--repeat", action="store_true", help="ask the same again, so that kept answers may be given")
    parser.add_argument("--seed", type=whole, default=0, metavar="N", help="of the prompts (%(default)s)")
    parser.add_argument("--url", metavar="URL", help="load a service that runs there; build and serve nothing")
    calibrate = "measure batches of 1 to 64 rows of a model of tensors, and keep that beside the spec, for its plan"
    parser.add_argument("--calibrate", action="store_true", help=calibrate)
    parser.add_argument("--api-key-env", metavar="NAME", help="the variable with the key (service.auth's)")
    parser.add_argument("--save", type=path, metavar="FILE", help="keep what was measured, as JSON")
    parser.add_argument("--compare", type=path, metavar="FILE", help="show what is other than in this kept file")
    parser.add_argument("--html", type=path, metavar="FILE", help="write a page to look at")
    parser.add_argument("--output-format", choices=("text", "json"), default="text", help="(%(default)s)")


def _add_predict(commands: _Commands) -> None:
    parser = _command(commands, "predict", "build a spec and run its model over all rows of a file or a folder")
    takes_one_spec(parser)
    rows = "a .parquet, .jsonl or .csv file, or a folder of such files, of images or of texts"
    parser.add_argument("--input", type=path, required=True, metavar="PATH", help=rows)
    parser.add_argument(
        "--output", type=path, required=True, metavar="FILE", help="the .parquet, .jsonl or .csv file to write"
    )
    parser.add_argument("--failed", type=path, metavar="FILE", help="rows without an answer (OUTPUT.failed.jsonl)")
    columns = "the columns that an input takes, where its name isn't the column's (again for another input)"
    parser.add_argument(
        "--column", action="append", default=[], type=renamed, metavar="INPUT=COLUMN[,COLUMN]", help=columns
    )
    kept = "columns of the input that the output has in place of the row's number"
    parser.add_argument("--keep", type=names, metavar="COLUMN[,COLUMN]", help=kept)
    parser.add_argument("--restart", action="store_true", help="throw away what earlier runs did, and their output")
    together = "rows of a request, for models of tensors (as many as their size allows)"
    parser.add_argument("--batch-rows", type=count, metavar="N", help=together)
    parts = "what is kept if it is ended, at most; else what was done 10 s before (%(default)s)"
    parser.add_argument("--rows-per-part", type=count, default=100_000, metavar="N", help=parts)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="what computes (%(default)s)")
    parser.epilog = (
        "exit codes: 0 every row has an answer, 1 some rows failed or nothing was done, 2 wrong usage, "
        "3 it ended before its end, 130 interrupted (after these two the same command goes on)"
    )


def _add_init(commands: _Commands) -> None:
    parser = _command(commands, "init", "write a commented spec for a model's folder")
    parser.add_argument("model", nargs="?", type=path, metavar="DIR", help="a model's folder to look at")
    parser.add_argument("-o", "--out", type=path, metavar="FILE", help="the spec to write (specs/NAME.yaml)")
    parser.add_argument("--name", help="the service's name (from the folder's)")
    parser.add_argument("--example", action="store_true", help="write the example: a spec, a tiny model, an adapter")
    parser.add_argument("--runner", metavar="NAME", help="write a project of a runner of your own (mlspec-NAME-runner)")


def _add_others(commands: _Commands) -> None:
    fetch = _command(commands, "fetch", "download the models that specs name on the Hugging Face hub")
    takes_specs(fetch)
    fmt = _command(commands, "fmt", "format specs; comments are kept")
    fmt.add_argument("specs", nargs="+", type=path, metavar="SPEC", help="a spec, or a folder of specs")
    fmt.add_argument("--check", action="store_true", help="write nothing; exit 1 if a spec would change")
    schema = _command(commands, "schema", "print the JSON Schema of a spec")
    schema.add_argument("kind", nargs="?", choices=_SCHEMAS, default="mlspec", help="(%(default)s)")
    explain = _command(commands, "explain", "explain a diagnostic's code")
    explain.add_argument("code", nargs="?", metavar="CODE", help="without one: all codes")
    templates = _command(commands, "templates", "list, show or eject the templates of bundles")
    templates.add_argument("action", choices=("list", "show", "eject"))
    templates.add_argument("name", nargs="?", metavar="TEMPLATE")
