"""No secret in a spec: it would be committed, and written into the bundle for all to read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mlspec.characters import quoted
from mlspec.diagnostics import Related
from mlspec.model.document import Pointer
from mlspec.passes.validate.findings import Findings
from mlspec.secrets import holds_secret, is_secret_name
from mlspec.source_text import SourceText

_ENV = ("service", "env")
_ELSEWHERE = "put it into the environment where the service starts, and name the variable: env: [{name: MY_TOKEN}]"
_SHORTEST = 4
"""Characters of a value that is looked for elsewhere in the file: shorter ones are found everywhere."""
_MOST_SEARCHED = 20
_MOST_COPIES = 20


def check_secrets(data: Any, findings: Findings) -> None:
    """Report each text in the shape of a token or key, and each literal value of a secret variable."""
    for pointer, text in _texts(data, ()):
        if holds_secret(text):
            findings.error("secret", "this looks like a token or key", pointer, help=_ELSEWHERE)
    for pointer, key in _keys(data, ()):
        if holds_secret(key):
            findings.error("secret", "this looks like a token or key", (*pointer, key), at="key", help=_ELSEWHERE)
    for count, (pointer, name) in enumerate(_secret_variables(data)):
        shown = quoted(name)[1:-1]
        message = f"{shown} is a secret by its name, and has its value here"
        help = f"leave the value out and set {shown} where the service starts"
        related = _copies(pointer, findings) if count < _MOST_SEARCHED else ()
        findings.error("secret", message, pointer, help=help, related=related)


def _secret_variables(data: Any) -> Iterator[tuple[Pointer, str]]:
    """Variables with a literal value: `[{name: API_KEY, value: …}]`, or the map that some write instead."""
    service = data.get("service") if isinstance(data, dict) else None
    variables = service.get("env") if isinstance(service, dict) else None
    given: list[tuple[Pointer, Any, Any]] = []
    if isinstance(variables, dict):
        given = [((*_ENV, name), name, value) for name, value in variables.items()]
    elif isinstance(variables, list):
        maps = ((index, item) for index, item in enumerate(variables) if isinstance(item, dict))
        given = [((*_ENV, i, "value"), m.get("name"), m.get("value")) for i, m in maps]
    for pointer, name, value in given:
        if isinstance(name, str) and is_secret_name(name) and value not in (None, ""):
            yield pointer, name


def _copies(pointer: Pointer, findings: Findings) -> tuple[Related, ...]:
    """Other places of the same text, as where an alias takes it from: they are not shown either."""
    raw = findings.document.raw(pointer)
    if raw is None or len(raw) < _SHORTEST:
        return ()
    source, own = SourceText(findings.document.text, findings.document.shown), findings.span(pointer)
    found = islice(re.finditer(re.escape(raw), source.text), _MOST_COPIES)
    spans = (source.span(*match.span()) for match in found)
    return tuple(Related(span, "the same text") for span in spans if span != own)


def _texts(data: Any, pointer: Pointer) -> Iterator[tuple[Pointer, str]]:
    if isinstance(data, str):
        yield pointer, data
    for step, child in _children(data):
        yield from _texts(child, (*pointer, step))


def _keys(data: Any, pointer: Pointer) -> Iterator[tuple[Pointer, str]]:
    for step, child in _children(data):
        if isinstance(step, str):
            yield pointer, step
        yield from _keys(child, (*pointer, step))


def _children(data: Any) -> list[tuple[str | int, Any]]:
    if isinstance(data, dict):
        return list(data.items())
    return list(enumerate(data)) if isinstance(data, list) else []
