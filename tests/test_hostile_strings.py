"""A string of a spec, whatever it holds, is refused with a report or stays a value in all that is generated.

500 strings in the normal run; MLSPEC_EXAMPLES=10000 for the long one.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlspec.diagnostics import Report
from mlspec.pipeline import Compiled, Pipeline
from mlspec.rendering.context import neutral
from mlspec.rendering.environment import environment
from mlspec.rendering.shapes import shape
from mlspec.resources import folder
from projects import example, surroundings

EXAMPLES = int(os.environ.get("MLSPEC_EXAMPLES", "500"))

LORA: dict[str, Any] = {
    "apiVersion": "mlspec/v1",
    "kind": "ModelService",
    "metadata": {"name": "hostile", "project": "p", "description": "d", "labels": {"team": "t"}},
    "model": {
        "runner": "lora",
        "base": {"path": "specs/models/tiny"},
        "adapters": [{"name": "support", "path": "specs/models/tiny-support"}],
        "sampling": {"stop": ["end"]},
    },
    "service": {"env": [{"name": "LEVEL", "value": "v"}]},
    "targets": [{"name": "linux", "platform": "linux"}],
    "tests": [{"name": "n", "predict": {"prompt": "p"}, "expect": {"contains": "c"}}],
}
IRIS: dict[str, Any] = {
    **{key: LORA[key] for key in ("apiVersion", "kind", "metadata", "service", "targets")},
    "model": {
        "runner": "python",
        "module": "specs/models/iris/model.py",
        "class": "Iris",
        "requirements": ["tabulate==0.10.0"],
        "inputs": [{"name": "flowers", "shape": ["batch", 4]}],
        "outputs": [{"name": "species", "shape": ["batch"]}],
    },
}

PAYLOADS = [
    '"""\nimport os\n"""',
    "'); __import__('os').system('id') #",
    '"; import os; "',
    "\\",
    "\\\n",
    "$(id)",
    "`id`",
    "${PATH}",
    "%s %(x)s {0} {x}",
    "{{ 7 * 7 }}",
    "{% include 'x' %}",
    "\nRUN id",
    " \\\nRUN id",
    "a\r\nENV X=1",
    "# comment",
    "''' + '''",
    "<script>alert(1)</script>",
    "| a | b |",
    "```sh\nrm -rf /\n```",
    "](javascript:alert(1))",
    "!!python/object/apply:os.system [id]",
    "*alias",
    "&anchor",
    "- x: [",
    "no",
    "1e3",
    "0x1F",
    "~",
    "null",
    "12:30",
    "\x00",
    "\x1b[31m",
    "\u2028import os",
    "\u202e",
    "\ud83d\ude00 ok",
    "é ü 漢字",
    "../../etc/passwd",
    "a b; c",
    "x" * 5000,
    "[x][y]",
    "1. x",
    "=====",
    "'",
    '"',
    '\\"; import os #',
]
PRINTABLE = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)
ANY = st.text(max_size=40)
STRINGS = st.one_of(
    PRINTABLE,
    PRINTABLE,
    ANY,
    st.lists(st.sampled_from([c for p in PAYLOADS for c in p if c.isprintable()]), max_size=40).map("".join),
    st.sampled_from(PAYLOADS),
    st.builds(lambda a, b, c: a + b + c, PRINTABLE, st.sampled_from(PAYLOADS), PRINTABLE),
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each string of a spec stands; a map's key ends in the mark `None`."""
    if isinstance(value, str):
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))
    if isinstance(value, dict) and at[-1:] == ("labels",):
        yield from ((*at, key, None) for key in value)


def with_string(spec: dict[str, Any], at: tuple[Any, ...], text: str) -> dict[str, Any]:
    made = copy.deepcopy(spec)
    holder: Any = made
    if at[-1] is None:
        for step in at[:-2]:
            holder = holder[step]
        holder[text] = holder.pop(at[-2])
        return made
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = text
    return made


FREE_TEXT: list[tuple[Any, ...]] = [
    ("metadata", "description"),
    ("metadata", "labels", "team"),
    ("model", "sampling", "stop", 0),
    ("service", "env", 0, "value"),
    ("tests", 0, "name"),
    ("tests", 0, "predict", "prompt"),
    ("tests", 0, "expect", "contains"),
]
"""Where a spec takes nearly any text; elsewhere most strings are refused."""

CASES = st.one_of(
    st.tuples(st.just(LORA), st.sampled_from(FREE_TEXT)),
    st.tuples(st.just(LORA), st.sampled_from(FREE_TEXT)),
    st.tuples(st.just(LORA), st.sampled_from(sorted(places(LORA), key=repr))),
    st.tuples(st.just(IRIS), st.sampled_from(sorted(places(IRIS), key=repr))),
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(surroundings(example(tmp_path_factory.mktemp("hostile") / "project")))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 500)
@given(CASES, STRINGS)
def test_a_hostile_string_stays_a_value(
    pipeline: Pipeline, case: tuple[dict[str, Any], tuple[Any, ...]], text: str
) -> None:
    spec, at = case
    path = pipeline.here.working_folder / "hostile.yaml"
    path.write_text(json.dumps(with_string(spec, at, text)), encoding="utf-8")
    report = Report()
    checked = pipeline.check(path, report)
    compiled = list(pipeline.compile(checked, report)) if checked else []
    assert "template" not in {found.code for found in report}, list(report)
    assert bool(compiled) != report.failed
    event("built" if compiled else "refused")
    for one in compiled:
        assert_only_values(one)


def assert_only_values(compiled: Compiled) -> None:
    """All files parse, have the shape that they have with neutral strings, and give the strings back."""
    texts = {name: content.decode() for name, content in compiled.bundle.files.items()}
    plain = neutral(compiled.plan)
    for name, template in compiled.checked.backend.templates(compiled.plan.target).items():
        expected = environment(folder("templates")).get_template(template).render(plain)
        assert shape(name, texts[name]) == shape(name, expected), name
    metadata, service = compiled.plan.spec.metadata, ast.parse(texts["service.py"])
    constants = [node.value for node in ast.walk(service) if isinstance(node, ast.Constant)]
    assert metadata.name in constants
    bento = YAML(typ="safe", pure=True).load(texts["bentofile.yaml"])
    assert bento["name"] == metadata.name
    assert bento["labels"].items() >= metadata.labels.items()
    assert not metadata.description or bento["description"] == metadata.description
    assert_dockerfile(texts["Dockerfile"], compiled)
    assert json.loads(texts["plan.json"])["metadata"]["description"] == metadata.description


def assert_dockerfile(text: str, compiled: Compiled) -> None:
    """Each label and variable reads back as Docker reads it."""
    labels = [line.removeprefix("LABEL ") for line in text.splitlines() if line.startswith("LABEL ")]
    read = dict(shlex.split(label.replace("\\$", "$"))[0].split("=", 1) for label in labels)
    wanted = compiled.plan.spec.metadata.labels
    if not any(c in key + value for key, value in wanted.items() for c in "=$"):
        assert read == wanted
