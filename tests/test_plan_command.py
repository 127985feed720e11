"""`mlspec plan`: the texts word for word, the JSON by its schema, the page as a browser would read it.

MLSPEC_UPDATE_SNAPSHOTS=1 writes the texts anew: look at the difference before you commit it.
"""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlspec.cli import main
from mlspec.commands.looking import look_of
from mlspec.commands.plan import run
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.model.plan import MemoryPart, MemoryPlan, Plan
from mlspec.pipeline import Pipeline
from mlspec.reporting.plan.bar import bar, cells
from mlspec.reporting.plan.curve import curve
from mlspec.reporting.plan.drawing import HEIGHT, WIDTH, chart
from mlspec.reporting.plan.look import Look, look
from mlspec.reporting.plan.serving_machines import Candidate, as_table
from mlspec.reporting.plan.text import as_text
from mlspec.reporting.plan.values import columns, cut, memory, shown
from mlspec.resources import folder
from plans import LLAMA, TOO_SMALL, expected, llama, lora, plan_options
from projects import example, surroundings

GIB = 2**30
SCHEMA = json.loads((folder("schema") / "plan-report.schema.json").read_text(encoding="utf-8"))
VOID = ("meta", "!doctype")
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "footer", "p", "h1"),
    *("h2", "h3", "h4", "div", "span", "strong", "code", "a", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"),
    *("details", "summary", "sup", "svg", "rect", "line", "text", "polygon", "polyline", "circle"),
}
ATTRIBUTES = {
    *(
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "id",
        "href",
        "scope",
        "aria-label",
        "aria-hidden",
        "data-label",
    ),
    *("viewbox", "preserveaspectratio", "role", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "dy", "width"),
    *("height", "points", "text-anchor"),
}
HOSTILE = """</style><script>alert(1)</script><b x="'&{{ 7 * 7 }}"""


class Page(HTMLParser):
    """What a page consists of: its tags, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def test_the_example_on_its_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lora(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(Path("specs/lora.yaml"))) == 0
    text = capsys.readouterr().out
    assert text == expected("plan-lora", text)
    assert max(columns(line) for line in text.splitlines()) <= 80
    assert not re.search(r"\d{8}", text), "raw bytes are shown"


def test_a_large_model_and_a_machine_that_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama(tmp_path, LLAMA + TOO_SMALL)
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(Path("chat.yaml"))) == 1
    text = capsys.readouterr().out
    assert text == expected("plan-llama", text)
    assert run(plan_options(Path("chat.yaml"), target="mini")) == 0
    only = capsys.readouterr().out
    assert "studio" not in only
    assert "does-not-fit" not in only


def planned(spec: Path) -> list[Plan]:
    report, pipeline = Report(), Pipeline(surroundings(spec.parent))
    checked = pipeline.check(spec, report)
    assert checked is not None
    return list(pipeline.plans(checked, report))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("width", [40, 59, 60, 70, 80, 132])
def test_in_any_width_words_stay_whole(tmp_path: Path, width: int, whole: bool) -> None:
    plans = planned(llama(tmp_path))
    text = as_text(plans, "chat.yaml", Look(columns=width, whole=whole))
    assert max(columns(line) for line in text.splitlines()[:-2]) <= width
    words = set(text.replace("…", " ").split())
    own = {word for plan in plans for decision in plan.decisions for word in decision.rule.split()}
    told = {word for word in own if len(word) <= 18}
    assert not whole or told <= words
    assert ("…" in text) != whole
    beside = [line for line in text.splitlines() if re.match(r"  context_length  +auto  [\d,]+$", line)]
    assert len(beside) == (2 if width < 60 else len(beside)), "the reason stands below the value"


def test_a_stream_without_block_letters_gets_ascii(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama(tmp_path)
    monkeypatch.chdir(tmp_path)
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert run(plan_options(Path("chat.yaml"))) == 0
    assert run(plan_options(Path("chat.yaml"), machines="mini")) == 0
    text = written.getvalue().decode("ascii")
    assert "  ####" in text
    assert "yes" in text


def test_a_runner_that_plans_no_context_has_its_plan_and_a_page_without_a_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = example(tmp_path) / "specs" / "iris.yaml"
    assert run(plan_options(spec, html=tmp_path / "plan.html")) == 0
    assert "linux amd64, cpu; it names no machine" in capsys.readouterr().out
    page = Page((tmp_path / "plan.html").read_text(encoding="utf-8"))
    assert not page.open
    assert "What was decided" in page.words
    assert "Context against requests at once" not in page.words
    assert run(plan_options(spec, output_format="json")) == 0
    Draft202012Validator(SCHEMA).validate(json.loads(capsys.readouterr().out))


def test_which_macs_can_serve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama(tmp_path, LLAMA.replace("quantization: auto", "quantization: {bits: 8}"))
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(Path("chat.yaml"), machines="Air")) == 0
    text = capsys.readouterr().out
    assert text == expected("plan-machines", text)
    assert run(plan_options(Path("chat.yaml"), machines="all", output_format="json")) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    sizes = [one["machine"]["memory_bytes"] for one in found["machines"]]
    assert len(sizes) > 100
    assert sizes == sorted(sizes)
    assert found["smallest"] == next(one["title"] for one in found["machines"] if one["fits"])
    assert {one["fits"] for one in found["machines"]} == {True, False}
    assert all(one["why"] for one in found["machines"] if not one["fits"])


@pytest.mark.parametrize(
    ("target", "told"),
    [("studio", "macOS not named: the working set of macOS 15 and older"), ("mini", "macOS 26.1")],
)
def test_a_table_of_macs_has_the_macos_of_its_target(
    target: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a spec with that machine gets the very same plan."""
    spec = llama(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(spec, machines="mini 2024 m4 pro 48 gb", target=target)) == 0
    assert told in capsys.readouterr().out.splitlines()
    assert run(plan_options(spec, machines="mini 2024 m4 pro 48 gb", target=target, output_format="json")) == 0
    (found,) = json.loads(capsys.readouterr().out)["machines"]
    named = "Mac mini 2024, M4 Pro, 48 GB"
    machine = f"'{named}'" if target == "studio" else f"{{product: '{named}', macos: '26.1'}}"
    spec.write_text(LLAMA[: LLAMA.index("targets:")] + f"targets: [{{name: it, machine: {machine}}}]\n")
    (plan,) = planned(spec)
    assert plan.target.machine is not None
    assert plan.target.machine.working_set_bytes == found["machine"]["working_set_bytes"]
    assert plan.value("model.context_length") == found["context_length"]


