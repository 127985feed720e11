"""`mlspec why`: tell one decided value's whole story."""

from __future__ import annotations

import sys
import textwrap
from argparse import Namespace

from mlspec.commands import surroundings, tell
from mlspec.commands.looking import look_of
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.model.plan import Plan
from mlspec.pipeline import Checked, Pipeline
from mlspec.reporting.plan.look import Look
from mlspec.suggest import did_you_mean


def run(options: Namespace) -> int:
    report, pipeline = Report(), Pipeline(surroundings(options))
    checked = pipeline.check(options.spec.absolute(), report)
    plans = list(pipeline.plans(checked, report, options.target)) if checked else []
    if checked and plans:
        look = look_of(sys.stdout)
        text = _keys(plans, look) if options.key is None else _stories(options.key, plans, checked, look)
        sys.stdout.write(look.spelt(text))
        sys.stdout.flush()
    return tell(_errors(report), Namespace(output_format="text"), to_stdout=False)


def _keys(plans: list[Plan], look: Look) -> str:
    from mlspec.reporting.plan.story import keys

    return "\n".join(keys(plan, look) for plan in plans)


def _stories(key: str, plans: list[Plan], checked: Checked, look: Look) -> str:
    from mlspec.reporting.plan.groups import with_estimates
    from mlspec.reporting.plan.story import story

    told = [(plan, decision) for plan in plans for decision in with_estimates(plan)]
    found = [(plan, decision) for plan, decision in told if decision.key == key]
    if not found and (said := _as_in_the_spec(key, checked, look)) is not None:
        return said
    if not found:
        raise _unknown(key, {decision.key for _, decision in told})
    return "\n".join(story(plan, decision, checked.document, look) for plan, decision in found)


def _as_in_the_spec(key: str, checked: Checked, look: Look) -> str | None:
    from mlspec.reporting.plan.spec_keys import spec_story

    return spec_story(key, checked.document, look)


def _unknown(key: str, keys: set[str]) -> CommandError:
    known = sorted(keys)
    meant = did_you_mean(key, known) or _by_its_end(key, known)
    listed = textwrap.wrap(f"there are: {', '.join(known)}", 100, subsequent_indent="    ", break_on_hyphens=False)
    return CommandError("no-such-value", f"no value '{key}' was decided", "\n  ".join(filter(None, [meant, *listed])))


def _by_its_end(key: str, known: list[str]) -> str:
    """`concurrency` for `service.concurrency`."""
    ends = [one for one in known if one.endswith(f".{key}")]
    return f"did you mean '{ends[0]}'?" if len(ends) == 1 else ""


def _errors(report: Report) -> Report:
    """Warnings belong to the plan; here only what kept a value from being decided counts."""
    errors = Report()
    for found in report:
        if found.severity == "error":
            errors.add(found)
    return errors
