"""A spec's service beside LitServe, MLServer and BentoML, all with batches: one small ONNX model, one thread each.

    python tests/benchmarks/batching.py [--clients N …] [--rounds N] [--seconds S] [--wait MS …]

A perceptron of 64, 2048, 2048 and 10; each request has one row, in JSON. Rounds go from server to server, and while one
is measured the others stand still. Requests per second and p95 are medians of the rounds, with their spread (the range
beside the median). LitServe and MLServer are installed into environments of their own below the user's cache, at the
first run. Of the waits for more rows that are given, each of both is shown with all.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks import batching_contenders as contenders  # noqa: E402
from benchmarks.batching_contenders import Server  # noqa: E402
from mlspec.bench.client import percentile, run  # noqa: E402

SIZES = (64, 2048, 2048, 10)
ROWS = 32


@dataclass(frozen=True)
class Round:
    """One load on one server."""

    requests_per_s: float
    p95_ms: float
    cpu_ms: float
    """Of its processes, a request."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each load")
    parser.add_argument(
        "--wait", nargs="+", type=float, default=[0.2, 2.0], metavar="MS", help="for more rows, of the peers"
    )
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = write_model(Path(folder, "mlp.onnx"))
        servers = [stack.enter_context(one) for one in _servers(model, Path(folder), given.wait)]
        for server in servers:
            check(server, model)
        compare(servers, given)


def _servers(model: Path, folder: Path, waits_ms: Sequence[float]) -> Iterator[Any]:
    onnxruntime, cache = importlib.metadata.version("onnxruntime"), contenders.cache_folder()
    yield contenders.ours(model, folder / "ours")
    for service in ("Plain", "Batching"):
        yield contenders.bento(model, folder / service, service)
    for wait_ms in waits_ms:
        for peer, start in (("litserve", contenders.litserve), ("mlserver", contenders.mlserver)):
            python = contenders.python_with(peer, onnxruntime, cache)
            yield start(model, folder / f"{peer}-{wait_ms}", python, ROWS, wait_ms / 1000)


def write_model(path: Path) -> Path:
    """The perceptron, with random weights."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(0)
    weights, nodes, last = [], [], "x"
    for at, (rows, columns) in enumerate(pairwise(SIZES)):
        values = (chance.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)
        weights += [numpy_helper.from_array(values, f"w{at}")]
        is_last = at == len(SIZES) - 2
        nodes.append(helper.make_node("MatMul", [last, f"w{at}"], ["scores" if is_last else f"h{at}"]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [f"h{at}"], [f"r{at}"]))
        last = f"r{at}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", SIZES[0]])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", SIZES[-1]])
    graph = helper.make_graph(nodes, "mlp", [x], [scores], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def check(server: Server, model: Path) -> None:
    """That it gives what onnxruntime gives, for rows that were computed together. Raises RuntimeError."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rows = [[float(value) for value in row] for row in np.eye(SIZES[0], dtype=np.float32)[:16]]
    expected = session.run(None, {"x": np.asarray(rows, dtype=np.float32)})[0]
    for row, wanted in zip(rows, expected, strict=True):
        got = contenders.scores_of(server, row)
        if not np.allclose(got, wanted, atol=1e-4):
            raise RuntimeError(f"{server.name} computes something else")


def compare(servers: Sequence[Server], given: argparse.Namespace) -> None:
    """Print a line for each server at each number of clients."""
    chance = random.Random(1)
    rows = [[round(chance.random(), 4) for _ in range(SIZES[0])] for _ in range(512)]
    print(f"{'clients':>7} {'':<20} {'requests/s':>10} {'spread':>6} {'p95, ms':>8} {'spread':>6} {'CPU ms each':>11}")
    for clients in given.clients:
        found: dict[str, list[Round]] = {server.name: [] for server in servers}
        for number in range(given.rounds + 1):
            for server in servers if number % 2 else reversed(servers):
                with server.alone(servers):
                    one = measured(server, rows, clients, given.seconds if number else 1.0)
                if number:  # the first is a warm-up
                    found[server.name].append(one)
        for name, rounds in found.items():
            print(_line(clients, name, rounds), flush=True)


def measured(server: Server, rows: Sequence[Sequence[float]], clients: int, seconds: float) -> Round:
    """One load. Raises RuntimeError if a request failed."""

    def endless() -> Iterator[Any]:
        requests = [server.request(row) for row in rows]
        while True:
            yield from requests

    before_s = server.cpu_s()
    samples = run(server.url, endless(), clients, duration_s=seconds)
    cpu_s = server.cpu_s() - before_s
    failed = [sample for sample in samples if sample.error]
    if failed:
        raise RuntimeError(f"{server.name}: {len(failed)} requests failed: {failed[0].status} {failed[0].error}")
    wall_s = max(sample.ended_s for sample in samples) - min(sample.started_s for sample in samples)
    p95_ms = 1e3 * percentile([sample.latency_s for sample in samples], 95)
    return Round(len(samples) / wall_s, p95_ms, 1e3 * cpu_s / len(samples))


def _line(clients: int, name: str, rounds: Sequence[Round]) -> str:
    speed, speed_spread = _median([one.requests_per_s for one in rounds])
    p95, p95_spread = _median([one.p95_ms for one in rounds])
    cpu, _ = _median([one.cpu_ms for one in rounds])
    return f"{clients:>7} {name:<20} {speed:>10,.0f} {speed_spread:>6.0%} {p95:>8.1f} {p95_spread:>6.0%} {cpu:>11.2f}"


def _median(values: Sequence[float]) -> tuple[float, float]:
    middle = statistics.median(values)
    return middle, (max(values) - min(values)) / middle


if __name__ == "__main__":
    main(sys.argv[1:])
