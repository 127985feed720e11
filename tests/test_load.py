"""load: what a YAML file's data, places and faults are."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mlspec.diagnostics import Report, Span
from mlspec.model.document import Document
from mlspec.passes.load import load, parse
from mlspec.passes.load.reading import MAX_BYTES

FILE = "spec.yaml"


def document(text: str) -> Document:
    report = Report()
    found = parse(text, Path(FILE), FILE, report)
    assert not list(report)
    assert found is not None
    return found


def codes(text: str) -> list[str]:
    report = Report()
    parse(text, Path(FILE), FILE, report)
    return [d.code for d in report]


def codes_of_file(path: Path) -> list[str]:
    report = Report()
    load(path, str(path), report)
    return [d.code for d in report]


def span(line: int, column: int, end_line: int, end_column: int) -> Span:
    return Span(FILE, line, column, end_line, end_column)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("on", "on"),
        ("12", 12),
        ("-0x1F", "-0x1F"),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("3.10", 3.1),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ('"3.10"', "3.10"),
        ("'true'", "true"),
        ("!!str 3.10", "3.10"),
        ("!!float 3", 3),
        ("! 3", "3"),
        ("hello world", "hello world"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(written: str, value: object) -> None:
    data = document(f"a: {written}\n").data["a"]
    assert data == value
    assert type(data) is type(value)


def test_data_is_plain() -> None:
    data = document("a: &x true\nb: [*x, {c: !!str 1}]\n").data
    assert data == {"a": True, "b": [True, {"c": "1"}]}
    assert [type(data), type(data["b"]), type(data["a"]), type(data["b"][1]["c"])] == [dict, list, bool, str]


def test_the_raw_text_of_a_scalar_is_kept() -> None:
    found = document("a: 3.10\nb: '3.10'\nc: &x 0x1F\nd: *x\n")
    assert [found.raw((key,)) for key in "abcd"] == ["3.10", "'3.10'", "0x1F", "0x1F"]


def test_places_of_keys_and_values() -> None:
    found = document('name: "日本" # comment\nmap:\n  key: &x  value \nlist:\n- 1\n- {a: b}\n')
    assert found.key_span(("name",)) == span(1, 1, 1, 5)
    assert found.value_span(("name",)) == span(1, 7, 1, 11)
    assert found.value_span(("map",)) == span(3, 3, 3, 17)
    assert found.value_span(("map", "key")) == span(3, 12, 3, 17)
    assert found.value_span(("list", 0)) == span(5, 3, 5, 4)
    assert found.key_span(("list", 1, "a")) == span(6, 4, 6, 5)
    assert found.value_span(()) == span(1, 1, 6, 9)


def test_places_of_texts_over_several_lines() -> None:
    found = document("a: |\n  one\n  two\n\n# comment\nb: plain\n  goes on\n\nc: 1\n")
    assert found.data == {"a": "one\ntwo\n", "b": "plain goes on", "c": 1}
    assert found.value_span(("a",)) == span(1, 4, 3, 6)
    assert found.value_span(("b",)) == span(6, 4, 7, 10)


def test_an_alias_has_the_place_of_its_use() -> None:
    found = document("x-a: &a {b: [1, 2]}\nc: *a\n")
    assert found.data["c"] == {"b": [1, 2]}
    for pointer in [("c",), ("c", "b"), ("c", "b", 1)]:
        assert found.value_span(pointer) == span(2, 4, 2, 6)
    assert found.key_span(("c",)) == span(2, 1, 2, 2)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_lines_end_as_in_an_editor(line_end: str) -> None:
    found = document(line_end.join(["a: 1", "b: {c: 2}", ""]))
    assert found.value_span(("b", "c")) == span(2, 8, 2, 9)


def test_a_document_with_faults_that_leave_something_to_validate() -> None:
    report = Report()
    found = parse("a: 1\na: 2\nb: 2026-01-01\nc: .nan\n1: x\n", Path(FILE), FILE, report)
    assert found is not None
    assert found.data == {"a": 1, "b": "2026-01-01", "c": ".nan", "1": "x"}
    assert [d.code for d in report] == ["yaml-duplicate-key", "yaml-date", "yaml-not-finite", "yaml-key"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 100_000, "yaml-too-deep"),
        ("{a: " * 100_000, "yaml-too-deep"),
        ("- " * 100_000, "yaml-too-deep"),
        ("a: " + "9" * 500_000, "yaml-integer"),
        ("a: -" + "9" * 5_000, "yaml-integer"),
        ("a: 0x" + "F" * 5_000, "yaml-integer"),
        ("a: 1." + "9" * 500_000, "yaml-not-finite"),
        ("a: 1e400", "yaml-not-finite"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" * 1, ""),
        ("a: &a {b: *a}", "yaml-alias"),
        ("a: &a " + "x" * 100_000 + "\nb: [" + "*a, " * 1000 + "]", "yaml-alias-bomb"),
        ("a: \udc80", "control-character"),
        ("*a : 1", "yaml-alias"),
        ("? [a]\n: 1", "yaml-key"),
        ("a: !!python/object/apply:os.system [ls]", "yaml-tag"),
    ],
    ids=lambda value: value[:20],
)
def test_hostile_texts_end_soon(text: str, code: str) -> None:
    start = time.perf_counter()
    found = codes(text)
    assert found[:1] == ([code] if code else [])
    assert time.perf_counter() - start < 2


def test_equal_faults_by_an_alias_are_told_once() -> None:
    assert codes("x-a: &a {b: .nan}\nc: *a\nd: [*a, *a]\n") == ["yaml-not-finite"]


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "lora.yaml").write_text("a: 1\n")
    report = Report()
    assert load(tmp_path / "lroa.yaml", "specs/lroa.yaml", report) is None
    (found,) = report
    assert (found.code, found.help) == ("file-not-found", "did you mean 'specs/lora.yaml'?")


def test_files_that_are_no_specs(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    assert codes_of_file(tmp_path) == ["not-a-file"]
    assert codes_of_file(fifo) == ["not-a-file"]
    assert codes_of_file(loop) == ["file-unreadable"]
    assert codes_of_file(tmp_path / ("x" * 300)) == ["file-unreadable"]
    assert codes_of_file(tmp_path / "nul\0.yaml") == ["file-unreadable"]
    assert codes_of_file(tmp_path / "no" / "x.yaml") == ["file-not-found"]
    assert codes_of_file(large / "x.yaml") == ["file-not-found"]
    assert codes_of_file(large) == ["file-too-large"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    assert codes_of_file(path) == ["file-unreadable"]


def test_the_byte_that_is_not_utf8_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("ab: é\nc: ".encode() + b"\xff\n")
    report = Report()
    assert load(path, FILE, report) is None
    (found,) = report
    assert found.code == "yaml-encoding"
    assert "0xff at offset 10" in found.message
    assert found.span == span(2, 4, 2, 5)


def remedy(path: Path) -> str:
    report = Report()
    assert load(path, path.name, report) is None
    (found,) = report
    return found.help


def test_the_remedies_for_a_project_file_are_its_own(tmp_path: Path) -> None:
    file = tmp_path / "mlspec.yaml"
    file.write_text("# nothing yet\n")
    assert remedy(file).startswith("write the two lines `apiVersion: mlspec/v1` and `kind: Project`")
    file.write_text("a: 1\n---\nb: 2\n")
    report = Report()
    load(file, "mlspec.yaml", report)
    assert [found.help for found in report] == ["remove it: a project has one file"]
    file.unlink()
    file.symlink_to("nowhere")
    assert remedy(file) == "remove the link, or let it point to the project's mlspec.yaml"
    file.unlink()
    file.symlink_to(file)
    assert remedy(file) == "a link leads back to itself: remove it"
    file.unlink()
    file.mkdir()
    assert remedy(file) == "a project's mlspec.yaml is a file: move the folder away, or rename it"


def test_a_dead_link_is_no_missing_file(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").symlink_to("nowhere")
    report = Report()
    load(tmp_path / "spec.yaml", "spec.yaml", report)
    assert [(d.code, d.message) for d in report] == [("file-not-found", "'spec.yaml' is a link to nothing")]
