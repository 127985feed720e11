"""render: templates to text, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from mlspec.backends import Backend
from mlspec.diagnostics import Report, Span
from mlspec.model.bundle import MARK, Bundle
from mlspec.model.plan import Plan
from mlspec.rendering.context import context, neutral
from mlspec.rendering.documents import plan_document, to_json, to_yaml
from mlspec.rendering.environment import TemplateFolders, environment
from mlspec.rendering.filters import UnsafeValueError
from mlspec.rendering.shapes import lacks, shape
from mlspec.resources import folder


class Renderer:
    """The templates of a project, ready for any number of plans."""

    def __init__(self, user_templates: Path | None = None, cache: Path | None = None) -> None:
        self._folders = TemplateFolders(folder("templates"), user_templates)
        self._environment = environment(folder("templates"), user_templates, cache)

    def render(self, plan: Plan, backend: Backend, report: Report) -> Bundle | None:
        """All files of the bundle; None after a fault of a template was reported."""
        given, plain = context(plan), neutral(plan)
        texts = {
            path: self._text(path, template, given, plain, report)
            for path, template in backend.templates(plan.target).items()
        }
        copied = _copied(plan.copied, report)
        if report.failed:
            return None
        files = {path: text.encode() for path, text in texts.items() if text is not None}
        files |= {path: _dumped(path, data) for path, data in backend.documents(plan).items()}
        files |= copied
        files["requirements.txt"] = "".join(f"{line}\n" for line in plan.requirements).encode()
        files[MARK] = to_json(plan_document(plan, files))
        return Bundle(plan.folder, dict(sorted(files.items())), plan.links)

    def _text(
        self, path: str, template: str, given: Mapping[str, Any], plain: Mapping[str, Any], report: Report
    ) -> str | None:
        """One file, if it has the shape that it has with neutral strings."""
        try:
            loaded = self._environment.get_template(template)
            text, expected = loaded.render(given), loaded.render(plain)
            if shape(path, text) != shape(path, expected):
                problem, line = f"a string of the spec changed the shape of {path}", 1
            elif lacking := lacks(path, text):
                problem, line = f"{path} lacks {lacking}", 1
            else:
                return str(text)
        except SyntaxError as fault:
            problem, line = f"{path} would be no Python: {fault.msg}", 1
        except TemplateSyntaxError as fault:
            problem, line = str(fault.message), fault.lineno
        except (TemplateError, UnsafeValueError, RecursionError, TypeError, ValueError, ArithmeticError) as fault:
            problem, line = f"{path}: {fault or type(fault).__name__}", self._line(template, fault)
        self._fault(template, problem, line, report)
        return None

    def _line(self, template: str, fault: BaseException) -> int:
        """The line of the template that was at work; Jinja puts it into the traceback."""
        file = str(self._folders.path(template))
        lines = [frame.tb_lineno for frame in _frames(fault) if frame.tb_frame.f_code.co_filename == file]
        return lines[-1] if lines else 1

    def _fault(self, template: str, problem: str, line: int, report: Report) -> None:
        file = str(self._folders.path(template) or template)
        help = f"compare it with: mlspec templates show {template}"
        report.error("template", problem, Span(file, line, 1, line, 1), help=help)


def _dumped(path: str, data: Mapping[str, Any]) -> bytes:
    return to_json(data) if path.endswith(".json") else to_yaml(data)


def _copied(sources: Mapping[str, Path], report: Report) -> dict[str, bytes]:
    """The files that a bundle takes over as they are."""
    found = {}
    for path, source in sources.items():
        try:
            found[path] = source.read_bytes()
        except OSError as problem:
            message = f"{source.name} can't be read: {(problem.strerror or str(problem)).lower()}"
            report.error(
                "file-unreadable", message, Span(str(source)), help="check that it is there, and its permissions"
            )
    return found


def _frames(fault: BaseException) -> Iterator[TracebackType]:
    frame = fault.__traceback__
    while frame is not None:
        yield frame
        frame = frame.tb_next
