"""quantize: the models that a plan wants made of others (quantized, or converted from another format), made now or
taken from the store. Only a build does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from mlspec.diagnostics import Report
from mlspec.digests import Digests
from mlspec.errors import CommandError
from mlspec.hardware.budget import gib
from mlspec.model.bundle import Bundle
from mlspec.model.document import Document, Pointer
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Derivation, Plan
from mlspec.model_files import BadModelFileError, tensors
from mlspec.passes.inspect import ModelFaults
from mlspec.passes.lock.writing import report_other_weights
from mlspec.runners import Runner
from mlspec.store import Recipe, Store


@runtime_checkable
class Deriver(Protocol):
    """A runner that makes models of others, as its plans' derivations tell."""

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        """Make the model that a derivation tells of from the one in the folder `source`. Nothing is at `into` yet.

        Raises:
            CommandError: it can't be made here, or making it failed.
        """


@dataclass(frozen=True)
class Workshop:
    """Where models are made. `say` is told what takes long; what ends with a newline is to stay."""

    store: Store
    digests: Digests
    say: Callable[[str], None]

    def made(self, derivation: Derivation, facts: ModelFacts, source: Path, deriver: Deriver) -> Path | None:
        """The folder of the model that a derivation tells of; None if `source` isn't the model that was locked.

        Raises:
            OSError: the source can't be read, or the store not written.
            BadModelFileError: what was made is no model.
            CommandError: it can't be made here, or making it failed.
        """
        content = self.digests.of_model(source, facts.files)
        if facts.content not in (None, content):
            return None

        def make(into: Path) -> None:
            self.say(f"{_told(derivation)}\n")
            deriver.derive(derivation, source, into)

        return self.store.obtain(Recipe(derivation.key, derivation.settings, content, derivation.bytes), make)


def quantize(
    plan: Plan, bundle: Bundle, runner: Runner, workshop: Workshop, document: Document, report: Report
) -> Bundle | None:
    """The bundle with links to what was made instead of what it was made of; None after a fault was reported.

    A model that isn't on this computer has no link, and nothing is made of it either.
    """
    links, faults = dict(bundle.links), ModelFaults(document, report)
    for derivation in plan.derivations:
        link = f"models/{derivation.role}"
        if link in links:
            made = _made(derivation, plan, links[link], _deriver(runner), workshop, faults)
            if made is None:
                return None
            links[link] = made
    return replace(bundle, links=links)


def _deriver(runner: Runner) -> Deriver:
    if not isinstance(runner, Deriver):
        raise TypeError(f"the runner '{runner.name}' plans derivations and has no method derive")
    return runner


def _made(
    derivation: Derivation, plan: Plan, source: Path, deriver: Deriver, workshop: Workshop, faults: ModelFaults
) -> Path | None:
    facts = plan.resolved.facts.of(derivation.role)
    pointer = _pointer(derivation, facts)
    try:
        made = workshop.made(derivation, facts, source, deriver)
        if made is None:
            report_other_weights(facts.ref, faults, faults.document.shown)
        else:
            _check_size(made, derivation, pointer, faults)
        return made
    except CommandError as problem:
        faults.error(problem.code, problem.message, pointer, help=problem.help)
    except BadModelFileError as problem:
        _no_model(derivation, problem, pointer, faults)
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        place = problem.filename or workshop.store.folder
        message = f"{derivation.role} can't be {_done(derivation)}: {reason} ({place})"
        _failed(derivation, message, pointer, _remedy(problem, workshop.store.folder), faults)
    return None


def _no_model(derivation: Derivation, problem: BadModelFileError, pointer: Pointer, faults: ModelFaults) -> None:
    if derivation.work == "convert":
        message = f"{derivation.role} can't be converted: {problem}"
        _failed(derivation, message, pointer, "save the adapter again", faults)
        return
    message = f"what quantizing made of {derivation.role} is no model: {problem}"
    _failed(derivation, message, pointer, "quantize to other bits, or not at all", faults)


def _failed(derivation: Derivation, message: str, pointer: Pointer, help: str, faults: ModelFaults) -> None:
    if derivation.work == "convert":
        faults.error("conversion-failed", message, pointer, help=help)
    else:
        faults.error("quantize-failed", message, pointer, help=help)


def _pointer(derivation: Derivation, facts: ModelFacts) -> Pointer:
    """Where the spec asks for it: by `quantization`, or by naming a model of another format."""
    return facts.ref.pointer if derivation.work == "convert" else ("quantization",)


def _told(derivation: Derivation) -> str:
    if derivation.work == "convert":
        return f"converting {derivation.role}, {gib(derivation.bytes)}: once only"
    bits = derivation.settings.get("bits")
    what = f"{derivation.role}{f' to {bits} bits' if bits else ''}, {gib(derivation.bytes)}"
    return f"quantizing {what}: minutes, but once only"


def _done(derivation: Derivation) -> str:
    return "converted" if derivation.work == "convert" else "quantized"


def _remedy(problem: OSError, store: Path) -> str:
    """For what the system refused: in the store's folder, or in one that it would be in, another cache helps."""
    place = Path(problem.filename) if isinstance(problem.filename, str) else store
    without = "build with --no-models to do without the model here"
    if place.is_relative_to(store) or store.is_relative_to(place):
        return f"set XDG_CACHE_HOME to a folder that can be written, or {without}"
    return f"check its permissions, or {without}"


def _check_size(made: Path, derivation: Derivation, pointer: Pointer, faults: ModelFaults) -> None:
    """Compare the made tensors' bytes with those that the plan counted beforehand, and its memory with them. What is in
    another format can't be counted beforehand.
    """
    files = sorted(made.glob("*.safetensors"))
    if not files:
        return
    found = (tensors(path).values() for path in files)
    made_bytes = sum(tensor.size_bytes for file in found for tensor in file)
    if made_bytes != derivation.bytes:
        message = f"{derivation.role} has {made_bytes:,} bytes {_done(derivation)}, {derivation.bytes:,} were planned"
        faults.warning("quantized-size", message, pointer, help="the memory plan is off by the difference: report it")
