"""The checks that the schema asks for by `x-mlspec-check`: one function each, for all values that it is named at."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mlspec import backends, runners
from mlspec.characters import quoted, shortened
from mlspec.diagnostics import Related
from mlspec.model.document import Pointer
from mlspec.passes.validate.findings import Findings
from mlspec.passes.validate.phrases import path_of
from mlspec.suggest import did_you_mean, listed

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LONGEST_REASON = 300
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DRIVE = re.compile(r"[A-Za-z]:")
_INSIDE = "paths start at the project's root and stay inside it; name another place by a root that mlspec.yaml declares"


@dataclass(frozen=True)
class Known:
    """What a spec's names can refer to, beside what it defines itself: the project's `roots`."""

    roots: Collection[str] = ()


def run_check(name: str, value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    """Do the check `name` on a value of any type."""
    _CHECKS[name](value, pointer, findings, known)


def _check_path(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    if not isinstance(value, str):
        return
    if problem := _leaves(value):
        findings.error("path-outside", f"the path {quoted(value)} {problem}", pointer, help=_INSIDE)
    elif problem := _malformed(value):
        findings.error("bad-path", f"the path {quoted(value)} {problem}", pointer, help="write it as in models/tiny")


def _leaves(path: str) -> str:
    """What leads a path out of the project, by its text alone."""
    if _URL.match(path):
        return ""
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        return "is absolute"
    if path.startswith("~"):
        return "starts in a home folder"
    return "leads out by '..'" if ".." in re.split(r"[/\\]", path) else ""


def _malformed(path: str) -> str:
    if not path.strip():
        return "is empty"
    if _URL.match(path):
        return "is a URL; a model on Hugging Face is named by hf and revision"
    if "\\" in path:
        return "has a backslash: folders are separated by '/'"
    return "has a line end or a tab" if re.search(r"[\t\r\n\0]", path) else ""


def _check_root(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    if not isinstance(value, str) or value in known.roots:
        return
    help = f"mlspec.yaml declares {listed(sorted(known.roots))}" if known.roots else ""
    help = help or f"declare it in mlspec.yaml: roots: {{{value}: {{env: WEIGHTS_DIR}}}}"
    label = did_you_mean(value, known.roots)
    findings.error("unknown-root", f"the project declares no root {quoted(value)}", pointer, label=label, help=help)


def _check_runner(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    _check_part("runner", value, pointer, findings, runners.find, runners.names, runners.RUNNER_API)


def _check_backend(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    _check_part("backend", value, pointer, findings, backends.find, backends.names, backends.BACKEND_API)


def _check_part(
    kind: str,
    value: Any,
    pointer: Pointer,
    findings: Findings,
    find: Callable[[str], Any],
    names: Callable[[], tuple[str, ...]],
    api: int,
) -> None:
    if not isinstance(value, str):
        return
    try:
        found = find(value) if _NAME.fullmatch(value) else None
    except Exception as error:  # noqa: BLE001 - a plug-in's import can raise anything, and it isn't ours
        reason = shortened(f"{type(error).__name__}: {error}".replace("\n", " "), _LONGEST_REASON)
        message = f"the plug-in of {kind} {quoted(value)} can't be loaded: {reason}"
        findings.error("broken-plugin", message, pointer, help="install what it needs, or ask who made it")
        return
    if found is None:
        _report_unknown(value, pointer, findings, kind, names())
    elif (its_api := getattr(found, f"{kind}_api", None)) != api:
        message = f"the plug-in of {kind} {quoted(value)} is made for version {its_api} of mlspec's protocol, not {api}"
        findings.error("broken-plugin", message, pointer, help="update the plug-in or mlspec")


def _report_unknown(value: str, pointer: Pointer, findings: Findings, kind: str, names: tuple[str, ...]) -> None:
    message = f"there is no {kind} {quoted(value)}"
    help = f"known here: {', '.join(names)}; a plug-in can bring another"
    findings.error(f"unknown-{kind}", message, pointer, label=did_you_mean(value, names), help=help)


def _check_unique_names(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    first: dict[str, Pointer] = {}
    for index, item in enumerate(value if isinstance(value, list) else ()):
        name = item.get("name") if isinstance(item, dict) else None
        place = (*pointer, index, "name")
        if isinstance(name, str) and first.setdefault(name, place) != place:
            related = (Related(findings.span(first[name]), "the first is here"),)
            message = f"two items of {path_of(pointer)} have the name {quoted(name)}"
            findings.error("duplicate-name", message, place, help="give one of them another name", related=related)


def _check_identifier(value: Any, pointer: Pointer, findings: Findings, known: Known) -> None:
    if isinstance(value, str) and keyword.iskeyword(value):
        message = f"{quoted(value)} is a word of the Python language"
        findings.error("bad-identifier", message, pointer, help="name the class as its file does")


_CHECKS: Mapping[str, Callable[[Any, Pointer, Findings, Known], None]] = {
    "path": _check_path,
    "root": _check_root,
    "runner": _check_runner,
    "backend": _check_backend,
    "unique-names": _check_unique_names,
    "identifier": _check_identifier,
}
