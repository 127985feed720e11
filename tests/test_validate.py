"""validate: a document to a typed spec, or all of its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlspec.diagnostics import Diagnostic, Report
from mlspec.model.project import ProjectFile
from mlspec.model.spec import Spec
from mlspec.passes.load import load, parse
from mlspec.passes.validate import validate, validate_project
from mlspec.runners.mlx_lm.model import MlxLmModel
from mlspec.runners.python.model import PythonModel

SPECS = Path(__file__).parent.parent / "specs"
HEAD = "apiVersion: mlspec/v1\nkind: ModelService\nmetadata: {name: shop, project: example}\n"
MODEL = "model: {runner: mlx-lm, base: {path: models/tiny}}\n"


def checked(text: str, **known: Any) -> tuple[Spec | None, list[Diagnostic]]:
    report = Report()
    document = parse(text, Path("spec.yaml"), "spec.yaml", report)
    assert document is not None
    return validate(document, report, **known), list(report)


def spec(text: str, **known: Any) -> Spec:
    found, faults = checked(text, **known)
    assert not faults
    assert found is not None
    return found


def codes(text: str, **known: Any) -> list[str]:
    return [fault.code for fault in checked(text, **known)[1]]


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_example_specs_are_valid(path: Path) -> None:
    report = Report()
    document = load(path, path.name, report)
    assert document is not None
    assert validate(document, report) is not None
    assert not list(report)


def test_the_least_spec_gets_all_defaults() -> None:
    found = spec(HEAD + MODEL)
    assert found.runner == "mlx-lm"
    assert found.task is None
    assert isinstance(found.model, MlxLmModel)
    assert found.model.base.key() == {"path": "models/tiny"}
    assert found.model.sampling.max_tokens == 128
    assert found.service.backend == "bentoml"
    assert found.service.concurrency == "auto"
    assert [(t.name, t.platform, t.python) for t in found.targets] == [("mac", "macos", "3.11")]
    assert found.tests == ()


def test_all_keys_of_a_spec_arrive() -> None:
    found = spec(
        """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: shop, project: example, description: "two\\nlines", labels: {team: support}, x-note: [1]}
x-limits: &limits {max_tokens: 512, timeout_s: 1.5, max_body_bytes: 4096, queue: 0}
model:
  runner: lora
  task: generate
  base: {hf: org/name, revision: 12fd25f77366fa6b3b4b768ec3050bf629380bac}
  adapters:
    - {name: a, root: weights, path: a/b}
    - {name: b, store: "b:1"}
  default_adapter: base
  context_length: 2048
  sampling: {max_tokens: 512, temperature: 1, top_p: 0.5, stop: ["\\n"], seed: 7}
service:
  endpoints: [predict, stream]
  concurrency: 4
  limits: *limits
  env: [{name: LOG_LEVEL, value: ""}, {name: API_KEY}]
targets:
  - {name: server, platform: linux, accelerator: cuda12, arch: arm64, python: "3.13"}
tests:
  - {predict: {prompt: Hi, adapter: b}, expect: {equals: {any: [1]}, status: 200}}
