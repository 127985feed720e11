"""`mlspec serve`: build a spec and serve it here, in the foreground."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report
from mlspec.exit_codes import FAILED, FINDINGS, OK
from mlspec.host import target_for_host
from mlspec.passes.machines import machines
from mlspec.pipeline import Checked, Pipeline, build
from mlspec.serving import address_of, check_environment, check_installed, check_port, running, url_of


def run(options: Namespace) -> int:
    bundle = built_for_host(options)
    if isinstance(bundle, int):
        return bundle
    checked, folder = bundle
    check_environment(folder)
    address = address_of(options.host)
    check_port(address, options.port)
    command = checked.backend.command(sys.executable, address, options.port)
    shown = surroundings(options).shown(folder)
    sys.stderr.write(f"serving {shown} at {url_of(address, options.port)} (Ctrl-C ends it)\n")
    try:
        with running(command, folder, drain_s=checked.spec.service.limits.drain_s) as process:
            code = process.wait()
    except KeyboardInterrupt:
        return OK
    sys.stderr.write(f"error[service-ended]: the service ended by itself, exit code {code}\n")
    return FAILED


def built_for_host(options: Namespace) -> tuple[Checked, Path] | int:
    """Build the one target that fits this computer; an exit code if that failed."""
    here, report = surroundings(options), Report()
    options.output_format = "text"
    spec = options.spec.absolute()
    checked = Pipeline(here).check(spec, report)
    if checked is None:
        return tell(report, options, to_stdout=False) or FINDINGS
    known = machines(checked.spec, checked.document, checked.workspace, report, options.target)
    if known is None:
        return tell(report, options, to_stdout=False) or FINDINGS
    target = target_for_host(checked.spec, known, options.target)
    report = Report()
    progress = Progress([spec])
    folders = list(build(progress, here, None, report, target, say=progress.say))
    if not folders:
        return tell(report, options, to_stdout=False) or FINDINGS
    check_installed(checked.backend, checked.runner, checked.spec.model, folders[0])
    return checked, folders[0]