def test_there_is_no_verdict_on_a_class_of_which_nothing_is_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = example(tmp_path) / "specs" / "iris.yaml"
    assert run(plan_options(spec, machines="mini")) == 0
    text = capsys.readouterr().out
    assert "no verdict: nothing is known of the memory that its class needs; known are 0.1 KiB of artifacts" in text
    assert "serve it" not in text
    assert "✓" not in text
    assert run(plan_options(spec, machines="mini", output_format="json")) == 0
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    assert found["smallest"] is None
    assert {one["fits"] for one in found["machines"]} == {None}
    assert run(plan_options(spec)) == 0
    assert "at least 0.1 KiB; what it needs besides isn't known" in capsys.readouterr().out


@pytest.mark.parametrize(("width", "heads"), [(40, 2), (60, 3), (80, 5), (90, 6)])
def test_a_narrow_table_of_macs_leaves_columns_out(tmp_path: Path, width: int, heads: int) -> None:
    candidates = [
        Candidate(plan.target.name, plan.target.machine, plan)
        for plan in planned(llama(tmp_path))
        if plan.target.machine is not None
    ]
    titled = [replace(one, title="MacBook Air 13 2020, M1, 16 GB") for one in candidates]
    lines = as_table(titled, Look(columns=width)).splitlines()
    assert len(re.split(r"  +", lines[0])) == heads
    assert len({columns(line) for line in lines}) == 1
    assert columns(lines[0]) <= max(width, 44)
    assert as_table(titled, Look(columns=width, whole=True)) == as_table(titled, Look(columns=132))


def test_a_spec_for_linux_alone_can_be_tried_on_macs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = llama(tmp_path, LLAMA[: LLAMA.index("targets:")] + "targets: [{name: server, platform: linux}]\n")
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(spec, machines="studio m3 ultra")) == 0
    assert "3 of 3 serve it" in capsys.readouterr().out
    with pytest.raises(CommandError, match="for Linux"):
        run(plan_options(spec, machines="all", target="server"))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"machines": "Mac Nano"}, "unknown-machine"),
        ({"machines": "all", "target": "nowhere"}, "no-such-target"),
        ({"html": Path("no/such/folder/plan.html")}, "write-failed"),
    ],
)
def test_what_is_refused(given: dict[str, Any], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError) as raised:
        run(plan_options(Path("specs/lora.yaml"), **given))
    assert raised.value.code == code
    assert raised.value.help


