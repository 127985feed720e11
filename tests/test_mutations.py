"""Good specs, broken in every way that a seeded random can think of: each ends in a spec or in a report."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlspec.diagnostics import Report
from mlspec.passes.load import load, parse
from mlspec.passes.validate import validate
from mlspec.reporting import FORMATS, render
from mlspec.source_text import SourceText

SPECS = Path(__file__).parent.parent / "specs"
GOOD = [path.read_text(encoding="utf-8") for path in sorted(SPECS.glob("*.yaml"))]
YAML_SIGNS = ": - , { } [ ] & * ! | > ' \" # % @ ` ? ~ << --- ..."
NUMBERS = "null true .nan .inf 0x 1e999 3.10 -1 99999999999999999999"
CHARACTERS = "\n \n\n \t \r \r\n \x00 \x1b \x85 \u202e \u2028 \ufeff \ud800 \U0001f600 日本 é \\x1b \\ud800 \\ $"
WORDS = ["*a", "&a ", "<<: *a", "!!python/object:os.system ls", "2026-01-01", "../..", "/etc/passwd", "~", "x-key: 1"]
TOKENS = [
    *YAML_SIGNS.split(" "),
    *NUMBERS.split(" "),
    *CHARACTERS.split(" "),
    *WORDS,
    *["hf_" + "a1B2" * 6, "{" * 70, "[" * 2000, "a" * 5000, "9" * 5000],
]
SECRET = re.compile("(?<![A-Za-z0-9])hf_" + "a1B2" * 6)
TEXTS = ["", " ", "a\n", "x" * 2000, "../x", "/abs", "latest", "base", "main", "3.10"]
MAPS = [{}, {"": None}, {"x-a": 1}, {"path": None}, {"name": []}]
VALUES: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    *TEXTS,
    *MAPS,
    [],
    [[]],
    [{}],
    ["a", "a"],
    [1, "1", None],
]
Change = Callable[[random.Random, str], str]


def flip_bytes(rng: random.Random, text: str) -> str:
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return content.decode("utf-8", "replace")


def insert_token(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(TOKENS) + text[place:]


def replace_token(rng: random.Random, text: str) -> str:
    start = rng.randrange(len(text))
    return text[:start] + rng.choice(TOKENS) + text[start + rng.randint(1, 12) :]


def swap_words(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    i, j = rng.randrange(len(words)), rng.randrange(len(words))
    words[i], words[j] = words[j], words[i]
    return " ".join(words)


def change_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    edit = rng.randrange(4)
    if edit == 0:
        del lines[i]
    elif edit == 1:
        lines.insert(i, lines[j])
    elif edit == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = rng.choice(["", " ", "  ", "\t", "- "]) + lines[i].lstrip(" ")
    return "\n".join(lines)


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text))]


def change_data(rng: random.Random, text: str) -> str:
    """Change values, keys and the structure, and write YAML again."""
    data = YAML(typ="safe", pure=False).load(text)
    for _ in range(rng.randint(1, 3)):
        _change(rng, data)
    return _dumped(data)


def _change(rng: random.Random, data: object) -> None:
    parents = list(_parents(data))
    parent = rng.choice(parents)
    keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    if not keys:
        return
    key, edit = rng.choice(keys), rng.randrange(4)
    if edit == 0:
        del parent[key]
    elif edit == 1 and isinstance(parent, dict):
        parent[f"{key}{rng.choice('abc_-x ')}"] = parent.pop(key)
    elif edit == 2:
        parent[key] = rng.choice(parents)  # another part of the spec; perhaps itself
    else:
        parent[key] = rng.choice(VALUES)


def _parents(data: object, depth: int = 0) -> list[dict[object, object] | list[object]]:
    if not isinstance(data, dict | list) or depth > 8:
        return []
    children = data.values() if isinstance(data, dict) else data
    return [data, *(p for child in children for p in _parents(child, depth + 1))]


def _dumped(data: object, depth: int = 0) -> str:
    """YAML in flow style; a part that contains itself ends somewhere."""
    if depth > 12:
        return "deep"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_dumped(v, depth + 1)}" for k, v in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(_dumped(v, depth + 1) for v in data) + "]"
    return _scalar(data)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if value in (None, True, False)
        else str(value)
    )


CHANGES: list[Change] = [flip_bytes, insert_token, replace_token, swap_words, change_lines, cut]


def mutated(seed: int) -> str:
    rng = random.Random(seed)
    text = rng.choice(GOOD)
    if rng.random() < 0.4:
        text = change_data(rng, text)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        text = rng.choice(CHANGES)(rng, text) or "x"
    return text


def check(text: str) -> None:
    """Never an exception; a spec or errors; places within the file; no format that fails."""
    report = Report()
    document = parse(text, Path("spec.yaml"), "spec.yaml", report)
    spec = validate(document, report) if document else None
    assert (spec is None) == report.failed
    source = SourceText(text, "spec.yaml")
    end = source.span(len(text), len(text))
    for found in report:
        for span in (found.span, *(related.span for related in found.related)):
            start_at, end_at = (span.line, span.column), (span.end_line, span.end_column)
            assert (1, 1) <= start_at <= end_at <= (end.line, end.column), found
            assert span.column <= len(source.line_text(span.line)) + 1, found
            assert span.end_column <= len(source.line_text(span.end_line)) + 1, found
        assert found.message
        assert "\n" not in found.message
        assert len(found.message) < 1000
    for format in FORMATS:
        rendered = render(report, format, read=lambda file: text)
        assert not SECRET.search(rendered)
        assert "\x1b" not in rendered


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_a_mutated_spec_never_breaks_the_compiler(first: int) -> None:
    for seed in range(first, first + 50):
        check(mutated(seed))


@pytest.mark.soak
@pytest.mark.parametrize("first", range(1000, 11_000, 500))
def test_10_000_mutated_specs(first: int) -> None:
    for seed in range(first, first + 500):
        check(mutated(seed))


def test_any_bytes_in_a_file(tmp_path: Path) -> None:
    rng, path = random.Random(7), tmp_path / "spec.yaml"
    for _ in range(100):
        content = bytearray(rng.choice(GOOD).encode())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        report = Report()
        document = load(path, str(path), report)
        spec = validate(document, report) if document else None
        assert (spec is None) == report.failed


def test_the_good_specs_are_good() -> None:
    for text in GOOD:
        check(text)
