"""Steps of a service from the spec to the answers: what requests hold, what they get, and whose rows are whose."""

from __future__ import annotations

import asyncio
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from compiled import compiled, outputs, runtime_of, serving
from mlspec import pipeline
from mlspec.diagnostics import Report
from projects import example, surroundings, with_spec

CODE = """
    import time

    import numpy as np

    from mlspec_runtime.errors import ServiceError


    class Letters:
        def predict(self, inputs):
            time.sleep(0.1)
            counts = inputs["counts"]
            return {"logits": counts[:, :3] - counts[:, 1:]}


    def counted(arrays):
        texts = arrays["text"].tolist()
        if "?" in texts:
            raise ServiceError("no_letters", "inputs.text: a question has no letters", 422, field="inputs.text")
        return {"counts": [[text.count(letter) for letter in "abcd"] for text in texts]}


    def ranked(arrays):
        order = np.argsort(-arrays["logits"][:, 0], kind="stable")
        return {"best": np.array([order[0] if len(order) else -1]), "rows": len(order)}
"""
SPEC = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: letters, project: example}
model:
  runner: python
  module: letters.py
  class: Letters
  inputs: [{name: counts, shape: [batch, 4]}]
  outputs: [{name: logits, shape: [batch, 3], labels: [a, b, c]}]
service:
  batching: {max_rows: 32}
  pre:
    - {step: function, module: letters.py, name: counted}
  inputs: [{name: text, dtype: string, shape: [batch]}]
  post:
POST
targets: [{name: linux, platform: linux}]
"""


def bundle(project: Path, post: str) -> Path:
    example(project)
    (project / "letters.py").write_text(textwrap.dedent(CODE))
    return compiled(project, with_spec(project, SPEC.replace("POST", textwrap.indent(textwrap.dedent(post), "    "))))


def test_texts_in_and_labels_out(tmp_path: Path) -> None:
    post = """
        - {step: softmax, input: logits, output: probabilities, keep: true}
        - {step: argmax, input: logits, output: letter, keep: true}
        - {step: labels, input: letter, output: name, keep: true}
        - {step: rename, names: {logits: scores}}
    """
    built = bundle(tmp_path, post)

    async def check() -> None:
        async with serving(built) as service:
            response = await service.client.post("/predict", json={"inputs": {"text": ["aab", "bcc"]}})
            body = response.json()
            assert body["labels"]["letter"] == ["a", "c"]
            found = body["outputs"]
            assert (found["scores"], found["letter"], found["name"]) == ([[1, 1, 0], [-1, -1, 2]], [0, 2], ["a", "c"])
            assert [sum(row) for row in found["probabilities"]] == pytest.approx([1, 1])
            wrong = await service.client.post("/predict", json={"inputs": {"text": ["a", "?"]}})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "inputs.text")
            assert (await service.client.post("/predict", json={"inputs": {"counts": [[1]]}})).status_code == 422

    asyncio.run(check())


def test_a_function_after_the_model_sees_one_request(tmp_path: Path) -> None:
    post = """
        - {step: function, module: letters.py, name: ranked, outputs: [{name: best, dtype: int64, shape: [one]},
           {name: rows, dtype: int64, shape: []}]}
    """
    built = bundle(tmp_path, post)

    async def check() -> None:
        async with serving(built) as service:
            texts = [["a"] * n + ["aa"] for n in range(6)]
            found = await asyncio.gather(*(outputs(service, text=text) for text in texts))
            assert found == [{"best": [n], "rows": n + 1} for n in range(6)]
            calls = service.runner.vitals().calls
            assert sum(call.requests for call in calls) == 6
            assert sum(call.calls for call in calls) < 6

    asyncio.run(check())


def test_requests_and_documents_follow_from_the_steps(tmp_path: Path) -> None:
    block = runtime_of(bundle(tmp_path, "- {step: argmax, input: logits, output: letter}"))
    asked = block["runner"]["settings"]["requests"]
    assert asked == {
        "inputs": [{"name": "text", "dtype": "string", "shape": ["batch"]}],
        "outputs": [{"name": "letter", "dtype": "int64", "shape": ["batch"], "labels": ["a", "b", "c"]}],
    }
    assert (tmp_path / "build/example/letters/linux/user/letters.py").is_file()


STEPS = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: words, project: example}
model:
  runner: python
  module: letters.py
  class: Letters
  INPUTS
  outputs: [{name: logits, shape: [batch, 3]}]
service:
  pre: [STEP]
targets: [{name: linux, platform: linux}]
"""


@pytest.mark.parametrize(
    ("inputs", "step", "package"),
    [
        (
            "inputs: [{name: input_ids, dtype: int64, shape: [batch, 8]}]",
            "{step: tokenize, tokenizer: t.json}",
            "tokenizers",
        ),
        ("inputs: [{name: x, shape: [batch, 8, 8]}]", "{step: resize, input: x}", "pillow"),
    ],
)
def test_what_steps_import_is_in_the_requirements(tmp_path: Path, inputs: str, step: str, package: str) -> None:
    example(tmp_path)
    (tmp_path / "letters.py").write_text(textwrap.dedent(CODE))
    (tmp_path / "t.json").write_text("{}")
    text = STEPS.replace("INPUTS", inputs).replace("STEP", step)
    built = compiled(tmp_path, with_spec(tmp_path, text))
    assert any(line.startswith(f"{package}==") for line in (built / "requirements.txt").read_text().splitlines())
    without = STEPS.replace("INPUTS", inputs).replace("  pre: [STEP]", "  concurrency: 2")
    built = compiled(tmp_path, with_spec(tmp_path, without))
    assert not any(line.startswith(f"{package}==") for line in (built / "requirements.txt").read_text().splitlines())


def test_a_language_model_has_no_steps(tmp_path: Path) -> None:
    example(tmp_path)
    text = (tmp_path / "specs/chat.yaml").read_text() + "\nservice: {post: [{step: softmax, input: x}]}\n"
    report = Report()
    pipeline.check([with_spec(tmp_path, text)], surroundings(tmp_path), report)
    assert "unknown-key" in [found.code for found in report]


def test_the_same_steps_give_the_same_plan(tmp_path: Path) -> None:
    built = bundle(tmp_path, "- {step: top_k, input: logits, k: 2}")
    first: Any = json.loads((built / "plan.json").read_text())
    again: Any = json.loads((bundle_again(tmp_path) / "plan.json").read_text())
    assert first == again


def bundle_again(project: Path) -> Path:
    return compiled(project, project / "spec.yaml")
