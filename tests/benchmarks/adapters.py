"""What adapters cost a service of SmolLM2: another one for the next request, and eight in one batch.

    python tests/benchmarks/adapters.py [--rounds N] [--requests N] [--tokens N] [--threads N]

Eight adapters of rank 8 in all linear layers, with random tensors: what they say doesn't change what they cost.

- Change: one request after another, a single token each, so that the time to it is all there is. Always the same
  adapter; another one each time that is in memory; another one each time that has to be loaded (of eight, two have
  room). The same of `mlx_lm.server`, which reads the base again for another adapter.
- Together: tokens per second with eight clients, all of one adapter, and each of another, in rounds that alternate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from benchmarks.contenders import Contender, mlx_server, ours  # noqa: E402
from benchmarks.measuring import Client, Prompts, Round, alternating, rest  # noqa: E402
from mlspec.bench.client import Request  # noqa: E402
from models import smollm2  # noqa: E402

RANK = 8
NAMES = tuple(f"a{number}" for number in range(8))
FEW_SLOTS = 2
CLIENTS = 8
EVENTS = ("adapter_loads", "adapter_loading_ms")


@dataclass(frozen=True)
class Asking(Contender):
    """A contender whose requests name adapters: what the next one says more is the next of `more`, which never ends."""

    more: Iterator[Mapping[str, str]]

    @classmethod
    def of(cls, contender: Contender, title: str, more: Sequence[Mapping[str, str]]) -> Asking:
        return cls(**{**vars(contender), "name": title}, more=itertools.cycle(more))

    def request(self, prompt: str, max_tokens: int) -> Request:
        request = super().request(prompt, max_tokens)
        body = json.loads(request.body) | next(self.more)
        return Request(request.path, json.dumps(body).encode(), request.headers)


def make_adapters(base: Path, folder: Path) -> dict[str, Path]:
    """Eight of them, written as mlx_lm writes them."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm import load
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model: Any = load(str(base), lazy=True)[0]
    model.freeze()
    parameters = {"rank": RANK, "scale": 10.0, "dropout": 0.0, "keys": None}
    layers = len(model.layers)
    linear_to_lora_layers(model, layers, parameters)
    shapes = {name: tensor.shape for name, tensor in tree_flatten(model.trainable_parameters())}
    config = {"fine_tune_type": "lora", "num_layers": layers, "lora_parameters": parameters}
    for number, name in enumerate(NAMES):
        mx.random.seed(number)
        (folder / name).mkdir(parents=True)
        tensors = {key: 0.01 * mx.random.normal(shape) for key, shape in shapes.items()}
        mx.save_safetensors(str(folder / name / "adapters.safetensors"), tensors)
        (folder / name / "adapter_config.json").write_text(json.dumps(config))
    return {name: folder / name for name in NAMES}


def in_spec(slots: int) -> str:
    """Lines of a spec's `model`."""
    adapters = ", ".join(f"{{name: {name}, path: adapters/{name}}}" for name in NAMES)
    return f"  adapters: [{adapters}]\n  max_loaded_adapters: {slots}\n"


def first_token_ms(client: Client, contender: Asking, prompts: Prompts, requests: int) -> float:
    """The median of requests one after the other, the first of which is left out."""
    found = client.load(contender, prompts.take(requests + 1), 1, 1)
    return 1e3 * statistics.median(found.first_token_s[1:])


def compare_changes(client: Client, rounds: int, requests: int, cases: Sequence[Asking]) -> dict[str, float]:
    """Medians of rounds that alternate between the cases, by their names."""
    prompts, found = Prompts(), dict[str, list[float]]()
    for _, case in alternating(rounds, cases):
        found.setdefault(case.name, []).append(first_token_ms(client, case, prompts, requests))
        rest()
    return {name: statistics.median(times) for name, times in found.items()}


