"""`mlspec templates`: list, show or eject the templates of bundles."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import surroundings, tell
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import OK, USAGE
from mlspec.passes.project import open_workspace
from mlspec.passes.templates import names
from mlspec.rendering.environment import BUILT_IN
from mlspec.resources import folder
from mlspec.starting.project import new_file
from mlspec.suggest import did_you_mean
from mlspec.workspace import PROJECT_FILE, Surroundings, Workspace

_BLOCK = re.compile(r"{%-?\s*block (\w+)")
_ENDING = ".j2"
# A newline behind a comment is no output, so the block comes out byte for byte as it was.
_FILLED = """\
{{% block {name} %}}
{{{{ super() }}}}{{# the built-in lines: write yours above or below this one #}}
{{% endblock %}}
"""


def run(options: Namespace) -> int:
    if problem := _wrong_usage(options):
        sys.stderr.write(CommandError("usage", problem, "mlspec templates list | show NAME | eject NAME").text())
        return USAGE
    if options.action == "list":
        print("\n".join(names()))
        return OK
    source = _source(options.name)
    if options.action == "show":
        sys.stdout.write(source.read_text(encoding="utf-8"))
        return OK
    return _eject(options.name, source, surroundings(options))


def _wrong_usage(options: Namespace) -> str:
    if options.action == "list":
        return "list takes no name" if options.name is not None else ""
    return "which template?" if options.name is None else ""


def _source(name: str) -> Path:
    if name not in names():
        help = _meant(name) or "mlspec templates list shows all"
        raise CommandError("no-such-template", f"there is no template '{name}'", help)
    return folder("templates") / name


def _meant(name: str) -> str:
    """The template whose name this is the end of, else the nearest one."""
    end = "/" + name.lower().lstrip("/").removesuffix(_ENDING) + _ENDING
    whole = [known for known in names() if f"/{known.lower()}".endswith(end)]
    return f"did you mean '{whole[0]}'?" if len(whole) == 1 else did_you_mean(name, names())


def _eject(name: str, source: Path, here: Surroundings) -> int:
    """Write a template of the project's own that extends the built-in one, its blocks ready to be filled."""
    report = Report()
    workspace = open_workspace(here.working_folder / PROJECT_FILE, here, report)
    if workspace is None:
        return tell(report, Namespace(output_format="text"), to_stdout=False)
    place = here.shown(_templates(workspace) / name)
    new_file(Path(place), _extension(name, source.read_text(encoding="utf-8")))
    print(place)
    return OK


def _templates(workspace: Workspace) -> Path:
    if workspace.templates is None:
        help = f"add the line  templates: FOLDER  to {PROJECT_FILE} at the project's root"
        if not (workspace.root / PROJECT_FILE).exists():
            help = f"the project needs a {PROJECT_FILE} that names one: mlspec explain no-templates-folder shows it"
        raise CommandError("no-templates-folder", "the project names no folder for templates of its own", help)
    return workspace.templates


def _extension(name: str, source: str) -> str:
    """A template with all blocks of the built-in one; one that has none is copied, to be changed as a whole."""
    blocks = _BLOCK.findall(source)
    parts = [f'{{% extends "{BUILT_IN}{name}" %}}\n', *(_FILLED.format(name=block) for block in blocks)]
    return "".join(parts) if blocks else source
