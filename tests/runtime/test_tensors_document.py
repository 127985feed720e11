"""docs/tensors.md shows what is so: its service is built, each of its calls is made, and the answers are those."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from projects import built, example, with_spec
from runtime.services import running

DOCUMENT = (Path(__file__).parents[2] / "docs/tensors.md").read_text(encoding="utf-8")
SPEC = re.findall(r"^```yaml\n(apiVersion: .*?)^```$", DOCUMENT, re.M | re.S)[0]
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```sh\n(curl .*?)^```\n\n^```json\n(.*?)^```$", DOCUMENT, re.M | re.S)
CALL = re.compile(
    r"curl -s http://127\.0\.0\.1:3000(?P<path>\S+) -H '(?P<header>[^']*)' \\\n"
    r"  (?:-d|--data-binary) (?P<dollar>\$?)'(?P<body>[^']*)'\n"
)
VARYING = {"request_id", "timings"}


def steady(value: Any) -> Any:
    """A JSON value without what is another one each time."""
    if not isinstance(value, dict):
        return value
    return {key: "…" if key in VARYING else steady(part) for key, part in value.items()}


async def called(client: httpx.AsyncClient, command: str) -> Any:
    call = CALL.fullmatch(command)
    assert call is not None, command
    name, _, value = call["header"].partition(": ")
    body = call["body"].encode().decode("unicode_escape") if call["dollar"] else call["body"]
    return (await client.post(call["path"], content=body, headers={name: value})).json()


def service_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The document's service: its bundle, and the plan's block, with the runner's module where it lies here."""
    project = example(folder / "project")
    built(project, with_spec(project, SPEC))
    (plan,) = project.glob("build/**/plan.json")
    block = json.loads(plan.read_text())["runtime"]
    block["runner"]["module"] = block["runner"]["module"].replace("mlspec_runtime", "mlspec")
    # Arguments of `running` by another meaning.
    del block["environment"], block["tracing"]
    return plan.parent, block


def test_the_document_has_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_answers_of_the_document_are_those_that_come(tmp_path: Path, command: str, shown: str) -> None:
    async def check() -> Any:
        bundle, block = service_of(tmp_path)
        async with running(bundle, **block) as service:
            return await called(service.client, command)

    assert steady(asyncio.run(check())) == steady(json.loads(shown))


def test_what_requests_need_is_in_the_requirements(tmp_path: Path) -> None:
    bundle, _ = service_of(tmp_path)
    lines = (bundle / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("pyarrow==") for line in lines)
    assert not any(line.startswith("pillow==") for line in lines)
