"""The pages for people: complete, safe, and with nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape

import pytest

from mlspec_runtime.endpoints.docs_page import PATHS
from runtime.services import running
from runtime.test_app import go

AUTH = {"api_key_env": "DEMO_KEYS"}
_LOADED = re.compile(r"""(?:src|href)="([^"]+)\"""")


def test_docs_loads_its_own_files_alone() -> None:
    async def check() -> None:
        async with running() as service:
            page = await service.client.get("/docs")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert not re.search(r"<script>|<style|\son\w+=", page.text)
            files = [found for found in _LOADED.findall(page.text) if found != "data:,"]
            assert len(files) == 3
            for file in files:
                assert not re.match(r"[a-z]+:|//", file)
                assert (await service.client.get("/" + file)).status_code == 200

    go(check())


@pytest.mark.parametrize(
    ("path", "media_type", "begins"),
    [
        ("/docs/swagger-ui.css", "text/css; charset=utf-8", ".swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8", "/*! For license"),
        ("/docs/start.js", "text/javascript; charset=utf-8", "SwaggerUIBundle({"),
    ],
)
def test_its_files_are_what_they_say(path: str, media_type: str, begins: str) -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.get(path)
            assert response.headers["content-type"] == media_type
            assert response.headers["x-content-type-options"] == "nosniff"
            assert begins in response.text[:200]

    go(check())


@pytest.mark.parametrize("path", ["/docs/../app.py", "/docs/%2e%2e/main.py", "/docs/main.py", "/docs/"])
def test_there_are_no_other_files(path: str) -> None:
    async def check() -> None:
        async with running() as service:
            assert (await service.client.get(path)).status_code == 404

    go(check())


def test_a_key_that_was_typed_in_is_not_kept() -> None:
    async def check() -> None:
        async with running() as service:
            start = (await service.client.get("/docs/start.js")).text
            assert "persistAuthorization: false" in start
            assert "validatorUrl: null" in start

    go(check())


def test_the_page_lists_what_the_service_has_and_no_more() -> None:
    async def check() -> None:
        async with running(endpoints=["predict"]) as service:
            text = (await service.client.get("/")).text
            for path in ("/predict", "/health", "/metrics", "/docs", "/docs.json"):
                assert f"{path}<" in text
            assert "/predict/stream" not in text
            assert "$KEY" not in text

    go(check())


@pytest.mark.parametrize("auth", [None, AUTH])
def test_its_calls_can_be_pasted(auth: dict[str, str] | None) -> None:
    async def check() -> None:
        async with running(auth=auth, environment={"DEMO_KEYS": "good-key-1"}) as service:
            text = (await service.client.get("/")).text
            calls = [shlex.split(unescape(call)) for call in re.findall("<pre>(.*?)</pre>", text)]
            assert [call[2] for call in calls] == ["service/predict", "service/predict/stream"]
            for call in calls:
                given = [call[at + 1] for at, word in enumerate(call) if word == "-H"]
                headers = dict(header.replace("$KEY", "good-key-1").split(": ") for header in given)
                body = json.loads(call[call.index("-d") + 1])
                response = await service.client.post("/" + call[2].partition("/")[2], json=body, headers=headers)
                assert response.status_code == 200

    go(check())


def test_a_host_of_the_clients_choice_is_text() -> None:
    async def check() -> None:
        async with running() as service:
            headers = {"Host": "a';<script>alert(1)</script>"}
            text = (await service.client.get("/", headers=headers)).text
            assert "<script" not in text

    go(check())


def test_behind_tls_its_calls_are_too() -> None:
    async def check() -> None:
        async with running() as service:
            text = (await service.client.get("https://models.example.com/")).text
            assert "https://models.example.com/predict" in text

    go(check())


def test_each_path_has_an_operation_for_the_metrics() -> None:
    async def check() -> None:
        async with running() as service:
            for path, operation in PATHS.items():
                before = service.value(f'mlspec_requests_total{{endpoint="{operation}",status="200"}}')
                assert (await service.client.get(path)).status_code == 200
                assert service.value(f'mlspec_requests_total{{endpoint="{operation}",status="200"}}') == before + 1

    go(check())
