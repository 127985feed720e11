"""`mlspec plan`: show what is decided for each target of a spec, or which machines can serve it. Builds nothing."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlspec.commands import surroundings, tell
from mlspec.commands.looking import look_of
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK
from mlspec.model.plan import Plan
from mlspec.model.spec import TargetSpec
from mlspec.pipeline import Checked, Pipeline

if TYPE_CHECKING:
    from mlspec.hardware.machines import Product
    from mlspec.reporting.plan.serving_machines import Candidate

_ALL = "all"
_DOES_NOT_FIT = "does-not-fit"


def run(options: Namespace) -> int:
    if options.machines is not None and options.html is not None:
        raise CommandError("usage", "--machines makes no page", "take --html without --machines")
    report, pipeline = Report(), Pipeline(surroundings(options))
    checked = pipeline.check(options.spec.absolute(), report)
    if options.machines is not None:
        return _machines(options, pipeline, checked, report)
    plans = list(pipeline.plans(checked, report, options.target)) if checked else []
    if checked and options.html is not None:
        from mlspec.commands.plan_page import write_page
        from mlspec.reporting.plan.page import as_page

        write_page(options.html, as_page(checked, plans, report))
    return _show(options, checked, plans, report)


def _show(options: Namespace, checked: Checked | None, plans: Sequence[Plan], report: Report) -> int:
    if options.output_format == "json":
        from mlspec.reporting.plan.records import document, dumped

        sys.stdout.write(dumped(document(str(options.spec), plans, report)))
        return FINDINGS if report.failed else OK
    from mlspec.reporting.plan.text import as_text

    look = look_of(sys.stdout)
    text = look.spelt(as_text(plans, str(options.spec), look))
    sys.stdout.write(text + "\n" if text and len(report) else text)
    return tell(report, options, to_stdout=True)


def _machines(options: Namespace, pipeline: Pipeline, checked: Checked | None, report: Report) -> int:
    from mlspec.reporting.plan.look import WIDEST
    from mlspec.reporting.plan.records import dumped, findings
    from mlspec.reporting.plan.serving_machines import as_table
    from mlspec.reporting.plan.serving_records import as_document
    from mlspec.reporting.plan.serving_summary import summary

    target = _macos_target(checked, options.target) if checked else None
    found: list[Candidate] = []
    if checked and target:
        wanted = _products(options.machines, _macos(checked, target))
        found = _candidates(_on_macs(checked, target), target, wanted, pipeline, report)
    if options.output_format == "json":
        data = as_document(str(options.spec), target.name if target else None, found)
        sys.stdout.write(dumped({**data, "findings": findings(report)}))
        return FINDINGS if report.failed else OK
    if found and not report.failed:
        look = look_of(sys.stdout, WIDEST)
        sys.stdout.write(look.spelt(f"{as_table(found, look)}\n{summary(found, look)}"))
    return tell(report, options, to_stdout=True)


def _macos_target(checked: Checked, wanted: str | None) -> TargetSpec:
    """The target that is to be tried on Macs: the one named, else the first for macOS, else one of defaults."""
    targets = [target for target in checked.spec.targets if wanted in (None, target.name)]
    if wanted is not None and not targets:
        names = ", ".join(target.name for target in checked.spec.targets)
        raise CommandError("no-such-target", f"there is no target '{wanted}' in this spec", f"it has {names}")
    macs = [target for target in targets if target.platform == "macos"]
    if wanted is not None and not macs:
        help = "leave --target out"
        raise CommandError("target-mismatch", f"--machines tells of Macs; the target '{wanted}' is for Linux", help)
    return macs[0] if macs else TargetSpec.model_construct(name="mac")


def _on_macs(checked: Checked, target: TargetSpec) -> Checked:
    """The spec with this target among its own."""
    if target in checked.spec.targets:
        return checked
    return replace(checked, spec=checked.spec.model_copy(update={"targets": (target,)}))


def _macos(checked: Checked, target: TargetSpec) -> str | None:
    """The macOS that the target's machine names, which decides how much the GPU may keep resident; None: it doesn't."""
    from mlspec.passes.machines import machines

    # What is wrong with that machine doesn't matter here, where others take its place.
    known = machines(checked.spec, checked.document, checked.workspace, Report(), target.name) or {}
    machine = known.get(target.name)
    return machine.macos if machine else None


def _products(wanted: str, macos: str | None) -> list[Product]:
    """The Macs whose titles have all words of what is wanted."""
    from mlspec.hardware.machines import products

    words = [] if wanted == _ALL else wanted.lower().replace(",", " ").split()
    found = [product for product in products(macos) if _has_words(product.title, words)]
    if not found:
        help = "mlspec machine list shows all; parts of their names will do: --machines 'mini M4'"
        raise CommandError("unknown-machine", f"no Mac is known by '{wanted}'", help)
    return found


def _has_words(title: str, words: Sequence[str]) -> bool:
    known = title.lower().replace(",", " ").split()
    return all(word in known for word in words)


def _candidates(
    checked: Checked, target: TargetSpec, products: Sequence[Product], pipeline: Pipeline, report: Report
) -> list[Candidate]:
    """What would be decided on each; only a fault that isn't the machine's goes into the report."""
    from mlspec.reporting.plan.serving_machines import Candidate, by_size

    found, machines = [], [product.machine for product in products]
    planned = pipeline.plans_on(checked, machines, report, target.name)
    for product, (machine, plan, own) in zip(products, planned, strict=False):
        refused = next((one for one in own if one.code == _DOES_NOT_FIT), None)
        if plan is None and refused is None:
            report.extend(own)
            return []
        found.append(Candidate(product.title, machine, plan, refused.message if refused else ""))
    return by_size(found)
