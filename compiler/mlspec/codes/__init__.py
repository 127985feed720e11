"""The pages that `mlspec explain CODE` prints: one Markdown file for each code of a diagnostic."""

from __future__ import annotations

from pathlib import Path

_PAGES = Path(__file__).parent


def explain(code: str) -> str | None:
    """The page of a code; None if there is no such code."""
    return (_PAGES / f"{code}.md").read_text(encoding="utf-8") if code in known() else None


def known() -> tuple[str, ...]:
    """All codes, sorted."""
    return tuple(sorted(page.stem for page in _PAGES.glob("*.md")))


def title(code: str) -> str:
    """The heading of a code's page: what is wrong, in a few words."""
    page = explain(code) or code
    return page.splitlines()[0].removeprefix("# ")
