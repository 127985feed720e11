"""Text from a spec never becomes code: the filters, the environment and the check of shapes."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from mlspec.rendering.environment import environment
from mlspec.rendering.filters import Safe, UnsafeValueError, dockerfile, md, py, sh, word, yaml
from mlspec.rendering.shapes import dockerfile_shape, line_shape, python_shape, shape
from projects import built, example, with_spec

TEXT = st.text() | st.sampled_from(
    ["'; import os #", '"""', "${HOME}", "`id`", "{{ 7 * 7 }}", "\\", "é\u2028", "$(id)"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES)
def test_py_is_a_literal_of_the_value(value: object) -> None:
    text = py(value)
    assert text.isascii()
    assert "\n" not in text
    assert ast.literal_eval(text) == value


def test_py_takes_tuples_and_refuses_what_has_no_literal() -> None:
    assert ast.literal_eval(py(("a",))) == ("a",)
    assert ast.literal_eval(py(("a", 1))) == ("a", 1)
    with pytest.raises(UnsafeValueError, match="no Python literal for object"):
        py(object())


@given(TEXT)
def test_one_line_filters_keep_the_text_or_refuse_it(text: str) -> None:
    try:
        written = sh(text)
    except UnsafeValueError:
        assert any(not c.isprintable() for c in text)
        return
    assert shlex.split(written) == [text]
    assert len(dockerfile(text).splitlines()) == 1
    assert len(md(text).splitlines()) <= 1


@given(VALUES)
def test_yaml_reads_back(value: object) -> None:
    assert json.loads(yaml(value)) == value


@pytest.mark.parametrize("text", ["a b\nRUN id", "$(id)", "a;b", "", "a  b", 'x"'])
def test_a_bare_word_is_refused_where_it_could_be_more(text: str) -> None:
    with pytest.raises(UnsafeValueError):
        word(text)


def rendered(tmp_path: Path, template: str, user: str | None = None, **values: object) -> str:
    (tmp_path / "built_in").mkdir()
    (tmp_path / "built_in/t.j2").write_text(template)
    if user is not None:
        (tmp_path / "user").mkdir()
        (tmp_path / "user/t.j2").write_text(user)
    return environment(tmp_path / "built_in", tmp_path / "user").get_template("t.j2").render(values)


def test_a_value_without_a_filter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeValueError, match="passed no filter"):
        rendered(tmp_path, "{{ name }}", name="x")


@pytest.mark.parametrize(
    "expression",
    ["name | py ~ name", "name | upper", "3", "(name | py) + name", "[name] | join", "(name | py) % name"],
)
def test_text_put_together_after_a_filter_is_refused_again(tmp_path: Path, expression: str) -> None:
    with pytest.raises((UnsafeValueError, TypeError, TemplateError)):
        rendered(tmp_path, "{{ " + expression + " }}", name="x")


@pytest.mark.parametrize("name", ["safe", "tojson", "format", "replace", "forceescape", "xmlattr"])
def test_filters_of_jinja_that_make_text_are_gone(tmp_path: Path, name: str) -> None:
    with pytest.raises(TemplateError, match="No filter named"):
        rendered(tmp_path, "{{ x | " + name + " }}", x="x")


def test_an_unknown_variable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TemplateError, match="'nothing' is undefined"):
        rendered(tmp_path, "{{ nothing }}")


@pytest.mark.parametrize(
    "attack", ["''.__class__.__mro__", "x.append(1)", "x.__class__", "lipsum.__globals__", "cycler.__init__"]
)
def test_the_sandbox_holds(tmp_path: Path, attack: str) -> None:
    with pytest.raises((SecurityError, TemplateError, UnsafeValueError)):
        rendered(tmp_path, "{{ (" + attack + ") | py }}", x=[1])


def test_a_users_template_extends_the_built_in_one(tmp_path: Path) -> None:
    built_in = "a = {{ x | py }}\n{% block more %}\nb = 1\n{% endblock %}\n"
    user = '{% extends "!builtin/t.j2" %}\n{% block more %}\n{{ super() }}c = {{ x | py }}\n{% endblock %}\n'
    assert rendered(tmp_path, built_in, user, x="v") == 'a = "v"\nb = 1\nc = "v"\n'


def test_macros_give_finished_text(tmp_path: Path) -> None:
    template = "{% macro pair(k, v) %}{{ k | py }}: {{ v | py }}{% endmacro %}{{ pair('a', x) }}"
    assert rendered(tmp_path, template, x=1) == '"a": 1'


def test_compiled_templates_are_kept(tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("{{ x | py }}")
    for _ in range(2):
        made = environment(tmp_path, cache=tmp_path / "cache")
        assert made.get_template("t.j2").render(x=1) == "1"
    assert len(list((tmp_path / "cache").rglob("*.cache"))) == 1


def test_shapes_see_code_and_not_values() -> None:
    assert python_shape("a = 'x'\n") == python_shape('a = \'y"""\'\n')
    assert python_shape("a = 'x'\n") != python_shape("a = 'x'; import os\n")
    assert python_shape("a = 'x'  # c\n") != python_shape("a = 'x'  # c\n\n")
    assert dockerfile_shape("ENV A=1 \\\n  B=2\n") == dockerfile_shape('ENV A="x"\n')
    assert dockerfile_shape("ENV A=1\n") != dockerfile_shape("ENV A=1\nRUN id\n")
    assert line_shape("# a\ntext\n") == line_shape("# b\nother\n")
    assert line_shape("# a\ntext\n") != line_shape("# a\n```\n")
    assert shape("Dockerfile", "FROM x") == ("FROM",)


def test_safe_is_text() -> None:
    assert isinstance(Safe("x"), str)


def test_the_readme_hands_variables_that_must_be_set_on_to_a_container(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    service = "service: {auth: {api_key_env: SERVICE_KEY}, env: [{name: REGION}, {name: MODE, value: a}]}\n"
    files = built(project, with_spec(project, (project / "specs/chat.yaml").read_text() + service))
    readmes = [text.decode() for path, text in files.items() if path.endswith("/README.md")]
    commands = [line for text in readmes for line in text.splitlines() if line.startswith("docker run")]
    assert commands
    for command in commands:
        assert ':/models:ro" -e REGION -e SERVICE_KEY ' in command
        assert "-e MODE" not in command