def test_a_page_and_a_table_of_machines_at_once_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(tmp_path / "x.yaml"), "--html", str(tmp_path / "x.html"), "--machines"]
    assert main([*arguments, "all"]) == 2
    assert "error[usage]" in capsys.readouterr().err
    for nobody in ("", " , "):
        with pytest.raises(SystemExit, match="2"):
            main([*arguments, nobody])
        assert "--machines: it can't be empty" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_a_faulty_spec_gets_its_report_in_each_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lora(tmp_path)
    spec.write_text(spec.read_text().replace("runner: lora", "runner: nobody"))
    monkeypatch.chdir(tmp_path)
    for machines in (None, "all"):
        assert run(plan_options(Path("specs/lora.yaml"), machines=machines)) == 1
        assert "error[unknown-runner]" in capsys.readouterr().out
        assert run(plan_options(Path("specs/lora.yaml"), machines=machines, output_format="json")) == 1
        found = json.loads(capsys.readouterr().out)
        Draft202012Validator(SCHEMA).validate(found)
        assert [one["code"] for one in found["findings"]] == ["unknown-runner"]


def test_the_json_has_all_and_fits_its_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    llama(tmp_path, LLAMA + TOO_SMALL)
    monkeypatch.chdir(tmp_path)
    assert run(plan_options(Path("chat.yaml"), output_format="json")) == 1
    found = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    assert [target["name"] for target in found["targets"]] == ["studio", "mini"]
    assert [one["code"] for one in found["findings"]] == ["does-not-fit"]
    for target in found["targets"]:
        given = {decision["key"] for decision in target["decisions"] if decision["given"]}
        assert given == {"service.concurrency"}
        budget = target["memory"]["budget_bytes"]
        assert sum(part["bytes"] for part in target["memory"]["parts"]) + target["memory"]["spare_bytes"] == budget


def page_of(spec: Path, place: Path) -> str:
    run(plan_options(spec, html=place))
    return place.read_text(encoding="utf-8")


def test_the_page_needs_nothing_and_loads_nothing(tmp_path: Path) -> None:
    text = page_of(llama(tmp_path, LLAMA + TOO_SMALL), tmp_path / "plan.html")
    page = Page(text)
    assert not page.open
    assert set(page.tags) <= TAGS
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert links == ["#target-1", "#target-2"]
    assert set(links) <= {f"#{value}" for name, value in page.attributes if name == "id"}
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = [value for name, value in page.attributes if "default-src" in value]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_tells_what_the_plan_does(tmp_path: Path) -> None:
    words = " ".join(" ".join(Page(page_of(llama(tmp_path, LLAMA + TOO_SMALL), tmp_path / "plan.html")).words).split())
    for told in ("Mac Studio 2025, M4 Max, 64 GB", "4 requests at once:", "as many as there are tills", "estimate"):
        assert told in words
    assert "error does-not-fit" in words
    assert "Not planned: air ." in words
    assert words.count("requests at once: ") > 10, "no curve"


def test_the_curve_falls_and_meets_the_plan(tmp_path: Path) -> None:
    report, pipeline = Report(), Pipeline(surroundings(tmp_path))
    checked = pipeline.check(llama(tmp_path), report)
    assert checked is not None
    for plan in pipeline.plans(checked, report):
        found = curve(plan, checked.runner, checked.document)
        assert found is not None
        counts, contexts = zip(*found.points, strict=True)
        assert list(counts) == sorted(set(counts))
        assert list(contexts) == sorted(contexts, reverse=True)
        assert found.planned in found.points
        drawn = chart(found)
        assert [float(dot.x) for dot in drawn.dots] == sorted(float(dot.x) for dot in drawn.dots)
        assert all(0 <= float(dot.x) <= WIDTH and 0 <= float(dot.y) <= HEIGHT for dot in drawn.dots)


def test_only_a_page_is_replaced_and_only_a_whole_one_is_written(tmp_path: Path) -> None:
    spec, page = llama(tmp_path), tmp_path / "plan.html"
    first = page_of(spec, page)
    page.write_text(first[: first.index("<title>")])
    assert page_of(spec, page) == first
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []
    text = spec.read_text()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "other.html").write_text("<!doctype html>" + " " * 2000 + '<meta name="generator" content="mlspec 1">')
    for name, why in {
        "chat.yaml": "is there already, and is no page of mlspec's",
        "other.html": "is there already, and is no page of mlspec's",
        "pipe": "is no regular file",
        "dead": "is a link to nothing",
        "models": "is a folder",
    }.items():
        with pytest.raises(CommandError) as raised:
            run(plan_options(spec, html=tmp_path / name))
        assert (raised.value.code, raised.value.message) == ("file-exists", f"'{tmp_path / name}' {why}")
        assert raised.value.help
    assert spec.read_text() == text
    assert not (tmp_path / "nowhere").exists()


