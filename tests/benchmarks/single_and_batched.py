"""Greedy answers in a batch beside the same ones alone, token for token, with SmolLM2.

    python tests/benchmarks/single_and_batched.py [--prompts N] [--tokens N] [--concurrency N]

The service of a spec answers all prompts with so many at once; `mlx_lm.stream_generate` answers them one by one. Where
they part, the line says where, and by how much the likeliest token was likelier there than the next one: products of
other shapes round otherwise, and near a tie that decides. Ends with 1 if one parts where that is more than a rounding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks.contenders import Contender, bare, ours  # noqa: E402
from benchmarks.measuring import Prompts  # noqa: E402
from mlspec.serving import ask  # noqa: E402
from models import smollm2  # noqa: E402

ROUNDING = 1e-2
"""Logarithms of probabilities that are closer than this: float32 products of other shapes differ by about 1e-4."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=200, metavar="N")
    parser.add_argument("--tokens", type=int, default=24, metavar="N", help="of each answer, at most")
    parser.add_argument("--concurrency", type=int, default=8, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of OpenBLAS")
    parser.add_argument("--kernels", default="", metavar="NAME", help="of OpenBLAS, for both; without: as each comes")
    given = parser.parse_args(arguments)
    base, _ = smollm2.prepared()
    prompts = Prompts().take(given.prompts)
    with (
        tempfile.TemporaryDirectory() as folder,
        ours(base, Path(folder), threads=given.threads, places=given.concurrency, kernels=given.kernels) as service,
    ):
        batched = answers(service, prompts, given.tokens, given.concurrency)
    alone = bare(base, "answers", prompts, given.tokens, 1, given.threads, given.kernels)
    return told(batched, alone["single"], alone["gaps"])


def answers(service: Contender, prompts: Sequence[str], max_tokens: int, concurrency: int) -> list[list[int]]:
    """The tokens of each answer."""

    def one(prompt: str) -> list[int]:
        body = json.loads(service.request(prompt, max_tokens).body)
        answer = ask(f"{service.url}/predict", body, timeout_s=600)
        if answer is None or answer.status != 200:
            raise RuntimeError(f"no answer: {answer}")
        return list(answer.body["tokens"])

    with ThreadPoolExecutor(concurrency) as clients:
        return list(clients.map(one, prompts))


def told(batched: Sequence[list[int]], single: Sequence[list[int]], gaps: Sequence[list[float]]) -> int:
    """Print where they part; 1 if it is more than rounding somewhere."""
    unexplained = parted = 0
    for number, (one, other) in enumerate(zip(batched, single, strict=True)):
        if one == other:
            continue
        at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        gap = gaps[number][at] if at < len(gaps[number]) else float("inf")
        parted, unexplained = parted + 1, unexplained + (gap > ROUNDING)
        print(f"prompt {number}: they part at token {at}, where the likeliest leads by {gap:.2g}")
    tokens = sum(map(len, single))
    print(f"{len(single)} prompts, {tokens} tokens: {parted} part, {unexplained} where it is more than rounding")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
