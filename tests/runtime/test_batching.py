"""Requests that are computed together: which, in what order, and what one of them can do to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.heat.allowance import Allowance
from mlspec_runtime.predict.batches import choose, pieces, split, stack
from mlspec_runtime.predict.job import Job
from mlspec_runtime.predict.signature import BadTensorError
from mlspec_runtime.protocol import Stats
from runtime.bundles import limits
from runtime.services import Service, running, wait_until
from runtime.stacking_runner import CALLS, GATES


@asynccontextmanager
async def serving(
    bundle: Path, *, max_rows: int = 32, max_wait_s: float = 0.0, **changes: Any
) -> AsyncIterator[Service]:
    """The doubling service; rows may be of any width."""
    tensors = {"inputs": [_tensor("x")], "outputs": [_tensor("y")], **changes.pop("tensors", {})}
    settings = {
        "model": {"many": changes.pop("many", False)},
        **tensors,
        "requests": tensors,
        "batching": {"max_rows": max_rows, "max_wait_s": max_wait_s},
    }
    runner = {"name": "stacking", "module": "runtime.stacking_runner", "settings": settings}
    async with running(bundle, **{"runner": runner, "task": "predict", **changes}) as service:
        try:
            yield service
        finally:
            GATES[bundle].set()


def _tensor(name: str, *shape: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": list(shape or ("batch", "width"))}


async def held(service: Service, bodies: Sequence[Any], bundle: Path) -> list[httpx.Response]:
    """Ask all of it while the model is at a request of [[0.0]]: then it finds them waiting together, in their order."""
    tasks = [asyncio.create_task(ask(service, [[0.0]]))]
    await _until(service, Stats(waiting=0, running=1))
    for number, body in enumerate(bodies):
        tasks.append(asyncio.create_task(ask(service, body)))
        await _until(service, Stats(waiting=number + 1, running=1))
    GATES[bundle].set()
    answers = await asyncio.gather(*tasks)
    assert CALLS[bundle].pop(0) in ((1, 1), (1,))
    return answers[1:]


async def _until(service: Service, stats: Stats) -> None:
    while service.runner.stats() != stats:
        await asyncio.sleep(0.002)


async def ask(service: Service, x: Any) -> httpx.Response:
    return await service.client.post("/predict", json={"inputs": {"x": x}})


def outputs(answers: Sequence[httpx.Response]) -> list[Any]:
    return [answer.json()["outputs"]["y"] if answer.status_code == 200 else answer.status_code for answer in answers]


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def test_who_waits_is_computed_in_one_call(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            answers = await held(service, [[[float(n)], [n + 0.5]] for n in range(5)], tmp_path)
            assert outputs(answers) == [[[2.0 * n], [2.0 * n + 1]] for n in range(5)]
            assert CALLS[tmp_path] == [(10, 1)]
            assert len({answer.json()["request_id"] for answer in answers}) == 5

    go(check())


def test_shapes_that_differ_are_not_mixed(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            bodies = [[[1.0]], [[1.0, 2.0]], [[3.0]], [[3.0, 4.0]], [[5.0]]]
            assert outputs(await held(service, bodies, tmp_path)) == [
                [[2.0 * value for value in row] for row in body] for body in bodies
            ]
            assert CALLS[tmp_path] == [(3, 1), (2, 2)]

    go(check())


def test_no_batch_has_more_rows_than_planned(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, max_rows=4) as service:
            bodies = [[[1.0]] * 3, [[2.0]] * 2, [[3.0]], [[4.0]] * 9, [[5.0]]]
            assert outputs(await held(service, bodies, tmp_path)) == [
                [[2.0 * body[0][0]]] * len(body) for body in bodies
            ]
            # The third fits beside the first; nine rows are one request, in parts.
            assert CALLS[tmp_path] == [(4, 1), (3, 1), (4, 1), (4, 1), (1, 1)]

    go(check())


def test_without_batching_each_is_computed_as_it_comes(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, max_rows=1) as service:
            assert outputs(await held(service, [[[1.0]] * 3, [[2.0]]], tmp_path)) == [[[2.0]] * 3, [[4.0]]]
            assert CALLS[tmp_path] == [(3, 1), (1, 1)]

    go(check())


@pytest.mark.parametrize(
    ("bad", "status", "code", "told"),
    [
        (-1.0, 500, "model_error", "the server's log"),
        (-2.0, 500, "bad_output", "infinite"),
        (-3.0, 500, "model_error", "the server's log"),
        (-4.0, 422, "too_dark", "more light"),
    ],
)
def test_a_bad_row_fails_alone(
    tmp_path: Path, bad: float, status: int, code: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            answers = await held(service, [[[float(n)]] if n != 5 else [[1.0], [bad]] for n in range(8)], tmp_path)
            failed = answers.pop(5)
            error = failed.json()["error"]
            assert (failed.status_code, error["code"]) == (status, code)
            assert told in error["message"]
            assert "secret" not in failed.text
            assert outputs(answers) == [[[2.0 * n]] for n in range(8) if n != 5]
            assert len(CALLS[tmp_path]) <= 7
            if status == 500:
                assert error["request_id"] in caplog.text

    go(check())


def test_when_all_are_bad_each_has_its_error(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            assert outputs(await held(service, [[[-1.0]]] * 6, tmp_path)) == [500] * 6
            assert outputs([await ask(service, [[4.0]])]) == [[[8.0]]]

    go(check())


def test_who_left_and_who_is_late_is_not_computed(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, limits=limits(timeout_s=0.4)) as service:
            first = asyncio.create_task(ask(service, [[0.0]]))
            await _until(service, Stats(waiting=0, running=1))
            gone = await service.runner.submit(_request(service, [[7.0]]), "gone", stream=False)
            late = await service.runner.submit(_request(service, [[8.0]]), "late", stream=False)
            service.runner.cancel(gone)
            assert service.runner.stats().waiting == 1
            assert (await first).status_code == 504
            # The other came a moment later.
            await asyncio.sleep(0.2)
            GATES[tmp_path].set()
            with pytest.raises(Exception, match="its turn didn't come"):
                await late.output()
            assert outputs([await ask(service, [[3.0]])]) == [[[6.0]]]
            assert CALLS[tmp_path] == [(1, 1), (1, 1)]

    go(check())


def _request(service: Service, x: Any) -> Any:
    return service.runner.request_type.model_validate({"inputs": {"x": x}})


def test_a_model_that_takes_requests_as_they_are(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, many=True, max_rows=6) as service:
            bodies = [[[1.0]], [[1.0, 2.0]] * 2, [[-1.0]], [[4.0]] * 3, [[5.0]]]
            answers = outputs(await held(service, bodies, tmp_path))
            assert answers == [[[2.0]], [[2.0, 4.0]] * 2, 500, [[8.0]] * 3, [[10.0]]]
            assert CALLS[tmp_path] == [(1, 2, 1, 1), (3, 1)]

    go(check())


def test_one_that_ends_a_call_of_many_fails_alone(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, many=True) as service:
            assert outputs(await held(service, [[[1.0]], [[-3.0]], [[2.0]]], tmp_path)) == [[[2.0]], 500, [[4.0]]]

    go(check())


def test_what_cannot_be_stacked_does_not_start(tmp_path: Path) -> None:
    async def check() -> None:
        tensors = {"outputs": [_tensor("y", 2)]}
        async with serving(tmp_path, tensors=tensors, wait=False) as service:
            wait_until(lambda: "all begin with one named dimension" in str(service.model._problem))
            assert (await service.client.get("/health")).status_code == 503

    go(check())


def test_the_first_may_wait_for_others(tmp_path: Path) -> None:
    async def check() -> None:
        GATES[tmp_path].set()
        async with serving(tmp_path, max_rows=3, max_wait_s=30.0) as service:
            answers = await asyncio.gather(*(ask(service, [[float(n)]]) for n in range(3)))
            assert outputs(answers) == [[[0.0]], [[2.0]], [[4.0]]]
            assert CALLS[tmp_path] == [(3, 1)]

    go(check())


def test_throttled_batches_are_smaller(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            service.runner.throttle(Allowance(concurrency=2))
            assert outputs(await held(service, [[[1.0]]] * 5, tmp_path)) == [[[2.0]]] * 5
            assert CALLS[tmp_path] == [(2, 1), (2, 1), (1, 1)]

    go(check())


def test_batches_are_counted(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path) as service:
            await held(service, [[[1.0]] * 2] * 3, tmp_path)
            service.model.heat.look()
            assert service.value('mlspec_batches_total{rows="1"}') == 1
            assert service.value('mlspec_batches_total{rows="8"}') == 1
            assert service.value("mlspec_batch_rows_total") == 7
            assert service.value("mlspec_batch_requests_total") == 4
            assert service.value("mlspec_batch_seconds_total") > 0
            assert service.runner.stats() == Stats(0, 0)

    go(check())


def test_each_part_of_a_long_request_is_counted(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, max_rows=4) as service:
            await held(service, [[[1.0]] * 10], tmp_path)
            assert CALLS[tmp_path] == [(4, 1), (4, 1), (2, 1)]
            service.model.heat.look()
            counted = {rows: service.value(f'mlspec_batches_total{{rows="{rows}"}}') for rows in (1, 2, 4)}
            assert counted == {1: 1, 2: 1, 4: 2}
            assert service.value("mlspec_batch_rows_total") == 11
            assert service.value("mlspec_batch_requests_total") == 2

    go(check())


def test_the_model_is_closed_at_the_end(tmp_path: Path) -> None:
    async def check() -> None:
        GATES[tmp_path].set()
        async with serving(tmp_path):
            pass
        assert CALLS[tmp_path] == [()]

    go(check())


def _job(rows: int, key: Any) -> Job:
    return Job("one", {}, {}, rows=rows, key=key)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, (("<f4", (2,)),), ()])), min_size=1, max_size=20),
    st.integers(1, 12),
    st.integers(1, 8),
)
def test_a_batch_begins_with_who_waits_longest_and_holds_one_kind(
    given: list[tuple[int, Any]], max_rows: int, max_requests: int
) -> None:
    async def check() -> None:
        waiting = [_job(rows, key) for rows, key in given]
        chosen = choose(waiting, max_rows, max_requests)
        assert chosen[0] is waiting[0]
        assert [waiting.index(job) for job in chosen] == sorted(waiting.index(job) for job in chosen)
        assert len(chosen) == 1 or {job.key for job in chosen} == {waiting[0].key} != {None}
        assert len(chosen) == 1 or (sum(job.rows for job in chosen) <= max_rows and len(chosen) <= max_requests)

    go(check())


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 7))
def test_rows_come_apart_as_they_were_laid_together(rows: list[int], max_rows: int) -> None:
    requests = [{"x": np.full((count, 2), number)} for number, count in enumerate(rows)]
    stacked = stack(requests)
    assert stacked["x"].shape == (sum(rows), 2)
    for request, part in zip(requests, split(stacked, rows), strict=True):
        assert np.array_equal(request["x"], part["x"])
    found = list(pieces(stacked, max_rows))
    assert all(len(piece["x"]) <= max_rows for piece in found)
    if found:
        assert np.array_equal(np.concatenate([piece["x"] for piece in found]), stacked["x"])


@pytest.mark.parametrize("predicted", [[1, 2], {"y": np.zeros(3)}, {"y": np.float32(1)}])
def test_outputs_that_have_other_rows_are_told(predicted: Any) -> None:
    with pytest.raises(BadTensorError):
        split(predicted, [1, 1])
