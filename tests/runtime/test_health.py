"""What /health tells, and when it is red for want of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.memory_watch import LASTING_LOOKS, MemoryWatch
from mlspec_runtime.protocol import Vitals
from runtime.bundles import planned_model
from runtime.services import running


def looked(*sizes: Mapping[str, int]) -> MemoryWatch:
    watch = MemoryWatch()
    for size in sizes:
        watch.look(size)
    return watch


NEAR = {"active": 980, "cache": 0, "limit": 1000}
CALM = {"active": 960, "cache": 40, "limit": 1000}


def test_memory_near_the_limit_for_some_looks_is_told() -> None:
    with pytest.raises(ServiceError) as caught:
        looked(*[NEAR] * LASTING_LOOKS).check()
    assert (caught.value.code, caught.value.status) == ("memory_near_limit", 503)
    assert "980 of 1000 bytes" in caught.value.message


@pytest.mark.parametrize(
    "sizes",
    [(), (NEAR,), (NEAR, CALM), (NEAR, CALM, NEAR), [{"active": 5}] * 3, [{"active": 5, "limit": 0}] * 3, [{}] * 3],
)
def test_a_peak_a_kept_buffer_or_no_limit_is_no_trouble(sizes: tuple[Mapping[str, int], ...]) -> None:
    looked(*sizes).check()


def test_health_tells_of_memory_and_of_the_models_version(tmp_path: Path) -> None:
    folder = tmp_path / "bundle/models/base"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights")
    models = [{**planned_model("base", folder), "content": "c0ffee"}]

    async def check() -> None:
        async with running(tmp_path / "bundle", models=models) as service:
            service.model.heat.look()
            health = (await service.client.get("/health")).json()
            assert health["status"] == "ok"
            assert health["memory"] == {"active_bytes": 1024}
            assert health["models"] == {"base": "c0ffee"}

    asyncio.run(check())


def test_what_the_build_made_of_a_model_has_its_own_version() -> None:
    derived = {"role": "base", "source": {"path": "x"}, "files": [], "content": "c0ffee", "derived": {"key": "k1"}}

    async def check() -> None:
        async with running(models=[derived], wait=False) as service:
            assert service.model.content == {"base": "k1"}

    asyncio.run(check())


def test_health_is_red_while_memory_is_near_its_limit() -> None:
    async def check() -> None:
        async with running() as service:
            held = dict(NEAR)
            service.runner.vitals = lambda: Vitals(memory_bytes=held)  # type: ignore[method-assign]
            for _ in range(LASTING_LOOKS):
                service.model.heat.look()
            answer = await service.client.get("/health")
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "memory_near_limit"
            # Not reason enough to send nothing: it still computes.
            assert service.model.ready
            assert (await service.client.post("/predict", json={"text": "a"})).status_code == 200
            held["active"] = 500
            service.model.heat.look()
            assert (await service.client.get("/health")).status_code == 200

    asyncio.run(check())
