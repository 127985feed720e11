"""The story of a build: the passes in their order. Start reading here.

    Path --load--> Document --validate--> Spec --inspect--> Facts
        --machines, resolve--> Resolved (one for each target) --plan--> Plan --render--> Bundle
        --quantize, package--> disk

Each pass takes values and gives a value, or None after it has put what is wrong into the report. Nothing below asks
what computer it runs on: `Surroundings` says what may be known of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlspec import backends, runners
from mlspec.backends import Backend
from mlspec.diagnostics import Related, Report
from mlspec.digests import Digests
from mlspec.model.bundle import Bundle
from mlspec.model.document import Document
from mlspec.model.facts import Facts, Located
from mlspec.model.machine import Machine
from mlspec.model.plan import Plan
from mlspec.model.spec import Spec
from mlspec.passes.calibrations import calibrations
from mlspec.passes.inspect import inspect
from mlspec.passes.load import load
from mlspec.passes.lock import read_lock
from mlspec.passes.machines import machines
from mlspec.passes.package import package
from mlspec.passes.plan import plan
from mlspec.passes.project import open_workspace
from mlspec.passes.quantize import Workshop, quantize
from mlspec.passes.render import Renderer
from mlspec.passes.resolve import resolve
from mlspec.passes.templates import check_templates
from mlspec.passes.validate import validate
from mlspec.runners import Runner
from mlspec.store import Store
from mlspec.workspace import Surroundings, Workspace


@dataclass(frozen=True)
class Checked:
    """A valid spec and who takes care of it."""

    document: Document
    workspace: Workspace
    spec: Spec
    runner: Runner
    backend: Backend


@dataclass(frozen=True)
class Compiled:
    """What is to be written for one target of a spec."""

    checked: Checked
    plan: Plan
    bundle: Bundle


@dataclass
class Pipeline:
    """The passes over any number of specs; what they share is made once."""

    here: Surroundings
    _workspaces: dict[Path, Workspace | None] = field(default_factory=dict)
    _renderers: dict[Path | None, Renderer] = field(default_factory=dict)

    def check(self, path: Path, report: Report) -> Checked | None:
        """load and validate: what can be said of the spec alone."""
        document = load(path, self.here.shown(path), report)
        workspace = self._workspace(path, report)
        if document is None or workspace is None:
            return None
        spec = validate(document, report, roots=workspace.roots)
        if spec is None:
            return None
        runner, backend = runners.find(spec.runner), backends.find(spec.service.backend)
        if runner is None or backend is None:
            return None
        return Checked(document, workspace, spec, runner, backend)

    def compile(self, checked: Checked, report: Report, target: str | None = None) -> Iterator[Compiled]:
        """plan and render: the bundles of all targets, or of the one named. Writes nothing."""
        for planned in self.plans(checked, report, target):
            bundle = self._renderer(checked.workspace).render(planned, checked.backend, report)
            if bundle is not None:
                yield Compiled(checked, planned, bundle)

    def plans(self, checked: Checked, report: Report, target: str | None = None) -> Iterator[Plan]:
        """inspect, machines, resolve and plan: what is decided for all targets, or for the one named."""
        found = self._inspected(checked, report)
        if found is None or not _has_target(checked, target, report):
            return
        known = machines(checked.spec, checked.document, checked.workspace, report, target)
        for resolved in resolve(checked.spec, *found, known) if known is not None else ():
            decided = plan(resolved, checked.runner, checked.backend, checked.document, checked.workspace, report)
            if decided is not None:
                yield decided

    def plans_on(
        self, checked: Checked, others: Iterable[Machine], report: Report, target: str
    ) -> Iterator[tuple[Machine, Plan | None, Report]]:
        """The plan of a target, had it each of these machines; where that one can't serve it, the report says why."""
        found = self._inspected(checked, report)
        if found is None:
            return
        for machine in others:
            own = Report()
            (resolved,) = resolve(checked.spec, *found, {target: machine})
            decided = plan(resolved, checked.runner, checked.backend, checked.document, checked.workspace, own)
            yield machine, decided, own

    def _inspected(self, checked: Checked, report: Report) -> tuple[Facts, tuple[Located, ...]] | None:
        """inspect: what is known of the models, by their files and by the lock beside the spec, if there is one."""
        faults = Report()
        lock = read_lock(checked.document, checked.workspace.root, faults)
        report.extend(faults)
        if faults.failed:
            return None
        found = inspect(checked.spec, checked.runner, checked.document, checked.workspace, report, lock)
        return found and self._calibrated(checked, *found, report)

    def _calibrated(
        self, checked: Checked, facts: Facts, located: tuple[Located, ...], report: Report
    ) -> tuple[Facts, tuple[Located, ...]] | None:
        """The facts with what was measured of the models, if it was; None after a fault was reported."""
        faults = Report()
        measured = calibrations(checked, facts, faults)
        report.extend(faults)
        return None if faults.failed else (replace(facts, calibrations=measured), located)

    def _workspace(self, spec: Path, report: Report) -> Workspace | None:
        """The workspace of the specs in a folder; what is wrong with it is said once."""
        if spec.parent not in self._workspaces:
            self._workspaces[spec.parent] = self._opened(spec, report)
        return self._workspaces[spec.parent]

    def _opened(self, spec: Path, report: Report) -> Workspace | None:
        workspace, faults = open_workspace(spec, self.here, report), Report()
        if workspace is not None:
            check_templates(workspace, faults)
        report.extend(faults)
        return None if faults.failed else workspace

    def _renderer(self, workspace: Workspace) -> Renderer:
        if workspace.templates not in self._renderers:
            self._renderers[workspace.templates] = Renderer(workspace.templates, self.here.template_cache)
        return self._renderers[workspace.templates]


