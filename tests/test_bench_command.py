"""`mlspec bench --url` in this process, against a small server: options, output, files and exit codes."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench_server import OURS, answering, head, listening, of_json, serving
from mlspec.cli import main
from mlspec.serving import free_port
from projects import example

LORA, IRIS = "specs/lora.yaml", "specs/iris.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(example(tmp_path / "project"))
    return tmp_path / "project"


class Service:
    """A service that notes what it is asked, and answers each request alike."""

    def __init__(self, content: bytes = OURS, kind: str = "text/event-stream") -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self._answer = head(200, kind, f"content-length: {len(content)}") + content

    async def __call__(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        self.asked.append((path, json.loads(body)))
        writer.write(self._answer)
        await writer.drain()
        return True


@pytest.fixture
def service() -> Iterator[tuple[Service, str]]:
    made = Service()
    with serving(made) as url:
        yield made, url


def bench(url: str, *arguments: str, spec: str = LORA) -> int:
    return main(["bench", spec, "--url", url, *arguments])


def test_a_table_of_each_concurrency(
    project: Path, service: tuple[Service, str], capsys: pytest.CaptureFixture[str]
) -> None:
    made, url = service
    assert bench(url, "--concurrency", "2,1", "--requests", "6") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"support-lora at {url}\n/predict/stream, 6 requests each, its tests' requests, 7 tokens a ")
    assert re.findall(r"^ +(\d+) +(\d+) +[\d.,]+ ", out, re.M) == [("1", "6"), ("2", "6")]
    assert len(made.asked) == 2 * 6 + 1 + 2  # the warm-ups
    assert {path for path, _ in made.asked} == {"/predict/stream"}
    assert len({json.dumps(body) for _, body in made.asked}) == len(made.asked)


def test_there_is_a_request_for_each_client(project: Path, service: tuple[Service, str]) -> None:
    assert bench(service[1], "--concurrency", "5", "--requests", "2") == 0
    assert len(service[0].asked) == 5 + 5


def test_what_is_asked_follows_the_options(project: Path, service: tuple[Service, str]) -> None:
    made, url = service
    arguments = ["--prompt-tokens", "5", "--max-tokens", "3", "--adapters", "mix", "--shared-prefix", "4"]
    assert bench(url, "--concurrency", "1", "--requests", "3", "--endpoint", "chat", *arguments) == 0
    path, body = made.asked[-1]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"], body["stream"]) == ("support", 3, True)


def test_json_and_kept_files(project: Path, service: tuple[Service, str], capsys: pytest.CaptureFixture[str]) -> None:
    url, few = service[1], ["--concurrency", "1,2", "--requests", "4"]
    assert bench(url, *few, "--save", "then.json") == 0
    kept = json.loads(Path("then.json").read_text())
    capsys.readouterr()
    assert bench(url, *few, "--compare", "then.json", "--output-format", "json", "--html", "page.html") == 0
    told = json.loads(capsys.readouterr().out)
    assert [level["concurrency"] for level in told["levels"]] == [1, 2]
    assert [level["answered"] for level in kept["levels"]] == [4, 4]
    assert [one["concurrency"] for one in told["compared"]] == [1, 2]
    assert told["subject"]["url"] == url
    page = Path("page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert bench(url, *few, "--save", "then.json", "--html", "page.html") == 0
    assert Path("page.html").read_text() != page


def test_a_time_instead_of_a_number(project: Path, service: tuple[Service, str]) -> None:
    assert bench(service[1], "--concurrency", "2", "--duration", "0.2", "--save", "it.json") == 0
    (level,) = json.loads(Path("it.json").read_text())["levels"]
    assert level["requests"] == level["answered"] > 2


def test_tensors(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Service(b'{"outputs": {"species": [0]}}', "application/json")
    with serving(made) as url:
        assert bench(url, "--concurrency", "1,2", "--requests", "4", spec=IRIS) == 0
    assert "requests/s" in capsys.readouterr().out
    assert {path for path, _ in made.asked} == {"/predict"}
    assert all(set(body) == {"inputs"} for _, body in made.asked)


def test_refusals_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(of_json(429, {"error": {"code": "queue_full"}}, "retry-after: 0")) as url:
        assert bench(url, "--concurrency", "1", "--requests", "2") == 1
    out = capsys.readouterr().out
    assert "0 of 2" in out
    assert "2 queue_full" in out
    assert out.endswith("No request was answered whole, so nothing was measured.\n")


@pytest.mark.parametrize(
    ("status", "code", "help"),
    [(401, "unauthorized", "--api-key-env"), (404, "not_found", "--endpoint"), (422, "invalid", "mlspec test")],
)
def test_a_service_that_wants_something_else(
    project: Path, status: int, code: str, help: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(of_json(status, {"error": {"code": code}})) as url:
        assert bench(url) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error[no-answer]: no request of the warm-up was answered: status {status}, {code}\n")
    assert help in told


def test_nobody_answers(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert bench(url) == 3
    assert capsys.readouterr().err.startswith(f"error[no-answer]: nobody answers at {url}\n")


def test_the_key_is_sent_and_never_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head(200, "application/json", "content-length: 2", "connection: close") + b"{}")
        await writer.drain()

    monkeypatch.setenv("A_KEY", " first-key , second-key")
    with listening(note) as url:
        files = ["--save", "it.json", "--html", "it.html"]
        assert bench(url, "--concurrency", "1", "--requests", "1", "--api-key-env", "A_KEY", *files) == 0
    posts = [request for request in shown if request.startswith(b"POST")]
    assert posts
    assert all(b"\r\nAuthorization: Bearer first-key\r\n" in request for request in posts)
    told = "".join([*capsys.readouterr(), Path("it.json").read_text(), Path("it.html").read_text()])
    assert "first-key" not in told


@pytest.mark.parametrize(
    ("arguments", "spec", "code", "exit_code"),
    [
        (["--url", "localhost:3000"], LORA, "usage", 2),
        (["--url", "http://me:secret@localhost"], LORA, "usage", 2),
        (["--url", "http://no-such-host.invalid"], LORA, "no-such-host", 1),
        (["--url", "http://localhost:1", "--adapters", "nobody"], LORA, "usage", 2),
        (["--url", "http://localhost:1", "--adapters", "mix"], "specs/chat.yaml", "usage", 2),
        (["--url", "http://localhost:1", "--max-tokens", "3"], IRIS, "usage", 2),
        (["--url", "http://localhost:1", "--target", "moon"], LORA, "no-such-target", 1),
        (["--url", "http://localhost:1", "--api-key-env", "NOT_SET"], LORA, "no-api-key", 1),
        (["--url", "http://localhost:1", "--compare", "specs/lora.yaml"], LORA, "no-measurements", 1),
        (["--url", "http://localhost:1", "--compare", "nothing.json"], LORA, "no-measurements", 1),
        (["--url", "http://localhost:1", "--save", "specs/lora.yaml"], LORA, "file-exists", 1),
        (["--url", "http://localhost:1", "--html", "specs"], LORA, "file-exists", 1),
        (["--url", "http://localhost:1", "--html", "no/folder/page.html"], LORA, "write-failed", 3),
        (["--url", "http://localhost:1", "--save", "no/folder/it.json"], LORA, "write-failed", 3),
        (["--target", "mac", "--endpoint", "chat"], IRIS, "no-target-here", 1),
        (["--endpoint", "chat"], IRIS, "usage", 2),
        (["--max-tokens", "99999"], LORA, "usage", 2),
        (["--prompt-tokens", "99999999"], LORA, "usage", 2),
        (["--shared-prefix", "99999999"], LORA, "usage", 2),
        (["--url", "http://localhost:1", "--target", "mac", "--max-tokens", "99999"], LORA, "usage", 2),
    ],
)
def test_what_can_not_be_measured(
    project: Path, arguments: list[str], spec: str, code: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", spec, *arguments]) == exit_code
    told = capsys.readouterr().err
    assert f"error[{code}]" in told
    assert "secret" not in told


def test_a_spec_of_tensors_without_tests_is_asked_numbers(
    project: Path, service: tuple[Service, str], capsys: pytest.CaptureFixture[str]
) -> None:
    iris, (made, url) = project / IRIS, service
    iris.write_text(iris.read_text().partition("tests:")[0])
    assert bench(url, "--concurrency", "1", "--requests", "3", spec=IRIS) == 0
    assert "/predict, 3 requests each, generated requests of 1 row, " in capsys.readouterr().out
    asked = [body["inputs"]["flowers"] for _, body in made.asked]  # type: ignore[index]
    assert len(asked) == 1 + 3
    assert all(len(rows) == 1 and len(rows[0]) == 4 for rows in asked)
    assert len({json.dumps(rows) for rows in asked[1:]}) == 3


def test_rows_of_generated_requests(
    project: Path, service: tuple[Service, str], capsys: pytest.CaptureFixture[str]
) -> None:
    made, url = service
    assert bench(url, "--concurrency", "1", "--requests", "2", "--rows", "300", "--repeat", spec=IRIS) == 0
    assert ", generated requests of 300 rows, " in capsys.readouterr().out
    content = base64.b64decode(made.asked[-1][1]["inputs"]["flowers"]["npy"])  # type: ignore[index]
    assert content.startswith(b"\x93NUMPY\x01\x00")
    assert b"'descr': '<f4', 'fortran_order': False, 'shape': (300, 4), " in content
    assert len(content) == 128 + 300 * 4 * 4
    assert bench(url, "--rows", "3") == 2
    assert "--rows is for models of tensors" in capsys.readouterr().err


def test_a_language_model_s_spec_without_tests_is_asked_words(project: Path, service: tuple[Service, str]) -> None:
    lora = project / LORA
    lora.write_text(lora.read_text().partition("tests:")[0])
    assert bench(service[1], "--concurrency", "1", "--requests", "1") == 0
    assert len(str(service[0].asked[-1][1]["prompt"]).split()) > 60


def test_a_spec_with_a_fault(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora = project / LORA
    lora.write_text(lora.read_text().replace("runner:", "runer:"))
    assert bench("http://localhost:1") == 1
    assert "error[unknown-key]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--concurrency", ""],
        ["--concurrency", "0"],
        ["--concurrency", "1,x"],
        ["--concurrency", "100000"],
        ["--requests", "0"],
        ["--requests", "3", "--duration", "3"],
        ["--duration", "0"],
        ["--duration", "nan"],
        ["--seed", "-1"],
        ["--endpoint", "batch"],
    ],
)
def test_wrong_usage(project: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", LORA, *arguments])
    assert ended.value.code == 2
    assert "usage: mlspec bench" in capsys.readouterr().err


def test_a_stream_that_breaks_off_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = 0

    async def sometimes(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal count
        count += 1
        content = OURS if count != 4 else OURS[:60]
        return await answering(200, "text/event-stream", content)(path, body, writer)

    with serving(sometimes) as url:
        assert bench(url, "--concurrency", "1", "--requests", "6") == 0
    out = capsys.readouterr().out
    assert "5 of 6" in out
    assert out.endswith("At 1, 1 of 6 requests failed (1 incomplete): mend that first.\n")
