"""`mlspec bench`: build and serve a spec, load it at several concurrencies, show what it does."""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import IO

from mlspec import __version__
from mlspec.bench.changes import changes
from mlspec.bench.loading import Course, loaded
from mlspec.bench.measures import Level
from mlspec.bench.record import Record, dumped, read_record
from mlspec.bench.text import as_text
from mlspec.bench.workload import Workload
from mlspec.commands import surroundings, tell
from mlspec.commands.bench_asked import asked_of, check_url, workload_of
from mlspec.commands.bench_files import check_place, is_page, is_record, write
from mlspec.commands.looking import look_of
from mlspec.commands.progress import Progress
from mlspec.commands.serve import built_for_host
from mlspec.commands.test import START_TIMEOUT_S, tail
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, INTERRUPTED, OK
from mlspec.model.plan import Plan
from mlspec.pipeline import Checked, Pipeline
from mlspec.reporting.plan.look import WIDEST
from mlspec.serving import check_environment, free_port, running, wait_until_healthy

_GRACE_S = 30.0
"""How much longer than the service's own time limit a client waits."""


@dataclass(frozen=True)
class _Service:
    """What is loaded; `process` and what it says in `log` where it was started here."""

    url: str
    process: Popen[bytes] | None = None
    log: IO[bytes] | None = None


@dataclass
class _Outcome:
    """What was measured; `problem` is what ended it early, `code` the exit code as far as that isn't one."""

    levels: list[Level] = field(default_factory=list)
    problem: CommandError | None = None
    code: int = OK


def run(options: Namespace) -> int:
    if options.calibrate:
        from mlspec.commands.bench_calibrate import run as calibrate

        return calibrate(options)
    wanted_format, measured_at = options.output_format, datetime.now(UTC).isoformat(timespec="seconds")
    before = read_record(options.compare) if options.compare else None
    for place, is_ours in ((options.html, is_page), (options.save, is_record)):
        if place is not None:
            check_place(place, is_ours)
    found = _checked(options)
    if isinstance(found, int):
        return found
    checked, bundle = found
    plan = _plan(options, checked, bundle)
    if plan is None:
        return FINDINGS
    workload = workload_of(options, checked, plan)
    with _served(options, checked, bundle) as service:
        outcome = _load(service, workload, _course(options, plan), options.concurrency)
    record = _record(options, checked, plan, workload, outcome, measured_at)
    if record.levels:
        _show(record, before, wanted_format)
        _keep(record, before, options)
    if outcome.problem is not None:
        raise outcome.problem
    return outcome.code or (OK if any(level.answered for level in record.levels) else FINDINGS)


def _checked(options: Namespace) -> tuple[Checked, Path | None] | int:
    """The spec, and its bundle where it is to be served here; an exit code if it has faults."""
    if options.url is None:
        return built_for_host(options)
    check_url(options.url)
    report, options.output_format = Report(), "text"
    checked = Pipeline(surroundings(options)).check(options.spec.absolute(), report)
    return (checked, None) if checked else tell(report, options, to_stdout=False) or FINDINGS


def _plan(options: Namespace, checked: Checked, bundle: Path | None) -> Plan | None:
    """The plan of what is served, or of the first target where that isn't known; None after its faults were told."""
    report, target = Report(), bundle.name if bundle else options.target
    plan = next(Pipeline(surroundings(options)).plans(checked, report, target), None)
    if plan is None:
        tell(report, options, to_stdout=False)
    return plan


def _course(options: Namespace, plan: Plan) -> Course:
    timeout_s = float(plan.runtime["limits"]["timeout_s"]) + _GRACE_S
    return Course(options.requests, options.duration, timeout_s)


@contextmanager
def _served(options: Namespace, checked: Checked, bundle: Path | None) -> Iterator[_Service]:
    if bundle is None:
        yield _Service(options.url.rstrip("/"))
        return
    check_environment(bundle)
    port = free_port()
    url, command = f"http://127.0.0.1:{port}", checked.backend.command(sys.executable, "127.0.0.1", port)
    with tempfile.TemporaryFile() as log, running(command, bundle, log) as process:
        try:
            wait_until_healthy(process, url, START_TIMEOUT_S)
        except CommandError:
            sys.stderr.write(tail(log))
            raise
        yield _Service(url, process, log)


def _load(service: _Service, workload: Workload, course: Course, concurrency: list[int]) -> _Outcome:
    """Measure. Ctrl-C and the service's end are the measuring's end; what there is by then is kept."""
    outcome, progress = _Outcome(), Progress([])
    try:
        for level in loaded(service.url, workload, concurrency, course, progress.say):
            outcome.levels.append(level)
            _check_alive(service)
    except KeyboardInterrupt:
        outcome.code = INTERRUPTED
    except CommandError as problem:
        outcome.problem = problem
    finally:
        progress.clear()
    if outcome.problem is not None and service.log is not None:
        sys.stderr.write(tail(service.log))
    return outcome


def _check_alive(service: _Service) -> None:
    if service.process is not None and service.process.poll() is not None:
        message = f"the service ended under load, exit code {service.process.returncode}"
        raise CommandError("service-ended", message, failed=True)


def _record(
    options: Namespace, checked: Checked, plan: Plan, workload: Workload, outcome: _Outcome, measured_at: str
) -> Record:
    from mlspec.bench.subject import subject_of

    is_this_target = options.url is None or options.target is not None
    subject = subject_of(checked, plan, options.url, is_this_target=is_this_target)
    return Record(measured_at, __version__, subject, asked_of(options, workload), tuple(outcome.levels))


def _show(record: Record, before: Record | None, wanted_format: str) -> None:
    if wanted_format == "json":
        more = {} if before is None else {"compared": [vars(one) for one in changes(record, before)]}
        sys.stdout.write(dumped(record, **more))
    else:
        look = look_of(sys.stdout, WIDEST)
        sys.stdout.write(look.spelt(as_text(record, before, look.columns)))
    sys.stdout.flush()


def _keep(record: Record, before: Record | None, options: Namespace) -> None:
    if options.save is not None:
        write(options.save, dumped(record), is_record)
    if options.html is not None:
        from mlspec.bench.page import as_page

        write(options.html, as_page(record, before), is_page)
