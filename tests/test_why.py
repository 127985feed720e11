"""`mlspec why`: the story of a value, word for word, and where each kind of input is looked up.

MLSPEC_UPDATE_SNAPSHOTS=1 writes the texts anew: look at the difference before you commit it.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

from mlspec.commands.why import run
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.model.machine import Machine
from mlspec.model.plan import Decision, Plan
from mlspec.pipeline import Checked, Pipeline
from mlspec.reporting.plan.data_rows import row
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.quoted_line import Line
from mlspec.reporting.plan.sources import Sources
from mlspec.reporting.plan.story import story
from plans import LLAMA, TOO_SMALL, expected, llama, lora
from projects import surroundings


def why(spec: Path, key: str | None, target: str | None = None) -> int:
    return run(Namespace(spec=spec, key=key, target=target, root=[]))


def planned(spec: Path) -> tuple[Checked, Plan]:
    report, pipeline = Report(), Pipeline(surroundings(spec.parent))
    checked = pipeline.check(spec, report)
    assert checked is not None
    return checked, next(iter(pipeline.plans(checked, report)))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("why-concurrency", "service.concurrency"),
        ("why-context", "model.context_length"),
        ("why-quantization", "model.quantization"),
        ("why-budget", "memory.budget_bytes"),
        ("why-footprint", "memory.footprint_bytes"),
        ("why-speed", "speed.decode_tokens_per_s"),
    ],
)
def test_a_story(
    name: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert why(Path("chat.yaml"), key, "mini") == 0
    text = capsys.readouterr().out
    assert text == expected(name, text)


def test_the_keys_of_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lora(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert why(Path("specs/lora.yaml"), None) == 0
    text = capsys.readouterr().out
    assert text == expected("why-keys", text)


def test_each_listed_key_has_its_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = lora(tmp_path)
    assert why(spec, None, "studio") == 0
    keys = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(keys) > 15
    for key in keys:
        assert why(spec, key, "studio") == 0
        assert capsys.readouterr().out.startswith(f"{key}: ")


def test_without_a_target_each_has_its_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = lora(tmp_path)
    assert why(spec, "target.accelerator") == 0
    assert capsys.readouterr().out.count("target.accelerator: ") == 3
    assert why(spec, "serving.base_image") == 0
    assert capsys.readouterr().out.count("serving.base_image: ") == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [("service.concurency", "service.concurrency"), ("quantization", "model.quantization"), ("zzz", "")],
)
def test_an_unknown_key(key: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as raised:
        why(lora(tmp_path), key)
    assert raised.value.code == "no-such-value"
    assert raised.value.help.startswith(f"did you mean '{meant}'?" if meant else "there are: ")
    assert "memory.budget_bytes" in raised.value.help


def test_a_target_that_does_not_fit_is_told_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = llama(tmp_path, LLAMA + TOO_SMALL)
    assert why(spec, "service.concurrency") == 1
    told = capsys.readouterr()
    assert told.out.count("service.concurrency: 4") == 2
    assert "error[does-not-fit]" in told.err


def test_a_faulty_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = lora(tmp_path)
    spec.write_text("kind: ModelService\n")
    assert why(spec, "service.concurrency") == 1
    told = capsys.readouterr()
    assert not told.out
    assert "error[missing-key]" in told.err


def test_each_kind_of_input_is_looked_up(tmp_path: Path) -> None:
    checked, plan = planned(llama(tmp_path))
    inputs = {
        "spec:/service/concurrency": ("chat.yaml:9:3", "", ""),
        "spec:/targets/0/machine": ("chat.yaml:12:5", "", ""),
        "spec:/model/kv_bits": ("chat.yaml", "", "says nothing of model.kv_bits, which is then 16-bit"),
        "facts:base/context_length": ("base (models/llama): context_length", "131,072 tokens", ""),
        "target:platform": ("target studio: platform", "macos", ""),
        "target:machine/memory_bytes": ("target studio: machine, memory_bytes", "64.0 GiB", ""),
        "profile:machines/studio.yaml": ("machines/studio.yaml", "", ""),
        "profile:machines/studio.yaml#/sysctl/hw.memsize": ("machines/studio.yaml", "", "sysctl, hw.memsize"),
        "data:chips/Apple M4 Max/gpu/0/bandwidth_gb_s": (
            "data chips: Apple M4 Max, gpu, 0, bandwidth_gb_s",
            "410 GB/s",
            "confirmed; source: llama.cpp discussion 4167; Apple technical specifications",
        ),
        "data:chips/Apple M9/tier": ("data chips: Apple M9, tier", "", ""),
        "data:no_such_table/row": ("data no_such_table: row", "", ""),
        "facts:nobody/context_length": ("facts of nobody/context_length", "", ""),
        "plan:no.such.key": ("no.such.key", "", ""),
        "a mystery": ("a mystery", "", ""),
    }
    sources = Sources(plan, checked.document).of(Decision("x.y", 1, "", tuple(inputs)))
    assert [(source.where, source.value, source.note) for source in sources] == list(inputs.values())
    assert sources[0].quoted == Line(9, "  concurrency: 4  # as many as there are tills", 3)


def test_a_default_that_was_not_taken_is_not_told_as_the_value(tmp_path: Path) -> None:
    checked, plan = planned(lora(tmp_path))
    inputs = ("spec:/model/default_adapter", "spec:/model/quantization", "spec:/model/context_length")
    found = Sources(plan, checked.document).of(Decision("x.y", 1, "", inputs))
    assert [source.note for source in found] == [
        "says nothing of model.default_adapter",
        "says nothing of model.quantization, which is then none",
        "says nothing of model.context_length, which is then auto",
    ]


def test_values_of_the_spec_are_told_as_the_plan_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert why(llama(tmp_path), "model.sampling", "studio") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "says nothing of model.sampling, which is then max_tokens 128, temperature 0, top_p 1" in text
    assert "temperature=" not in text


@pytest.mark.parametrize(
    ("gib", "title"), [(24, "24 GB"), (23.5406, "23.5 GB"), (0.01, "0.1 GB"), (0.98, "1 GB"), (1536, "1536 GB")]
)
def test_the_title_of_odd_memory(gib: float, title: str) -> None:
    assert Machine(int(gib * 2**30)).title == title


def test_of_a_long_line_what_matters_is_shown() -> None:
    text = "machine: {chip: Apple M4, memory_gb: 24, model: 'Mac16,10', reserve_gb: 2}"
    line = Line(3, text, text.index("reserve_gb") + 1)
    assert line.window(80) == line.text
    assert line.window(40) == "… reserve_gb: 2}"
    assert Line(3, line.text, 1).window(20) == "machine: {chip…"
    assert line.from_here == "reserve_gb: 2}"


def test_a_decision_among_the_inputs_brings_its_own_once(tmp_path: Path) -> None:
    checked, plan = planned(llama(tmp_path))
    first, second, third = (
        Decision("x.first", 1, "one", ("plan:x.second",)),
        Decision("x.second", 2, "two", ("plan:x.third",)),
        Decision("x.third", 3, "three", ("plan:x.first",)),
    )
    sources = Sources(replace(plan, decisions=(first, second, third)), checked.document).of(first)
    (source,) = sources
    assert (source.where, source.value, source.note) == ("x.second", "2", "two")
    assert [below.where for below in source.below] == ["x.third"]
    assert not source.below[0].below


def test_nothing_of_a_story_moves_the_terminal(tmp_path: Path) -> None:
    checked, plan = planned(llama(tmp_path))
    strange = Decision("x.\x1b[2J", "a\x07", "why\u202e\r", ("data:\x1b]0;x\x07/y",), ("other\x9b",))
    text = story(plan, strange, checked.document, Look())
    assert not set(text) & {"\x1b", "\x07", "\u202e", "\r", "\x9b"}


def test_no_secret_of_a_spec_is_quoted(tmp_path: Path) -> None:
    secret = "hf_NotARealToken12345678"
    spec = llama(tmp_path, LLAMA.replace("# as many as there are tills", f"# {secret}"))
    checked, plan = planned(spec)
    decision = next(one for one in plan.decisions if one.key == "service.concurrency")
    text = story(plan, decision, checked.document, Look())
    assert "concurrency: 4" in text
    assert secret not in text


def test_rows_of_tables() -> None:
    found = row("chips/Apple M1/gpu/0/cores")
    assert found is not None
    assert (found.value, found.confidence) == (7, "confirmed")
    unsure = row("chips/Apple M1/memory_gb")
    assert unsure is not None
    assert unsure.confidence == "uncertain"
    assert row("chips/Apple M1/no/such/key") is not None, "the row is there, the key isn't"
    assert row("chips") is None
    assert row("../schema/x") is None


SERVICE = "service:\n  cors: {origins: ['https://a.example']}\n"


def test_what_the_spec_says_and_nobody_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    llama(tmp_path, LLAMA.replace("service:\n", SERVICE))
    monkeypatch.chdir(tmp_path)
    assert why(Path("chat.yaml"), "service.cors", "mini") == 0
    text = capsys.readouterr().out
    assert text.startswith("service.cors: origins https://a.example  (as the spec says)\n\nfrom\n  chat.yaml:")
    assert text.endswith(" |   cors: {origins: ['https://a.example']}\n")
    assert why(Path("chat.yaml"), "targets[0].name", "mini") == 0
    assert capsys.readouterr().out.startswith("targets[0].name: studio  (as the spec says)\n")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("service.limits.drain_s", ("service.limits.drain_s: 30", "(the default)", "Seconds that accepted")),
        ("service.logging.format", ("service.logging.format: text  (the default)", "for a log store")),
        ("service.cors", ("service.cors: not set  (the default)", "Web pages of other origins")),
        ("model.system_prompt", ("model.system_prompt: not set  (the default)", "What the model is told")),
        ("model.adapters[0].preload", ("model.adapters[0].preload: yes  (the default)",)),
    ],
)
def test_what_the_spec_does_not_say(
    key: str, told: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why(lora(tmp_path), key) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in told), text
    assert "lora.yaml says nothing of it" in " ".join(text.split())


@pytest.mark.parametrize("key", ["service.corz", "service.cors.origins.nothing", "x", "...", "model[0]", "\x1b[2J"])
def test_what_no_spec_has(key: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="was decided"):
        why(lora(tmp_path), key)
