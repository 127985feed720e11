"""What validate finds in one document: put at its place, said once, without any secret."""

from __future__ import annotations

from typing import Literal

from mlspec.diagnostics import Diagnostic, Related, Report, Span
from mlspec.model.document import Document, Pointer
from mlspec.secrets import masked

Part = Literal["key", "value"]
_UNREADABLE = frozenset(
    {
        "wrong-type",
        "yaml-number",
        "missing-key",
        "empty-list",
        "unknown-value",
        "unknown-runner",
        "broken-plugin",
        "bad-value",
        "secret",
    }
)
"""Codes after which a value can't be given a type: what depends on it isn't looked at."""


class Findings:
    """Reports faults of a document's values. A place that already has a fault, found by `load`, gets no second one."""

    def __init__(self, document: Document, report: Report) -> None:
        self.document = document
        self._report = report
        self._faulty_spans = {d.span for d in report if d.span.file == document.shown}
        self._unreadable: set[Pointer] = set()
        self._said: set[tuple[Pointer, Part]] = set()

    def error(
        self,
        code: str,
        message: str,
        pointer: Pointer,
        *,
        at: Part = "value",
        label: str = "",
        help: str = "",
        related: tuple[Related, ...] = (),
    ) -> None:
        """A fault of the value that `pointer` names, or of its key. Each has one fault, the first one."""
        if code in _UNREADABLE:
            self._unreadable.add(pointer)
        if (pointer, at) not in self._said and (code == "secret" or not self._known_as_faulty(pointer, at)):
            self._add(Diagnostic(code, message, self.span(pointer, at), "error", label, help, related))
        self._said.add((pointer, at))

    def warning(self, code: str, message: str, pointer: Pointer, *, help: str = "") -> None:
        """Something that is allowed and most likely not meant."""
        self._add(Diagnostic(code, message, self.span(pointer), "warning", "", help))

    def leave_out(self, pointer: Pointer) -> None:
        """Nothing is said of this value, as its fault was told elsewhere; but it can't be given a type."""
        self._unreadable.add(pointer)
        self._said |= {(pointer, "key"), (pointer, "value")}

    @property
    def failed(self) -> bool:
        """True if this document has an error, whoever found it."""
        return any(d.severity == "error" and d.span.file == self.document.shown for d in self._report)

    def readable(self, *pointer: str | int) -> bool:
        """True if the value and all in it can be given its type."""
        return not any(p[: len(pointer)] == pointer[: len(p)] for p in self._unreadable)

    def span(self, pointer: Pointer, at: Part = "value") -> Span:
        """The place of a value, or of its key. It is one line for a map or list: their key, or their first one.

        What is missing has the place of the key that it belongs under.
        """
        place = self.document.places.get(pointer)
        if place is None:
            return self.span(pointer[:-1], "key") if pointer else self.document.value_span(())
        if at == "key" and place.key:
            return place.key
        if place.raw is not None or place.value.line == place.value.end_line:
            return place.value
        return place.key or self._first(pointer) or place.value

    def _known_as_faulty(self, pointer: Pointer, at: Part) -> bool:
        """True if `load` found a fault here: it is the reason of this one, too."""
        place = self.document.places.get(pointer)
        return bool({self.span(pointer, at), *([place.value] if place else [])} & self._faulty_spans)

    def _add(self, found: Diagnostic) -> None:
        texts = {"message": masked(found.message), "label": masked(found.label), "help": masked(found.help)}
        self._report.add(
            Diagnostic(found.code, span=found.span, severity=found.severity, related=found.related, **texts)
        )

    def _first(self, pointer: Pointer) -> Span | None:
        """The first key of a map, or item of a list."""
        data = self.document.data
        for step in pointer:
            data = data[step]
        child = self.document.places.get((*pointer, next(iter(data), 0) if isinstance(data, dict) else 0))
        return (child.key or child.value) if child else None
