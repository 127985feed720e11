"""Pipelines of models, compiled and served: what flows from stage to stage, and what doesn't fit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from compiled import compiled, outputs, runtime_of, serving
from mlspec import pipeline
from mlspec.diagnostics import Report
from projects import example, surroundings, with_spec

WORDS = """
    import numpy as np
    import threading

    CALLS = []

    class Embedder:
        \"\"\"A text to how often it has each of four letters.\"\"\"
        def predict(self, inputs):
            CALLS.append(len(inputs["text"]))
            rows = [[text.count(letter) for letter in "abcd"] for text in inputs["text"].tolist()]
            return {"vector": np.array(rows, dtype=np.float32)}

    class Ranker:
        \"\"\"How near a vector is to that of a query.\"\"\"
        def load(self, artifacts):
            self.weight = float((artifacts / "weight.txt").read_text())
        def predict(self, inputs):
            query = np.array([[text.count(letter) for letter in "abcd"] for text in inputs["query"].tolist()])
            if (query.sum(axis=1) == 0).any():
                raise ValueError("an empty query")
            return {"score": (inputs["vector"] * query).sum(axis=1) * self.weight}
        def memory_bytes(self):
            return {}
"""
SEARCH = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: search, project: example}
model:
  runner: pipeline
  stages:
    - name: embedder
      model:
        runner: python
        module: words.py
        class: Embedder
        inputs: [{name: text, dtype: string, shape: [batch]}]
        outputs: [{name: vector, shape: [batch, 4]}]
      post: [{step: l2_normalize, input: vector, output: embedding}]
    - name: ranker
      inputs: {vector: embedder.embedding}
      model:
        runner: python
        module: words.py
        class: Ranker
        artifacts: {path: weights}
        inputs: [{name: vector, shape: [rows, 4]}, {name: query, dtype: string, shape: [rows]}]
        outputs: [{name: score, shape: [rows]}]
  inputs: [{name: text, dtype: string, shape: [batch]}, {name: query, dtype: string, shape: [batch]}]
targets: [{name: linux, platform: linux, machine: {memory_gb: 8, cpus: 4}}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    example(tmp_path)
    (tmp_path / "words.py").write_text("\n".join(line[4:] for line in WORDS.splitlines()))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/weight.txt").write_text("2")
    return tmp_path


def told(project: Path, text: str) -> list[tuple[str, str]]:
    """Code and message of all that is wrong with a spec."""
    report = Report()
    pipeline.check([with_spec(project, text)], surroundings(project), report)
    return [(found.code, found.message) for found in report]


def changed(old: str, new: str) -> str:
    assert SEARCH.count(old) == 1
    return SEARCH.replace(old, new)


def test_the_example_finds_spots_and_tells_their_shapes(project: Path) -> None:
    text = (project / "specs/spots.yaml").read_text().replace("  - {name: mac, platform: macos}\n", "")
    bundle = compiled(project, with_spec(project, text))
    ring = [[1] * 8, [1] * 8, *[[1, 1, 0, 0, 0, 0, 1, 1]] * 4, [1] * 8, [1] * 8]
    image = [[*row, 0, 0, *row, 0, *([1] * 8)] for row in ring]

    async def check() -> None:
        async with serving(bundle) as service:
            found = await outputs(service, image=image)
            assert found == {"boxes": [[0, 0, 8, 8], [0, 10, 8, 18], [0, 19, 8, 27]], "shape": [1, 1, 0]}
            assert await outputs(service, image=[[0] * 9] * 4) == {"boxes": [], "shape": []}

    asyncio.run(check())


def test_an_embedder_and_a_ranker(project: Path) -> None:
    bundle = compiled(project, with_spec(project, SEARCH))

    async def check() -> None:
        async with serving(bundle) as service:
            found = await outputs(service, text=["aab", "ccdd"], query=["a", "cd"])
            assert found["score"] == pytest.approx([2 * 2 / 5**0.5, 2 * 4 / 8**0.5])
            empty = await service.client.post("/predict", json={"inputs": {"text": [], "query": []}})
            assert (empty.status_code, empty.json()["error"]["field"]) == (422, "inputs.text")

    asyncio.run(check())


def test_a_stage_that_fails_or_gives_something_else(project: Path) -> None:
    wrong = "return {'score': inputs['vector']}"
    code = (project / "words.py").read_text()
    (project / "words.py").write_text(code.replace("if (query", f"if query.sum() == 99: {wrong}\n        if (query"))
    bundle = compiled(project, with_spec(project, SEARCH))

    async def check() -> None:
        async with serving(bundle) as service:
            ask = service.client.post
            failed = await ask("/predict", json={"inputs": {"text": ["a"], "query": [""]}})
            assert (failed.status_code, failed.json()["error"]["code"]) == (500, "model_error")
            other = await ask("/predict", json={"inputs": {"text": ["a"], "query": ["a" * 99]}})
            error = other.json()["error"]
            assert (other.status_code, error["code"]) == (500, "bad_output")
            assert "the stage ranker" in error["message"]
            assert "wants float32[rows]" in error["message"]

    asyncio.run(check())


def test_rows_of_requests_go_through_all_stages_together(project: Path) -> None:
    """With predict of whole batches, as the runner `python` has it only if the spec says so, and a slow first stage."""
    code = (project / "words.py").read_text().replace("CALLS.append", "import time; time.sleep(0.2); CALLS.append")
    (project / "words.py").write_text(code)
    text = SEARCH + "service: {batching: {max_rows: 8}}\n"
    bundle = compiled(project, with_spec(project, text))
    settings = runtime_of(bundle)["runner"]["settings"]
    assert settings["batching"]["max_rows"] == 8

    async def check() -> None:
        async with serving(bundle) as service:
            texts = ["a" * n for n in range(1, 8)]
            asked = [outputs(service, text=[text], query=["b" if text == "aaa" else "a"]) for text in texts]
            found = await asyncio.gather(*asked)
            assert [each["score"] for each in found] == [[0.0 if text == "aaa" else 2.0] for text in texts]
            calls = service.runner._computing.model._stages[0].model._instance.predict.__globals__["CALLS"]
            assert sum(calls) == 7
            assert len(calls) < 7

    asyncio.run(check())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "      inputs: {vector: embedder.embedding}\n",
            "      inputs: {vector: embedder.embedding}\n      pre: [{step: function, module: words.py, name: cut, "
            "inputs: [{name: vector, shape: [b, 4]}, {name: query, dtype: string, shape: [b]}]}]\n",
        ),
        ("outputs: [{name: vector, shape: [batch, 4]}]", "outputs: [{name: vector, shape: [found, 4]}]"),
    ],
    ids=["a function may mix rows", "rows that are made of others"],
)
def test_requests_stay_apart_where_rows_do_not(project: Path, old: str, new: str) -> None:
    with (project / "words.py").open("a") as file:
        file.write("\ndef cut(arrays):\n    return arrays\n")
    bundle = compiled(project, with_spec(project, changed(old, new) + "service: {batching: {max_rows: 8}}\n"))
    assert runtime_of(bundle)["runner"]["settings"]["batching"]["max_rows"] == 1


def test_each_stages_models_are_named_by_it(project: Path) -> None:
    bundle = compiled(project, with_spec(project, SEARCH))
    block = runtime_of(bundle)
    assert [model["role"] for model in block["models"]] == ["ranker/artifacts"]
    assert (bundle / "models/ranker/artifacts/weight.txt").read_text() == "2"
    stages = block["runner"]["settings"]["model"]["stages"]
    assert [stage["takes"] for stage in stages] == [
        {"text": "text"},
        {"vector": "embedder.embedding", "query": "query"},
    ]
    plan = json.loads((bundle / "plan.json").read_text())
    assert [part["name"] for part in plan["memory"]["parts"]] == ["ranker: artifacts"]
    assert (bundle / "user/words.py").is_file()
    assert (bundle / "mlspec_runtime/runners/pipeline/runtime_stage.py").is_file()
    assert (bundle / "mlspec_runtime/runners/python/runtime.py").is_file()


def test_a_pipeline_in_a_pipeline(project: Path) -> None:
    inner = SEARCH[SEARCH.index("  runner: pipeline") : SEARCH.index("targets:")]
    indented = "\n".join(f"      {line}" for line in inner.splitlines())
    text = f"""
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: outer, project: example}}
model:
  runner: pipeline
  stages:
    - name: inner
      model:
{indented}
      post: [{{step: sigmoid, input: score}}]