def test_no_text_of_a_spec_becomes_mark_up(tmp_path: Path) -> None:
    spec = llama(tmp_path)
    quoted = json.dumps(HOSTILE)
    text = LLAMA.replace("Answers customers.", quoted)
    text = text.replace("  quantization", f"  sampling: {{stop: [{quoted}]}}\n  quantization")
    spec.write_text(text.replace("# as many", f"# {HOSTILE} as many"), encoding="utf-8")
    named = spec.rename(tmp_path / "<img src=x onerror=alert(3)>.yaml")
    page = Page(page_of(named, tmp_path / "plan.html"))
    assert not page.open
    assert set(page.tags) <= TAGS
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    assert HOSTILE in page.words, "the description"
    assert any(f"stop {HOSTILE}" in words for words in page.words), "a value"
    assert any(f"# {HOSTILE} as many" in words for words in page.words), "a line of the spec"
    assert any("<img src=x onerror=alert(3)>.yaml" in words for words in page.words), "the spec's name"


def test_a_plan_is_the_same_page_twice(tmp_path: Path) -> None:
    spec = llama(tmp_path)
    assert page_of(spec, tmp_path / "one.html") == page_of(spec, tmp_path / "two.html")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0"),
        (1, "0.0 KiB"),
        (512, "0.5 KiB"),
        (2**20, "1.0 MiB"),
        (99 * 2**20, "99.0 MiB"),
        (GIB // 2, "0.5 GiB"),
        (1300 * GIB, "1,300.0 GiB"),
        (-2 * GIB, "-2.0 GiB"),
    ],
)
def test_memory_for_people(size_bytes: int, text: str) -> None:
    assert memory(size_bytes) == text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("memory.budget_bytes", 2 * GIB, "2.0 GiB"),
        ("memory.wired_limit_bytes", None, "none"),
        ("model.context_length", 131072, "131,072"),
        ("model.kv_bits", 8, "8-bit"),
        ("model.quantization", {"bits": 4, "group_size": 64, "mode": "affine"}, "4-bit, groups of 64"),
        ("model.quantization", {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "mxfp4, groups of 32"),
        ("model.quantization", "none", "none"),
        ("serving.port", 3000, "3000"),
        ("serving.timeout_s", 7.5, "7.5 s"),
        ("runtime.fallback", True, "yes"),
        ("model.adapters", [], "none"),
        ("x.limits", {"cache_bytes": GIB, "on": False}, "cache_bytes 1.0 GiB, on no"),
        ("x.text", "a\x1b[31m\nb\u202e", "a\\x1b[31m\\nb\\u202e"),
    ],
)
def test_values_for_people(key: str, value: Any, text: str) -> None:
    assert shown(key, value) == text


def test_text_is_cut_by_columns_and_at_a_word() -> None:
    assert cut("one two three", 13) == "one two three"
    assert cut("one two three", 12) == "one two…"
    assert cut("漢字漢字", 5) == "漢字…"
    assert cut("onetwothree", 8, "...") == "onetw..."


@pytest.mark.parametrize("width", [10, 40, 76])
@pytest.mark.parametrize("sizes", [(1,), (5 * GIB, 3 * GIB), (1, 2, 3 * GIB, 0, 40 * GIB), (GIB,) * 40])
def test_the_cells_of_a_bar_never_exceed_it(sizes: tuple[int, ...], width: int) -> None:
    taken = cells(sizes, sum(sizes), width)
    assert 0 < sum(taken) <= width
    assert all(count == 0 for count, size in zip(taken, sizes, strict=True) if not size)


def test_a_bar_in_the_letters_that_a_stream_has() -> None:
    plan = MemoryPlan((MemoryPart("weights", 2 * GIB, ""), MemoryPart("kv cache", GIB, "")), 4 * GIB)
    assert bar(plan, Look(), 8) == "████▓▓··"
    assert bar(plan, Look(letters=False), 8) == "####==.."
    assert bar(plan, Look(colour=True), 8) == "\x1b[34m████\x1b[0m\x1b[36m██\x1b[0m\x1b[2m··\x1b[0m"
    assert bar(MemoryPlan(plan.parts, None), Look(), 9) == "██████▓▓▓"


def test_the_look_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.delenv("COLUMNS", raising=False)
    assert look_of(plain) == Look(colour=False, letters=False, columns=80, whole=True)
    for told, width in {"40": 40, "100": 100, "wide": 80, "-5": 80, "0": 80, "9" * 9: 80}.items():
        monkeypatch.setenv("COLUMNS", told)
        assert look_of(plain).columns == width
    assert look(colour=True, encoding="utf-8", columns=500) == Look(True, True, 132)
    assert look(colour=False, encoding=None, columns=1) == Look(False, False, 32)
