"""What mlspec tells a user about a spec: a `Diagnostic` with its place, collected in a `Report`.

The renderers (text, concise, JSON, SARIF, GitHub) are in `mlspec.reporting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, order=True)
class Span:
    """A range of a file. Lines and columns count from 1 (characters, not bytes); the end is exclusive."""

    file: str
    line: int = 1
    column: int = 1
    end_line: int = 1
    end_column: int = 1


@dataclass(frozen=True)
class Related:
    """A second place that belongs to a diagnostic, as the first of two equal keys."""

    span: Span
    message: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding: `label` stands below the marked text, `help` is the remedy."""

    code: str
    message: str
    span: Span
    severity: Severity = "error"
    label: str = ""
    help: str = ""
    related: tuple[Related, ...] = ()

    @property
    def order(self) -> tuple[object, ...]:
        return (self.span.file, self.span.line, self.span.column, self.code, self.message)


@dataclass
class Report:
    """Collects diagnostics over the passes; equal ones are kept once."""

    _found: dict[Diagnostic, None] = field(default_factory=dict)

    def add(self, diagnostic: Diagnostic) -> None:
        self._found[diagnostic] = None

    def error(
        self, code: str, message: str, span: Span, *, label: str = "", help: str = "", related: tuple[Related, ...] = ()
    ) -> None:
        self.add(Diagnostic(code, message, span, "error", label, help, related))

    def warning(
        self, code: str, message: str, span: Span, *, label: str = "", help: str = "", related: tuple[Related, ...] = ()
    ) -> None:
        self.add(Diagnostic(code, message, span, "warning", label, help, related))

    def extend(self, other: Report) -> None:
        for diagnostic in other._found:
            self.add(diagnostic)

    @property
    def failed(self) -> bool:
        return any(d.severity == "error" for d in self._found)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(sorted(self._found, key=lambda d: d.order))

    def __len__(self) -> int:
        return len(self._found)