targets: [{{name: linux, platform: linux}}]
"""
    bundle = compiled(project, with_spec(project, text))
    assert [model["role"] for model in runtime_of(bundle)["models"]] == ["inner/ranker/artifacts"]

    async def check() -> None:
        async with serving(bundle) as service:
            found = await outputs(service, text=["a"], query=["b"])
            assert found == {"score": [0.5]}

    asyncio.run(check())


STAGE = "model.stages[1].model"


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("class: Ranker", "clas: Ranker", "unknown-key", f"'clas' is not a key of {STAGE}"),
        ("        class: Ranker\n", "", "missing-key", f"{STAGE} lacks the key 'class'"),
        ("artifacts: {path: weights}", "artifacts: {}", "model-source", f"{STAGE}.artifacts gives none"),
        ("artifacts: {path: weights}", "artifacts: {path: wights}", "model-not-found", "there is no folder 'wights'"),
        ("class: Ranker", "class: class", "bad-identifier", "'class' is a word of the Python language"),
        ("embedder.embedding}", "embedder.embeding}", "bad-stage", "nothing before it is called 'embedder.embeding'"),
        ("inputs: {vector: embedder.embedding}", "inputs: {vectors: text}", "bad-stage", "has no input 'vectors'"),
        ("embedder.embedding}", "text}", "bad-stage", "'text' is string[batch]; wanted is float32[rows, 4]"),
        ("  inputs: [{name: text, dtype: string, shape: [batch]}, {name: query, dtype: string, shape: [batch]}]\n", "",
         "bad-stage", "nothing before it is called 'query'"),
        ("name: vector, shape: [rows, 4]", "name: vector, shape: [rows, 5]", "bad-stage", "whose dimension 1 is 5"),
        ("input: vector, output", "input: vectr, output", "bad-step", "there is no array 'vectr'"),
        ("step: l2_normalize", "step: l2_normalise", "unknown-value", "can't be 'l2_normalise'"),
        ("class: Ranker", "class: Rankr", "name-missing", "words.py has no class 'Rankr'"),
        ("post: [{step", "pre: [{step: function, module: words.py, name: f}]\n      post: [{step", "name-missing",
         "words.py has no function 'f'"),
        ("name: ranker", "name: embedder", "duplicate-name", "have the name 'embedder'"),
        ("targets:", "  outputs: [{name: scor, shape: [batch]}]\ntargets:", "bad-stage", "no stage gives 'scor'"),
        ("targets:", "  outputs: [{name: score, dtype: int8, shape: [batch]}]\ntargets:", "bad-stage", "is float32"),
        ("targets:", "  x-a: 1\n  outputs: [{name: vector, shape: [b, 4]}]\ntargets:", "bad-stage", "gives 'vector'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(project: Path, old: str, new: str, code: str, message: str) -> None:
    ((said, text), *more) = told(project, changed(old, new))
    assert not more
    assert said == code
    assert message in text


def test_an_input_that_no_stage_takes(project: Path) -> None:
    text = changed("\n  inputs: [{", "\n  inputs: [{name: more, shape: []}, {")
    assert told(project, text) == [("bad-stage", "no stage takes the input 'more'")]


def test_a_language_model_is_no_stage(project: Path) -> None:
    stage = "\n    - {name: chat, model: {runner: mlx-lm, base: {path: specs/models/tiny}}}\n  inputs: [{"
    found = told(project, changed("\n  inputs: [{", stage))
    assert found == [("bad-stage", "the runner 'mlx-lm' can't be a stage: it serves no arrays")]


def test_stages_agree_on_the_versions_of_packages(project: Path) -> None:
    both = changed("class: Embedder", "class: Embedder\n        requirements: [einops==0.8.1]")
    both = both.replace("class: Ranker", "class: Ranker\n        requirements: [einops==0.8.0]")
    ((code, message),) = told(project, both)
    assert code == "requirements-conflict"
    assert "the stage 'embedder' pins einops==0.8.1, this one einops==0.8.0" in message


def test_a_lock_stands_for_models_that_are_not_here(project: Path) -> None:
    from mlspec.cli import main

    with_spec(project, SEARCH)
    arguments: list[Any] = ["lock", str(project / "spec.yaml")]
    assert main(arguments) == 0
    locked = compiled(project, project / "spec.yaml")
    before = (locked / "plan.json").read_bytes()
    (project / "weights/weight.txt").unlink()
    (project / "weights").rmdir()
    assert (compiled(project, project / "spec.yaml") / "plan.json").read_bytes() == before