def build(
    paths: Iterable[Path],
    here: Surroundings,
    out: Path | None,
    report: Report,
    target: str | None = None,
    *,
    models: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Path]:
    """Build each spec and give the folders of the bundles as they are written.

    A spec with a fault gets no bundle; the others are built all the same. `out` is the project's `build/` if not given.
    Without `models`, bundles have no links to any, and none is quantized. `say` is told what takes long.
    """
    workshop = _workshop(here, say) if models else None
    for compiled, own in _compiled(paths, here, target, out):
        for one in compiled if not own.failed else ():
            bundle = _with_models(one, workshop, own)
            place = package(bundle, out or one.checked.workspace.root / "build", own) if bundle else None
            if place is not None:
                yield place
        report.extend(own)


def _workshop(here: Surroundings, say: Callable[[str], None]) -> Workshop:
    digests = Digests(here.digests, say)
    return Workshop(Store(here.derived_models, digests, say), digests, say)


def _with_models(one: Compiled, workshop: Workshop | None, report: Report) -> Bundle | None:
    """quantize: the bundle with links to the models that it serves, as they are or as they are made here."""
    if workshop is None:
        return replace(one.bundle, links={})
    return quantize(one.plan, one.bundle, one.checked.runner, workshop, one.checked.document, report)


def check(paths: Iterable[Path], here: Surroundings, report: Report) -> None:
    """All that `build` does, but for writing."""
    for _, own in _compiled(paths, here, None, None):
        report.extend(own)


def _compiled(
    paths: Iterable[Path], here: Surroundings, target: str | None, out: Path | None
) -> Iterator[tuple[list[Compiled], Report]]:
    """Each spec's bundles, and its own report: one spec's faults stop no other."""
    pipeline, names = Pipeline(here), _Names(out)
    for path in paths:
        own = Report()
        checked = pipeline.check(path, own)
        yield list(pipeline.compile(checked, own, target)) if checked and names.free(checked, own) else [], own


def _has_target(checked: Checked, target: str | None, report: Report) -> bool:
    names = [t.name for t in checked.spec.targets]
    if target is None or target in names:
        return True
    span = checked.document.key_span(("targets",))
    report.error(
        "no-such-target", f"there is no target '{target}' in this spec", span, help=f"it has {', '.join(names)}"
    )
    return False


class _Names:
    """Where each spec's bundles go: two specs of one project and name would overwrite each other's."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._taken: dict[tuple[Path, str, str], Checked] = {}

    def free(self, checked: Checked, report: Report) -> bool:
        metadata = checked.spec.metadata
        place = (self._out or checked.workspace.root, metadata.project, metadata.name)
        first = self._taken.setdefault(place, checked)
        if first is checked:
            return True
        related = Related(first.document.value_span(("metadata", "name")), "the first spec of this name")
        span = checked.document.value_span(("metadata", "name"))
        message = f"'{metadata.name}' of project '{metadata.project}' is built by another spec, too"
        report.error("name-taken", message, span, help="give one of them another name", related=(related,))
        return False
