"""What `mlspec bench` asks, how it sums up, and how that is shown."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from bench_records import GIB, level, record
from mlspec.bench import prometheus
from mlspec.bench.advice import advice
from mlspec.bench.changes import changes, differences
from mlspec.bench.drawing import decades, plot, round_numbers
from mlspec.bench.formats import number
from mlspec.bench.measures import ServiceFigures, Spread, level_of
from mlspec.bench.page import as_page
from mlspec.bench.record import NoRecordError, dumped, parse
from mlspec.bench.samples import Sample
from mlspec.bench.text import as_text
from mlspec.bench.workload import Workload

NOTHING = ServiceFigures()


def asked(workload: Workload, number: int) -> dict[str, object]:
    body: dict[str, object] = json.loads(workload.request(number).body)
    return body


def test_prompts_are_the_same_each_time_and_each_another() -> None:
    first, second = Workload("stream", seed=3), Workload("stream", seed=3)
    bodies = [request.body for request in itertools.islice(first.requests(0), 200)]
    assert bodies == [second.request(number).body for number in range(200)]
    assert len(set(bodies)) == 200
    assert Workload("stream", seed=4).request(0).body != bodies[0]


def test_prompts_have_about_so_many_words() -> None:
    prompt = asked(Workload("stream", prompt_tokens=500), 7)["prompt"]
    assert abs(len(str(prompt).split()) - 500) < 10


def test_a_shared_prefix_is_shared_and_nothing_else() -> None:
    workload = Workload("stream", prompt_tokens=20, shared_prefix=100)
    one, other = (str(asked(workload, number)["prompt"]).split() for number in (0, 1))
    assert one[:100] == other[:100]
    assert one[100] != other[100] or one[101:103] != other[101:103]


def test_without_one_prompts_differ_from_the_first_words_on() -> None:
    begins = {" ".join(str(asked(Workload("stream"), number)["prompt"]).split()[:3]) for number in range(50)}
    assert len(begins) == 50


def test_prompts_that_come_again() -> None:
    workload = Workload("stream", repeat=True)
    assert len({request.body for request in itertools.islice(workload.requests(0), 64)}) == 8


def test_a_warm_up_asks_what_is_never_measured() -> None:
    workload = Workload("stream", bodies=({"prompt": "Hi"},))
    warm = [workload.request(number, warm_up=True) for number in range(20)]
    measured = {workload.request(number).body for number in range(100)}
    assert not measured & {request.body for request in warm}
    assert {json.loads(request.body)["max_tokens"] for request in warm} == {8}


def test_the_tests_requests_keep_what_they_ask() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    bodies = ({"prompt": "Where?", "temperature": 0.5, "max_tokens": 5}, {"messages": messages})
    workload = Workload("stream", bodies=bodies, most_tokens=32)
    first, second = asked(workload, 0), asked(workload, 1)
    assert str(first.pop("prompt")).endswith(" 0. Where?")
    assert first == {"temperature": 0.5, "max_tokens": 5}
    assert second["max_tokens"] == 32
    system, user = second["messages"]  # type: ignore[misc]
    assert system == messages[0]
    assert user["content"].endswith(" 1. Why?")
    assert messages[1]["content"] == "Why?"


def test_max_tokens_is_for_all_where_it_is_given() -> None:
    workload = Workload("stream", bodies=({"prompt": "x", "max_tokens": 5},), max_tokens=9)
    assert asked(workload, 0)["max_tokens"] == 9


def test_adapters_take_turns() -> None:
    workload = Workload("stream", adapters=("a", "b"))
    assert [asked(workload, number)["adapter"] for number in range(4)] == ["a", "b", "a", "b"]


def test_openai_s_requests() -> None:
    bodies = ({"prompt": "Hi", "top_p": 0.9, "min_p": 0.1, "adapter": "a"},)
    chat, completion = (Workload(name, bodies=bodies, max_tokens=4) for name in ("chat", "completions"))
    told = {
        "model": "a",
        "top_p": 0.9,
        "max_tokens": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    prompt = asked(completion, 0)["prompt"]
    assert asked(completion, 0) == {"prompt": prompt, **told}
    assert asked(chat, 0) == {"messages": [{"role": "user", "content": prompt}], **told}
    assert chat.request(0).path == "/v1/chat/completions"


def test_tensors_differ_a_little_and_keep_their_form() -> None:
    body = {"inputs": {"n": [1, 2], "x": [[5.0, 1.5]]}}
    workload = Workload("predict", task="predict", bodies=(body,))
    assert asked(workload, 0) == body
    assert asked(workload, 3) == {"inputs": {"n": [1, 2], "x": [[5.0 * 1.00003, 1.5]]}}
    assert asked(Workload("predict", task="predict", bodies=(body,), repeat=True), 3) == body


def test_keys_are_in_no_text_of_a_workload() -> None:
    workload = Workload("stream", headers=(("Authorization", "Bearer secret"),))
    assert "secret" not in repr(workload)
    assert workload.request(0).headers == (("Authorization", "Bearer secret"),)


SAMPLES = [
    Sample(0, 200, 0.0, 2.0, (1.0, 1.5, 2.0), tokens=5, prompt_tokens=7),
    Sample(1, 200, 0.0, 4.0, (2.0, 4.0), tokens=3, prompt_tokens=7, cached_tokens=2),
    Sample(2, 429, 2.0, 2.1, error="queue_full", retry_after_s=1),
    Sample(3, 503, 2.0, 2.1, error="overheated", retry_after_s=9),
    Sample(4, 503, 2.0, 2.1, error="engine_died"),
    Sample(5, 200, 2.2, 5.0, (3.0,), tokens=1, error="incomplete"),
]


def test_a_level_sums_up_what_was_whole() -> None:
    found = level_of(SAMPLES, 2, ServiceFigures(GIB, 0, 1))
    assert (found.requests, found.answered, found.refused, found.seconds) == (6, 2, 2, 5.0)
    assert (found.tokens, found.prompt_tokens, found.cached_tokens) == (8, 14, 2)
    assert (found.tokens_per_s, found.requests_per_s, found.tokens_per_s_each) == (8 / 5, 2 / 5, 3 / 4)
    assert found.first_token_s == Spread(1.0, 2.0)
    assert found.per_token_s == Spread(0.25, 1.0)
    assert found.latency_s == Spread(2.0, 4.0)
    assert found.errors == {"engine_died": 1, "incomplete": 1, "overheated": 1, "queue_full": 1}
    assert found.service == ServiceFigures(GIB, 0, 1)


@pytest.mark.parametrize(
    ("chunks_s", "tokens", "per_token_s", "bursts"),
    [
        ((1.0, 1.0, 1.0, 1.0), 4, None, 1),
        ((1.0, 1.0, 1.0, 1.3), 4, 0.25, 1),
        ((1.0, 1.0, 1.3, 1.6), 4, 0.25, 0),
        ((1.0,), 4, None, 0),
        ((1.0,), 1, None, 0),
        ((), 4, None, 0),
    ],
)
def test_pieces_of_one_read_tell_nothing_of_the_time_between(
    chunks_s: tuple[float, ...], tokens: int, per_token_s: float | None, bursts: int
) -> None:
    found = level_of([Sample(0, 200, 0.0, 1.75, chunks_s, tokens=tokens)], 1, NOTHING)
    assert (found.per_token_s, found.bursts) == (per_token_s and Spread(per_token_s, per_token_s), bursts)
    kept = [Sample(0, 200, 0.0, 1.75, chunks_s, tokens=tokens, from_cache=True)]
    assert level_of(kept, 1, NOTHING).bursts == 0


def test_bursts_are_told_in_words() -> None:
    made = record(level(1, 47.2, bursts=3), level(2, 88.0, bursts=4, per_token_s=None), level(4, 90.0, bursts=32))
    told = (
        "answers came in bursts at 2, 4: the service or this client was short of CPU, and times of single tokens there"
    )
    assert told in as_text(made).replace("\n", " ")
    assert "bursts" not in as_text(record(level(1, 47.2, bursts=3)))
    assert parse(dumped(made).encode()) == made


def test_answers_tell_of_the_cache_where_metrics_do_not() -> None:
    kept = [Sample(0, 200, 0.0, 1.0, (1.0,), tokens=1, from_cache=True), Sample(1, 200, 0.0, 1.0, (1.0,), tokens=1)]
    assert level_of(kept, 1, NOTHING).service.cache_hits == 1


def test_a_model_of_tensors_has_no_tokens() -> None:
    found = level_of([Sample(0, 200, 0.0, 0.5), Sample(1, 200, 0.5, 1.0)], 1, NOTHING)
    assert (found.tokens_per_s, found.first_token_s, found.throughput) == (None, None, 2.0)


def test_a_level_of_nothing() -> None:
    found = level_of([], 4, NOTHING)
    assert (found.requests, found.throughput, found.latency_s) == (0, 0.0, None)


def test_metrics_are_read() -> None:
    text = '# HELP x y\nmlspec_memory_bytes{kind="peak"} 1.5e+09\nmlspec_thermal_level -1.0\nbroken\nnan NaN\nat 3 17\n'
    told = prometheus.read(text)
    assert told == {'mlspec_memory_bytes{kind="peak"}': 1.5e9, "mlspec_thermal_level": -1.0, "at": 3.0}


def test_a_record_is_read_as_it_was_written() -> None:
    made = record(level(1, 47.0), level(2, 80.0, errors={"timeout": 1}), asked={"adapters": ("a", "b")})
    assert parse(dumped(made).encode()) == made


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "isn't JSON"),
        (b"[]", "didn't write it"),
        (b'{"kind": "mlspec-bench", "version": 9}', "has version 9"),
        (b'{"kind": "mlspec-bench", "version": 1}', "measured_at: "),
    ],
)
def test_what_is_no_record(content: bytes, why: str) -> None:
    with pytest.raises(NoRecordError, match=why):
        parse(content)


@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity"])
def test_a_record_of_numbers_that_are_none(value: str) -> None:
    content = dumped(record(level(1, 47.25))).replace("47.25", value)
    with pytest.raises(NoRecordError, match="isn't finite"):
        parse(content.encode())


def test_a_record_of_nobody() -> None:
    with pytest.raises(NoRecordError, match="1 at least"):
        parse(dumped(record(level(0, 47.25))).encode())


REFUSED = {"answered": 20, "refused": 12, "errors": {"queue_full": 12}}
BROKEN = {"answered": 30, "errors": {"timeout": 2}}


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ([level(1, 50), level(2, 90), level(4, 95)], "stops growing at 2 (90 tokens/s)"),
        (
            [level(1, 50), level(8, 190), level(16, 195)],
            "at 8 (190 tokens/s): with more at once each only waits longer.",
        ),
        ([level(1, 50), level(16, 190), level(32, 195)], "longer, as the plan computes 8 at once."),
        ([level(1, 50), level(2, 40), level(4, 95)], "still grows at 4 (95 tokens/s): try --concurrency 4,8,16."),
        ([level(4, 95)], "One concurrency shows no limit"),
        ([level(1, 50), level(80, 90, **REFUSED)], "At 80, 12 of 32 requests were refused (12 queue_full)"),
        ([level(1, 50, **BROKEN), level(80, 90, **REFUSED)], "At 1, 2 of 32 requests failed (2 timeout)"),
        ([level(1, 50), level(2, 90, service=ServiceFigures(37 * GIB))], "memory came to 37.0 GiB of the 40.0 GiB"),
        ([level(1, 50), level(2, 90, service=ServiceFigures(GIB, 2))], "got hot (thermal level 2)"),
        ([level(1, 50), level(2, 90, service=ServiceFigures(cache_hits=3))], "3 of 64 answers came from the response"),
        ([level(1, None, answered=0, errors={"timeout": 32})], "No request was answered"),
    ],
)
def test_one_sentence_that_helps(levels: list[object], sentence: str) -> None:
    assert sentence in advice(record(*levels))  # type: ignore[arg-type]


def test_a_planned_concurrency_that_is_more_than_is_of_use() -> None:
    told = advice(record(level(1, 50.0), level(2, 90.0), level(4, 91.0)))
    assert told.endswith("service.concurrency: 2 would do, where the plan has 8.")


def test_kept_answers_tell_nothing_of_the_model() -> None:
    kept = [level(count, 400.0 + count, service=ServiceFigures(cache_hits=32)) for count in (1, 2, 4)]
    again = advice(record(*kept, asked={"repeat": True}))
    assert again == (
        "All answers came from the response cache and nothing was computed: measure the model without --repeat."
    )
    assert advice(record(*kept)).endswith("nothing was computed: another --seed asks what it doesn't know.")
    some = (level(1, 50, service=ServiceFigures(cache_hits=30)), level(2, 400))
    assert advice(record(*some, asked={"repeat": True})).startswith("30 of 64 answers came from the response cache")


@pytest.mark.parametrize("width", [32, 40, 80, 100])
def test_the_text_is_as_narrow_as_the_terminal(width: int) -> None:
    now, then = record(level(1, 47.2), level(16, 88.0)), record(level(1, 50.0), level(16, 70.0), target="mini")
    text = as_text(now, then, width)
    assert max(map(len, text.splitlines())) <= width
    for name in ("tokens/s", "first token, ms", "peak memory", "47.2", "81.0 / 138", "throughput"):
        assert name in text


def test_a_narrow_table_goes_on_below() -> None:
    text = as_text(record(level(1, 47.2), level(16, 88.0)), width=80)
    assert (
        "clients  requests  tokens/s  each  first token, ms  per token, ms    latency, ms\n"
        "      1        32      47.2  30.0       81.0 / 138    20.0 / 25.0  1,360 / 1,900\n"
        "     16        32      88.0  30.0       81.0 / 138    20.0 / 25.0  1,360 / 1,900\n"
        "\n"
        "clients  peak memory\n"
        "      1      1.0 GiB\n"
        "     16      1.0 GiB\n"
        "times: p50 / p95\n"
    ) in text


def test_the_text() -> None:
    made = record(level(1, 47.2), level(2, 88.0, requests=40, answered=32, refused=8, errors={"queue_full": 8}))
    assert as_text(made) == (
        "support/studio on Mac Studio 2023, M2 Max, 64 GB\n"
        "/predict/stream, 32 requests each, prompts of 64 words, 70 tokens a prompt, at most 64 an answer\n"
        "\n"
        "clients  requests  tokens/s  each  first token, ms  per token, ms    latency, ms  peak memory        errors\n"
        "      1        32      47.2  30.0       81.0 / 138    20.0 / 25.0  1,360 / 1,900      1.0 GiB\n"
        "      2  32 of 40      88.0  30.0       81.0 / 138    20.0 / 25.0  1,360 / 1,900      1.0 GiB  8 queue_full\n"
        "times: p50 / p95\n"
        "\n"
        "the plan estimates 52 (39 to 68) tokens/s for one request; measured 50\n"
        "the model's framework held 1.0 GiB at its fullest; the plan counts 6.0 GiB of 40.0 GiB allowed, the process "
        "itself included\n"
        "\n"
        "At 2, 8 of 40 requests were refused (8 queue_full): the plan computes 8 at once and lets 64 wait; raise "
        "service.limits.queue if\nclients may wait longer, else ask with fewer.\n"
    )


def test_the_text_of_a_service_elsewhere_and_of_tensors() -> None:
    plain = {"prompt_tokens": 0, "tokens": 0, "tokens_per_s_each": None, "first_token_s": None, "per_token_s": None}
    made = record(
        level(1, None, interrupted=True, service=NOTHING, **plain),
        asked={"max_tokens": None, "prompts": "its tests' requests"},
        url="http://other:3000",
        footprint_bytes=None,
        decode_tokens_per_s=None,
    )
    assert as_text(made) == (
        "support/studio at http://other:3000\n"
        "/predict/stream, 32 requests each, its tests' requests\n"
        "\n"
        "clients  requests  requests/s    latency, ms\n"
        "      1       32*        1.60  1,360 / 1,900\n"
        "times: p50 / p95\n"
        "* stopped before its end\n"
        "\n"
        "One concurrency shows no limit: try several, as in --concurrency 1,2,4,8.\n"
    )


def test_two_records_side_by_side() -> None:
    then = record(level(1, 40.0), level(4, 100.0), asked={"seed": 5}, machine="a Mac mini")
    now = record(level(1, 50.0, first_token_s=None), level(2, 80.0))
    (found,) = changes(now, then)
    assert (found.concurrency, found.throughput, found.first_token, found.per_token) == (1, 1.25, None, 1.0)
    assert differences(now, then) == ["seed was 5", "machine was a Mac mini"]
    text = as_text(now, then)
    assert "against 2026-03-01 10:00 UTC (mlspec 0.4.0):\n" in text
    assert "      1        +25%                     +0%      +0%\n" in text
    assert "other than then: seed was 5; machine was a Mac mini\n" in text
    assert differences(now, now) == []


def test_nothing_of_a_record_does_something_to_a_terminal() -> None:
    made = record(level(1, 47.0, answered=31, errors={"\x1b[2Jx\ny": 1}), machine="a\x1b]0;b\x07")
    assert "mend that first" in as_text(made)
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", as_text(made))


class Seen(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_page_has_its_figures_and_loads_nothing() -> None:
    levels = (level(1, 47.2), level(2, 88.0), level(4, 91.0, answered=30, errors={"timeout": 2}))
    page = Seen(as_page(record(*levels), record(level(1, 40.0))))
    tags = {name for name, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not [attributes for _, attributes in page.tags if attributes.keys() & {"href", "src", "style", "onclick"}]
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; style-src 'sha256-")
    for text in ("47.2", "30 of 32", "2 timeout", "81.0 / 138", "+18%", "52 (39 to 68)", "50", "1.0 GiB"):
        assert text in page.texts
    plots = [text for text in page.texts if text.endswith("against clients at once")]
    assert [text.partition(",")[0] for text in plots] == [
        "Throughput",
        "Time to the first token",
        "Time per token",
        "Latency",
    ]
    assert sum(name == "polyline" for name, _ in page.tags) == 2 + 1 + 3 * 3


def test_the_page_of_a_record_that_has_little() -> None:
    bare = level(1, None, first_token_s=None, per_token_s=None, tokens_per_s_each=None, service=NOTHING)
    page = as_page(record(bare, decode_tokens_per_s=None, machine="", url="http://x"))
    assert "What the plan says" not in page
    assert "requests/s" in page


def test_marks_in_a_record_are_text_in_its_page() -> None:
    nasty = "<script>alert('1')</script>"
    made = record(level(1, 9.0, answered=1, errors={nasty: 1}), name=nasty, machine=nasty, url=nasty)
    page = as_page(made, record(level(1, 8.0), machine=nasty + "x"))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.0, "0.00"), (0.854, "0.85"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")],
)
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize("ceiling", [0.003, 0.9, 1.0, 3.0, 7.7, 10.0, 99.0, 250.0, 12345.0])
def test_axes_end_at_round_numbers(ceiling: float) -> None:
    ticks = round_numbers(ceiling)
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == 0
    assert ceiling <= ticks[-1] <= 2 * ceiling


def test_wide_times_have_a_logarithmic_axis() -> None:
    assert decades(81.0, 11560.0) == [10.0, 100.0, 1000.0, 10000.0, 100000.0]
    wide = plot("t", "ms", "note.", [("p50", "p50", [(1, 81.0), (32, 11560.0)])])
    assert wide.note == "note. The scale is logarithmic."
    assert [tick.label for tick in wide.up] == ["10", "100", "1,000", "10,000", "100,000"]


def test_a_plot_of_one_level_is_in_the_middle() -> None:
    one = plot("t", "ms", "", [("p50", "p50", [(4, 10.0)])])
    assert one.lines[0].points == "212.0,22.0"


def test_a_plot_lies_within_its_picture() -> None:
    drawn = plot("t", "x", "", [("a", "p50", [(n, float(n * n % 7)) for n in range(1, 40)])])
    for dot in drawn.lines[0].dots:
        assert 58 <= float(dot.x) <= 366
        assert 22 <= float(dot.y) <= 178
    assert [tick.label for tick in drawn.across] == ["1", "2", "4", "8", "16", "32"]
