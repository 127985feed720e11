"""/v1/embeddings over HTTP, with a class of the user's own that makes vectors of texts."""

from __future__ import annotations

import asyncio
import base64
import struct
import textwrap
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI, BadRequestError, NotFoundError, UnprocessableEntityError

from mlspec_runtime.plan import PlanError
from runtime.bundles import limits
from runtime.services import Service, running

CODE = """
    import numpy as np

    class Lengths:
        def predict(self, inputs):
            texts = inputs["text"]
            if "fail" in texts.tolist():
                raise RuntimeError("secret")
            return {"embedding": np.array([[len(t), sum(map(ord, t)) / 1000, 0.1] for t in texts], np.float32)}
"""
TEXT = {"name": "text", "dtype": "string", "shape": ["batch"]}
VECTOR = {"name": "embedding", "dtype": "float32", "shape": ["batch", 3]}
ENDPOINTS = ["predict", "batch", "embeddings"]


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


@asynccontextmanager
async def serving(
    bundle: Path, inputs: tuple[Any, ...] = (TEXT,), outputs: tuple[Any, ...] = (VECTOR,), **changes: Any
) -> AsyncIterator[Service]:
    (bundle / "user").mkdir()
    (bundle / "user" / "lengths.py").write_text(textwrap.dedent(CODE))
    signature = {"inputs": list(inputs), "outputs": list(outputs)}
    own = {"module": "user/lengths.py", "class": "Lengths"}
    settings = {"model": own, **signature, "requests": signature}
    runner = {"name": "python", "module": "mlspec.runners.python.runtime", "settings": settings}
    parts = {"runner": runner, "task": "embed", "endpoints": ENDPOINTS, "limits": limits(max_batch=4), **changes}
    async with running(bundle, **parts) as service:
        yield service


def vector(text: str) -> list[float]:
    return [len(text), sum(map(ord, text)) / 1000, 0.1]


def client(service: Service) -> AsyncOpenAI:
    """OpenAI's own client, over the application in this process."""
    return AsyncOpenAI(base_url="http://service/v1", api_key="none", http_client=service.client, max_retries=0)


def test_openais_client_gets_vectors(tmp_path: Path) -> None:
    async def ask() -> None:
        async with serving(tmp_path) as service:
            found = await client(service).embeddings.create(model="demo", input=["short", "a longer text"])
            assert [one.index for one in found.data] == [0, 1]
            assert found.data[0].embedding == pytest.approx(vector("short"))
            assert found.data[1].embedding == pytest.approx(vector("a longer text"))
            assert (found.object, found.model, found.usage.prompt_tokens) == ("list", "demo", 0)
            alone = await client(service).embeddings.create(model="demo", input="short", encoding_format="float")
            assert alone.data[0].embedding == pytest.approx(vector("short"))
            assert [model.id for model in (await client(service).models.list()).data] == ["demo"]
            assert (await client(service).models.retrieve("demo")).owned_by == "tests"

    go(ask())


def test_numbers_are_written_as_float32_in_base64(tmp_path: Path) -> None:
    async def ask() -> None:
        async with serving(tmp_path) as service:
            body = {"input": "x", "encoding_format": "base64", "model": None, "user": "u", "unknown": 1}
            answer = await service.client.post("/v1/embeddings", json=body)
            assert answer.status_code == 200, answer.text
            data = base64.b64decode(answer.json()["data"][0]["embedding"])
            assert struct.unpack("<3f", data) == pytest.approx(vector("x"))

    go(ask())


@pytest.mark.parametrize(
    ("body", "status", "field", "told"),
    [
        ({}, 422, "input", "Field required"),
        ({"input": []}, 422, "input", "at least 1"),
        ({"input": ""}, 422, "input.0", "at least 1"),
        ({"input": ["a", ""]}, 422, "input.1", "at least 1"),
        ({"input": [1, 2]}, 422, "input", "token ids are not taken"),
        ({"input": [[1, 2]]}, 422, "input", "token ids are not taken"),
        ({"input": {"a": 1}}, 422, "input", "list"),
        ({"input": ["x"] * 5}, 422, "input", "5 texts; 4 are taken at once"),
        ({"input": "x", "dimensions": 2}, 422, "dimensions", "have 3, and no other number"),
        ({"input": "x", "dimensions": 0}, 422, "dimensions", "greater than or equal to 1"),
        ({"input": "x", "encoding_format": "hex"}, 422, "encoding_format", "'float' or 'base64'"),
        ({"input": "x", "model": "other"}, 404, "model", "no such model here, but 'demo'"),
        ({"input": "fail"}, 500, None, "the model's code failed"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, body: dict[str, Any], status: int, field: str, told: str) -> None:
    async def ask() -> None:
        async with serving(tmp_path) as service:
            answer = await service.client.post("/v1/embeddings", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error.get("field"), error["operation"]) == (status, field, "embeddings")
            assert told in error["message"]
            assert "secret" not in answer.text

    go(ask())


def test_openais_client_raises_its_own_errors(tmp_path: Path) -> None:
    async def ask() -> None:
        async with serving(tmp_path) as service:
            with pytest.raises(NotFoundError):
                await client(service).embeddings.create(model="other", input="x")
            with pytest.raises(UnprocessableEntityError) as problem:
                await client(service).embeddings.create(model="demo", input=["x"] * 9)
            assert isinstance(problem.value.body, dict)
            assert problem.value.body["param"] == "input"
            with pytest.raises(BadRequestError):
                await client(service).post("/embeddings", cast_to=object, content=b"{")

    go(ask())


def test_equal_dimensions_are_taken(tmp_path: Path) -> None:
    async def ask() -> None:
        async with serving(tmp_path, outputs=({**VECTOR, "shape": ["batch", "any"]},)) as service:
            for dimensions, status in ((3, 200), (2, 422)):
                body = {"input": "x", "dimensions": dimensions}
                assert (await service.client.post("/v1/embeddings", json=body)).status_code == status

    go(ask())


def test_the_document_describes_it_and_its_examples_work(tmp_path: Path) -> None:
    async def ask() -> None:
        async with serving(tmp_path) as service:
            document = (await service.client.get("/docs.json")).json()
            operation = document["paths"]["/v1/embeddings"]["post"]
            examples = operation["requestBody"]["content"]["application/json"]["examples"]
            schema = {**operation["responses"]["200"]["content"]["application/json"]["schema"], **document}
            assert set(examples) == {"several", "base64"}
            for example in examples.values():
                answer = await service.client.post("/v1/embeddings", json=example["value"])
                assert answer.status_code == 200, answer.text
                Draft202012Validator(schema).validate(answer.json())

    go(ask())


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((TEXT, {"name": "n", "dtype": "float32", "shape": ["batch"]}), (VECTOR,)),
        (({**TEXT, "dtype": "float32"},), (VECTOR,)),
        (({**TEXT, "shape": ["batch", 2]},), (VECTOR,)),
        (({**TEXT, "shape": []},), (VECTOR,)),
        ((TEXT,), ({**VECTOR, "dtype": "int64"},)),
        ((TEXT,), ({**VECTOR, "shape": ["batch"]},)),
        ((TEXT,), (VECTOR, {**VECTOR, "name": "other"})),
    ],
)
def test_a_service_of_something_else_has_no_such_endpoint(tmp_path: Path, inputs: Any, outputs: Any) -> None:
    async def ask() -> None:
        with pytest.raises(PlanError, match="doesn't make one vector of one text"):
            async with serving(tmp_path, inputs, outputs):
                pass

    go(ask())