""",
        roots=["weights"],
    )
    assert found.metadata.description == "two\nlines"
    assert found.model.adapters[0].key() == {"path": "a/b", "root": "weights"}
    assert found.model.sampling.stop == ("\n",)
    assert (found.service.limits.queue, found.service.limits.timeout_s) == (0, 1.5)
    assert [(e.name, e.value) for e in found.service.env] == [("LOG_LEVEL", ""), ("API_KEY", None)]
    assert found.targets[0].accelerator == "cuda12"
    assert found.tests[0].expect.equals == {"any": [1]}


def test_a_class_of_ones_own() -> None:
    found = spec(
        HEAD + "model: {runner: python, module: m.py, class: Iris, inputs: [{name: x, shape: [batch, 4]}],"
        " outputs: [{name: y, dtype: int64, shape: []}], requirements: ['numpy==2.4.6']}\n"
    )
    assert isinstance(found.model, PythonModel)
    assert found.model.class_name == "Iris"
    assert found.model.inputs[0].shape == ("batch", 4)
    assert found.model.inputs[0].dtype == "float32"


@pytest.mark.parametrize("tail", ["\n", "\r", " ", "\u2028", "\x00"])
def test_a_name_is_matched_whole(tail: str) -> None:
    report = Report()
    text = HEAD.replace("name: shop", f'name: "shop\\u{ord(tail):04x}"') + MODEL
    document = parse(text, Path("spec.yaml"), "spec.yaml", report)
    assert document is not None
    assert document.data["metadata"]["name"] == "shop" + tail
    assert validate(document, report) is None
    assert {d.code for d in report} <= {"bad-name", "control-character"}


def test_a_fault_found_by_load_is_not_told_again() -> None:
    text = HEAD + "model: {runner: mlx-lm, base: {path: m}, sampling: {temperature: .nan, top_p: high}}\n"
    assert codes(text) == ["yaml-not-finite", "wrong-type"]


def test_a_spec_with_a_fault_found_by_load_gives_no_spec() -> None:
    found, faults = checked(HEAD + MODEL + "x-date: 2026-01-01\n")
    assert found is None
    assert [fault.code for fault in faults] == ["yaml-date"]


def test_faults_of_other_files_in_the_report_do_not_matter() -> None:
    report = Report()
    parse("a: .nan", Path("other.yaml"), "other.yaml", report)
    document = parse(HEAD + MODEL, Path("spec.yaml"), "spec.yaml", report)
    assert document is not None
    assert validate(document, report) is not None


@pytest.mark.parametrize(
    "value",
    [
        "hf_" + "aB3" * 6,
        "sk-" + "proj-a1" * 4,
        "ghp_" + "a1" * 10,
        "github_pat_" + "a1_" * 8,
        "AKIA" + "A1B2" * 4,
        "xoxb-" + "123-abc" * 2,
        "AIza" + "a1_-" * 8,
        "glpat-" + "a1_-" * 5,
        "eyJ" + "hbGciOiJ" + ".eyJ" + "zdWIiOi" * 2 + ".sig",
        "https://me:" + "pass@example.com",
        "a text with hf_" + "aB3" * 6 + " in it",
    ],
)
def test_secrets_are_found_anywhere(value: str) -> None:
    for text in (
        HEAD + MODEL + f'service: {{env: [{{name: A, value: "{value}"}}]}}\n',
        HEAD + MODEL + f'x-mine: {{a: [1, "{value}"]}}\n',
        HEAD + MODEL + f'x-mine: {{"{value}": 1}}\n',
        HEAD.replace("shop", f'"{value}"') + MODEL,
    ):
        found, faults = checked(text)
        assert found is None
        assert [fault.code for fault in faults] == ["secret"]
        assert value not in str(faults)


@pytest.mark.parametrize(
    "value", ["sk-learn-is-not-a-token", "hf_hub", "task-force-of-1234567890", "AKIA", "https://example.com/a:b@c"]
)
def test_other_texts_are_no_secrets(value: str) -> None:
    assert not codes(HEAD + MODEL + f'x-mine: "{value}"\n')


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("API_KEY", True),
        ("api_key", True),
        ("DB_PASSWORD", True),
        ("MY_SECRET_SAUCE", True),
        ("LOG_LEVEL", False),
        ("MAX_TOKENS", False),
        ("KEYBOARD", False),
        ("TOKENIZERS_PARALLELISM", False),
    ],
)
def test_variables_that_are_secrets_by_their_names(name: str, secret: bool) -> None:
    assert codes(HEAD + MODEL + f"service: {{env: [{{name: {name}, value: x}}]}}\n") == ["secret"] * secret
    assert not codes(HEAD + MODEL + f"service: {{env: [{{name: {name}}}]}}\n")


def test_two_aliases_of_one_fault_are_told_at_their_uses() -> None:
    _, faults = checked("x-b: &b {path: /abs}\n" + HEAD + "model: {runner: mlx-lm, base: *b}\n")
    assert [(f.code, f.span.line, f.span.column) for f in faults] == [("path-outside", 5, 31)]


@pytest.mark.parametrize(
    ("block", "found"),
    [
        ("{runnr: lora}", ["runner"]),
        ("{Runner: lora, base: {path: m}, x-runner: 1}", ["runner"]),
        ("{runnr: lora, contxt_length: 1}", ["runner", "context_length"]),
        ("{engine: lora, replicas: 2}", []),
        ("{clas: A, module: m.py}", ["class"]),
        ("{x-runnr: lora}", []),
    ],
)
def test_misspelt_keys_of_a_model_without_a_runner(block: str, found: list[str]) -> None:
    _, faults = checked(HEAD + f"model: {block}\n")
    labels = [fault.label for fault in faults if fault.code == "unknown-key"]
    assert labels == [f"did you mean '{key}'?" for key in found]
    assert ("missing-key" in [fault.code for fault in faults]) == ("runner" not in found)


def test_a_project_file() -> None:
    report = Report()
    text = "apiVersion: mlspec/v1\nkind: Project\nroots: {weights: {env: W}, x-a: 1}\ntemplates: deploy/t\nx-b: 2\n"
    document = parse(text, Path("mlspec.yaml"), "mlspec.yaml", report)
    assert document is not None
    found = validate_project(document, report)
    assert isinstance(found, ProjectFile)
    assert {name: root.env for name, root in found.roots.items()} == {"weights": "W"}
    assert found.templates == "deploy/t"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("kind: Project\n", "missing-key"),
        ("apiVersion: mlspec/v1\nkind: ModelService\n", "wrong-kind"),
        ("apiVersion: mlspec/v1\nkind: Project\nroots: {Weights: {}}\n", "bad-name"),
        ("apiVersion: mlspec/v1\nkind: Project\nroots: {weights: {env: 'A B'}}\n", "env-name"),
        ("apiVersion: mlspec/v1\nkind: Project\nroots: {weights: /srv}\n", "wrong-type"),
        ("apiVersion: mlspec/v1\nkind: Project\ntemplates: ../t\n", "path-outside"),
        ("apiVersion: mlspec/v1\nkind: Project\nroot: {}\n", "unknown-key"),
    ],
)
def test_a_bad_project_file(text: str, code: str) -> None:
    report = Report()
    document = parse(text, Path("mlspec.yaml"), "mlspec.yaml", report)
    assert document is not None
    assert validate_project(document, report) is None
    assert [d.code for d in report] == [code]


SERVICE = HEAD + MODEL + "service:\n"


def test_a_service_offers_what_the_spec_names_or_all_that_its_task_has() -> None:
    assert spec(HEAD + MODEL).service.endpoints is None
    assert spec(SERVICE + "  endpoints: [chat, batch]\n").service.endpoints == ("chat", "batch")


def test_a_model_that_predicts_has_no_chat() -> None:
    python = (SPECS / "iris.yaml").read_text(encoding="utf-8")
    (fault,) = checked(python + "service: {endpoints: [predict, chat]}\n")[1]
    assert fault.code == "unknown-value"
    assert fault.message == "a model of the task 'predict' has no endpoint 'chat'"
    assert fault.help == "it has predict, stream and batch"


def test_the_api_key_is_never_in_the_spec() -> None:
    text = SERVICE + "  auth: {api_key_env: GATE}\n  env: [{name: GATE, value: open}]\n"
    (fault,) = checked(text)[1]
    assert fault.code == "secret"
    assert spec(SERVICE + "  auth: {api_key_env: GATE}\n  env: [{name: GATE}]\n").service.auth is not None


@pytest.mark.parametrize("origin", ["example.com", "https://a.example.com/path", "ftp://a", "https://a b"])
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    assert codes(SERVICE + f"  cors: {{origins: ['{origin}']}}\n") == ["bad-value"]


def test_all_origins_and_one_more_are_refused() -> None:
    assert codes(SERVICE + "  cors: {origins: ['https://a.example.com', '*']}\n") == ["bad-value"]
    assert codes(SERVICE + "  cors: {origins: ['*']}\n") == []
    assert codes(SERVICE + "  cors: {origins: ['https://a.example.com:8443', 'http://[::1]:3000']}\n") == []


@pytest.mark.parametrize(
    ("origin", "help"),
    [
        ("https://APP.example.com", "write https://app.example.com"),
        ("https://b.example.com:443", "write https://b.example.com"),
        ("http://b.example.com:0080", "write http://b.example.com"),
        ("http://b.example.com:08080", "write http://b.example.com:8080"),
        ("http://x:99999", "a port is 1 to 65535"),
        ("http://x:0", "a port is 1 to 65535"),
        ("http://-..-", "a host is as in app.example.com, 127.0.0.1 or [::1]"),
        ("http://1.2.3.256", "a host is as in app.example.com, 127.0.0.1 or [::1]"),
        ("http://[1::2::3]", "a host is as in app.example.com, 127.0.0.1 or [::1]"),
        ("http://[0:0::1]:3000", "write http://[::1]:3000"),
        ("http://[::FFFF:127.0.0.1]", "write http://[::ffff:7f00:1]"),
    ],
)
def test_an_origin_that_no_browser_sends(origin: str, help: str) -> None:
    (fault,) = checked(SERVICE + f"  cors: {{origins: ['https://a.example.com', '{origin}']}}\n")[1]
    assert (fault.code, fault.help) == ("bad-value", help)


@pytest.mark.parametrize("origin", ["http://box.", "http://127.0.0.1:3000", "https://xn--bcher-kva.example:444"])
def test_an_origin_that_a_browser_sends(origin: str) -> None:
    assert codes(SERVICE + f"  cors: {{origins: ['{origin}']}}\n") == []


@pytest.mark.parametrize("name", ["PATH", "HOME", "USER", "SHELL", "PWD", "LANG", "TMPDIR"])
def test_what_every_process_has_is_no_key(name: str) -> None:
    (fault,) = checked(SERVICE + f"  auth: {{api_key_env: {name}}}\n")[1]
    assert fault.code == "env-name"
    assert fault.help == "name a variable of its own, as in SUPPORT_API_KEY"


def test_tests_need_the_endpoint_that_they_ask() -> None:
    tests = "tests: [{predict: {prompt: Hi}}, {predict: {prompt: Hi}, expect: {status: 404}}]\n"
    (fault,) = checked(SERVICE + "  endpoints: [chat]\n" + tests)[1]
    assert (fault.code, fault.help) == ("unknown-value", "add predict to service.endpoints, or leave the tests out")
    assert codes(SERVICE + "  endpoints: [chat, predict]\n" + tests) == []


def test_the_default_of_a_limit_is_a_limit() -> None:
    model = MODEL.replace("}}", "}, sampling: {max_tokens: 600}}")
    (fault,) = checked(HEAD + model)[1]
    assert fault.code == "limit-conflict"
    assert fault.message == "requests get 600 tokens by default, and may ask for 512 (service.limits.max_tokens)"
    assert codes(HEAD + model + "service: {limits: {max_tokens: 600}}\n") == []


def test_an_answer_is_no_longer_than_a_context() -> None:
    (fault,) = checked(HEAD + MODEL.replace("}}", "}, sampling: {max_tokens: 300}, context_length: 256}"))[1]
    assert fault.code == "limit-conflict"
    assert fault.message == "requests get 300 tokens by default, and a context has 256 (model.context_length)"


def test_the_example_of_a_fault_is_the_key_s_own() -> None:
    (fault,) = checked(HEAD + MODEL.replace("}}", "}, chat_template: {path: x}}"))[1]
    assert (fault.code, fault.help) == ("wrong-type", "for example: templates/chat.jinja")
