"""Where a decided value came from, looked up as it is told: a spec's line, a fact, a data row, another decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.diagnostics import Report
from mlspec.model.document import Document, Pointer
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Decision, Plan
from mlspec.passes.calibrations import calibration_path
from mlspec.reporting.plan.data_rows import row
from mlspec.reporting.plan.quoted_line import Line
from mlspec.reporting.plan.values import cut, in_words, shown
from mlspec.reporting.plan.walking import ABSENT, at, attribute, path_of, pointer_of
from mlspec.reporting.quoted_lines import QuotedLines
from mlspec.reporting.words import on_one_line

_LONGEST_VALUE = 60
_AUTO = "auto"
_OF_A_ROW = ("source", "confidence", "uncertain")


@dataclass(frozen=True)
class Source:
    """One input of a decision: `where` it stands, its `value` there in words, what is to be known of it (`note`), the
    line of the spec that says it (`quoted`), and for another decision what that came from (`below`).
    """

    where: str
    value: str = ""
    note: str = ""
    quoted: Line | None = None
    below: tuple[Source, ...] = ()


class Sources:
    """Looks up the inputs of a plan's decisions."""

    def __init__(self, plan: Plan, document: Document) -> None:
        self._plan, self._document = plan, document
        self._lines = QuotedLines(lambda _: document.text, Report())
        self._kinds: Mapping[str, Callable[[str], Source]] = {
            "spec": self._of_spec,
            "facts": self._of_facts,
            "data": _of_data,
            "profile": _of_profile,
            "calibration": self._of_calibration,
            "target": self._of_target,
        }

    def of(self, decision: Decision, *, deep: bool = True) -> tuple[Source, ...]:
        """The inputs of a decision; those of decisions among them, too, if it is to go `deep`."""
        return tuple(self._source(given, deep) for given in decision.inputs)

    def _source(self, given: str, deep: bool) -> Source:
        kind, _, rest = given.partition(":")
        if kind == "plan":
            return self._of_plan(rest, deep)
        told = self._kinds.get(kind)
        return told(rest) if told else Source(on_one_line(given))

    def _of_spec(self, path: str) -> Source:
        pointer = pointer_of(path, self._document.data)
        if pointer not in self._document.places:
            return self._unsaid(pointer)
        span = self._document.key_span(pointer)
        line = self._lines.line(span.file, span.line) or ""
        return Source(f"{on_one_line(span.file)}:{span.line}:{span.column}", quoted=Line(span.line, line, span.column))

    def _unsaid(self, pointer: Pointer) -> Source:
        value = attribute(self._plan.spec, pointer)
        said = f"says nothing of {path_of(pointer)}"
        if value is not ABSENT and not self._is_otherwise(path_of(pointer), value):
            said += f", which is then {_words(str(pointer[-1]), value)}"
        return Source(on_one_line(self._document.shown), note=on_one_line(said))

    def _is_otherwise(self, key: str, value: Any) -> bool:
        """Whether this value of the spec's is decided, and as another one than its default."""
        decided = next((one.value for one in self._plan.decisions if one.key == key), ABSENT)
        return decided is not ABSENT and value != _AUTO and shown(key, decided) != shown(key, value)

    def _of_facts(self, path: str) -> Source:
        facts = _facts_at(path, self._plan.resolved.facts.models)
        if facts is None:
            return Source(on_one_line(f"facts of {path}"))
        rest = path.removeprefix(facts.ref.role).strip("/")
        value = at({**facts.details, "parameter_bytes": facts.parameter_bytes}, rest.split("/"))
        where = f"{facts.ref.role} ({_source_of(facts)}): {', '.join(rest.split('/'))}"
        return Source(on_one_line(where), _words(rest, value))

    def _of_calibration(self, path: str) -> Source:
        file = calibration_path(Path(self._document.shown))
        return Source(on_one_line(f"{file}: {', '.join(path.split('/'))}"))

    def _of_target(self, path: str) -> Source:
        index = [target.name for target in self._plan.spec.targets].index(self._plan.target.name)
        if pointer_of(f"/targets/{index}/{path}", self._document.data) in self._document.places:
            return self._of_spec(f"/targets/{index}/{path}")
        where = f"target {self._plan.target.name}: {', '.join(path.split('/'))}"
        return Source(on_one_line(where), _words(path, attribute(self._plan.target, tuple(path.split("/")))))

    def _of_plan(self, key: str, deep: bool) -> Source:
        decision = next((one for one in self._plan.decisions if one.key == key), None)
        if decision is None:
            return Source(on_one_line(key))
        below = self.of(decision, deep=False) if deep else ()
        return Source(on_one_line(key), _words(key, decision.value), on_one_line(decision.rule), None, below)


def _of_data(path: str) -> Source:
    table, *steps = path.split("/")
    where, found = on_one_line(f"data {table}: {', '.join(steps)}"), row(path)
    if found is None:
        return Source(where)
    note = "; ".join(filter(None, (found.confidence, f"source: {found.source}")))
    return Source(where, _words(steps[-1], found.value), on_one_line(note))


def _of_profile(path: str) -> Source:
    file, _, rest = path.partition("#")
    return Source(on_one_line(file), note=on_one_line(", ".join(rest.strip("/").split("/"))))


def _facts_at(path: str, models: tuple[ModelFacts, ...]) -> ModelFacts | None:
    """The model whose role the path begins with: roles have slashes in them (`adapters/support`)."""
    fitting = [facts for facts in models if f"{path}/".startswith(f"{facts.ref.role}/")]
    return max(fitting, key=lambda facts: len(facts.ref.role), default=None)


def _source_of(facts: ModelFacts) -> str:
    source = facts.ref.source
    return source.path or source.hf or source.store or ""


def _words(key: str, value: Any) -> str:
    """A value in words, nothing for one that isn't there; of a table's row what it holds beside its source."""
    if value is ABSENT:
        return ""
    if isinstance(value, dict):
        value = {name: part for name, part in value.items() if name not in _OF_A_ROW}
    return cut(in_words(key.replace("/", "."), value), _LONGEST_VALUE)
