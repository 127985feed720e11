"""What MLX holds while a model serves several sequences at once: one case, measured in a process of its own.

`python -m models.memory JSON` with the fields of a `Case` prints those of `Measured`. The sequences are generated as
the runtime of the mlx_lm runner does it: by one `BatchGenerator`, with a quantized cache by one generator a sequence.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.blas import environment
from models.shapes import SHAPES, network

TESTS = Path(__file__).resolve().parents[1]
PREFILL_BATCH = 8  # as in the runtime


@dataclass(frozen=True)
class Case:
    """`concurrency` sequences reach `context_length` tokens, the last `generated` of which are answers.

    `model` is the name of a shape, or a folder. All requests come at once, each prompt `spread` tokens shorter than the
    one before. Or the others come `late`, when but one step of the first prompt is left to read: they are then read
    beside it, as if they were as long, which is the fullest that a batch can be.
    """

    model: str
    concurrency: int
    context_length: int
    prefill_step: int
    kv_bits: int | None = None
    spread: int = 30
    generated: int = 8
    late: bool = False


@dataclass(frozen=True)
class Measured:
    """Bytes by MLX: of the model's tensors, of all that was active between two steps when all sequences were as long as
    the context, and the most at any time.
    """

    weights: int
    held: int
    peak: int


def measure(case: Case) -> Measured:
    """Raises RuntimeError with what the process wrote if it fails."""
    paths = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "models.memory", json.dumps(asdict(case))]
    done = subprocess.run(
        command, env={**environment(), "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"measuring {case} ended with {done.returncode}:\n{done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))  # mlx_lm prints lines of its own before


def _measure(case: Case) -> Measured:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    model = _model(case.model)
    weights = sum(tensor.nbytes for _, tensor in tree_flatten(model.parameters()))
    mx.clear_cache()
    mx.reset_peak_memory()
    steps = _batched(model, case) if case.kv_bits is None else _one_by_one(model, case)
    held = max(mx.get_active_memory() for full in steps if full)
    return Measured(weights, held, mx.get_peak_memory())


def _model(name: str) -> Any:
    if name in SHAPES:
        return network(SHAPES[name])
    from mlx_lm import load

    loaded: Any = load(name)
    return loaded[0]


def _prompts(case: Case) -> list[list[int]]:
    chance = random.Random(1)
    longest = case.context_length - case.generated
    lengths = [longest - row * case.spread for row in range(case.concurrency)]
    return [[chance.randrange(3, 4000) for _ in range(length)] for length in lengths]


def _batched(model: Any, case: Case) -> Iterator[bool]:
    """One step of the batch a turn; true where all sequences are answered and none has ended."""
    import mlx.core as mx
    from mlx_lm.generate import BatchGenerator

    batch = BatchGenerator(
        model,
        completion_batch_size=case.concurrency,
        prefill_batch_size=min(PREFILL_BATCH, case.concurrency),
        prefill_step_size=case.prefill_step,
    )
    first, *others = _prompts(case)
    _insert(batch, [first], case)
    steps_before = (len(first) - 2) // case.prefill_step if case.late else 0
    answered, ended = 0, False
    for step in itertools.count():
        if ended:
            return
        if step == steps_before:
            _insert(batch, others, case)
        _, responses = batch.next()
        answered, ended = len(responses), any(response.finish_reason for response in responses)
        del responses
        mx.synchronize(batch.stream)
        yield answered == case.concurrency and not ended


def _insert(batch: Any, prompts: list[list[int]], case: Case) -> None:
    from mlx_lm.sample_utils import greedy_sampler

    for prompt in prompts:
        batch.insert([prompt], [case.context_length - len(prompt)], samplers=[greedy_sampler])


def _one_by_one(model: Any, case: Case) -> Iterator[bool]:
    """One token of one sequence a turn; true where all have been answered."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step, generation_stream

    answers = [
        generate_step(
            mx.array(prompt),
            model,
            max_tokens=case.context_length - len(prompt),
            prefill_step_size=case.prefill_step,
            kv_bits=case.kv_bits,
            kv_group_size=64,
            quantized_kv_start=0,
        )
        for prompt in _prompts(case)
    ]
    for turn in range(case.generated):
        for row, answer in enumerate(answers):
            next(answer)
            mx.synchronize(generation_stream)
            yield turn > 0 or row == case.concurrency - 1


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(Case(**json.loads(sys.argv[1]))))))