def compare_speeds(client: Client, rounds: int, tokens: int, cases: Sequence[Asking]) -> dict[str, list[Round]]:
    """Rounds of eight clients by the names of the cases; the first round warms up."""
    prompts, found = Prompts(seed=2), dict[str, list[Round]]()
    for number, case in alternating(rounds + 1, cases):
        one = client.load(case, prompts.take(2 * CLIENTS), tokens, CLIENTS)
        if number:
            found.setdefault(case.name, []).append(one)
        rest()
    return found


def loading_ms(url: str) -> float:
    """What one load took in the service, by its own figures."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    found = {
        event: re.search(rf'^mlspec_runner_events_total{{event="{event}"}} (\S+)$', text, re.M) for event in EVENTS
    }
    count, total = (float(match[1]) if match else 0.0 for match in found.values())
    return total / count


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--requests", type=int, default=8, metavar="N", help="one after another in a round")
    parser.add_argument("--tokens", type=int, default=32, metavar="N", help="of each answer under load, at most")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="of OpenBLAS")
    given = parser.parse_args(arguments)
    base, _ = smollm2.prepared()
    client = Client()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("all", "few"):
            make_adapters(base, folder / name / "adapters")
        _report_all(client, base, folder / "all", given)
        _report_few(client, base, folder / "few", given)
        _report_theirs(client, base, folder, given)
    client.close()


def _report_all(client: Client, base: Path, folder: Path, given: argparse.Namespace) -> None:
    """All eight in memory."""
    with ours(base, folder, threads=given.threads, places=CLIENTS, more=in_spec(len(NAMES))) as service:
        same, each = _of_one_and_of_eight(service, [{"adapter": name} for name in NAMES])
        found = compare_changes(client, given.rounds, given.requests, (same, each))
        _print_change("in memory", found["one"], found["eight"])
        speeds = compare_speeds(client, given.rounds, given.tokens, (same, each))
        print(f"  one load took {loading_ms(service.url):.0f} ms in the service")
    medians = {name: statistics.median(one.tokens_per_s for one in rounds) for name, rounds in speeds.items()}
    ratio = medians["eight"] / medians["one"]
    told = f"one adapter {medians['one']:.1f}, eight {medians['eight']:.1f} tokens/s: {ratio:.2f}"
    print(f"{CLIENTS} clients: {told}", flush=True)


def _report_few(client: Client, base: Path, folder: Path, given: argparse.Namespace) -> None:
    """Two in memory: with eight in turn, each request loads."""
    with ours(base, folder, threads=given.threads, places=CLIENTS, more=in_spec(FEW_SLOTS)) as service:
        same, each = _of_one_and_of_eight(service, [{"adapter": name} for name in NAMES])
        found = compare_changes(client, given.rounds, given.requests, (same, each))
        _print_change("loaded", found["one"], found["eight"])
        print(f"  one load took {loading_ms(service.url):.0f} ms in the service")


def _report_theirs(client: Client, base: Path, folder: Path, given: argparse.Namespace) -> None:
    """Each request of another adapter has it read the base again."""
    # By its own name for the model that it began with, a server takes no adapter of a request.
    asked = [{"model": str(base), "adapters": str(folder / "all" / "adapters" / name)} for name in NAMES]
    with mlx_server(base, folder / "mlx_lm", threads=given.threads) as server:
        same, each = _of_one_and_of_eight(server, asked)
        found = compare_changes(client, given.rounds, given.requests, (same, each))
        _print_change("mlx_lm.server", found["one"], found["eight"])


def _of_one_and_of_eight(contender: Contender, asked: Sequence[Mapping[str, str]]) -> tuple[Asking, Asking]:
    return Asking.of(contender, "one", asked[:1]), Asking.of(contender, "eight", asked)


def _print_change(title: str, same_ms: float, other_ms: float) -> None:
    told = f"first token {same_ms:.0f} ms, after a change {other_ms:.0f} ms: {other_ms - same_ms:+.0f} ms"
    print(f"{title}: {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
