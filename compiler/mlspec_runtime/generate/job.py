"""What the engine works on: jobs in, steps of a model, answers out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlspec_runtime.generate.messages import FinishReason, GenerateResponse, Sampling, Timings, Usage
from mlspec_runtime.generate.transcript import Detokenizer, Transcript
from mlspec_runtime.submission import Measures, Output, Submission


@dataclass(frozen=True)
class Step:
    """One token of one request. The token of a `stop` is the model's end token and no part of the answer."""

    row: int
    token: int
    finish_reason: FinishReason | None


@dataclass(frozen=True)
class Started:
    """A request in the batch: its row's id, and how many tokens of its prompt need no computing."""

    row: int
    reused_tokens: int = 0


class LanguageModel(Protocol):
    """A loaded model with a batch of rows, used by the engine's thread alone, but for `memory_bytes`."""

    def select_adapter(self, name: str) -> None:
        """Generate with this adapter from now on. The batch is empty."""

    def start(self, prompt: Sequence[int], sampling: Sampling) -> Started:
        """Put a request into the batch."""

    def drop(self, rows: Sequence[int]) -> None:
        """Take rows out of the batch before they have ended."""

    def step(self) -> list[Step]:
        """Compute the next token of each row that has its prompt behind it. Ended rows leave the batch."""

    def read_prompts_by(self, tokens: int) -> None:
        """Read prompts in steps of so many tokens from now on; never more than it began with."""

    def detokenizer(self) -> Detokenizer:
        """A new one."""

    def memory_bytes(self) -> Mapping[str, int]:
        """What it holds now, by kind. From any thread."""

    def reset(self) -> None:
        """Throw the batch away and begin a new one, after a step that failed."""

    def close(self) -> None:
        """Free everything."""


class Job(Submission):
    """One request in the engine. Times are of `time.monotonic`."""

    def __init__(
        self,
        request_id: str,
        prompt: Sequence[int],
        sampling: Sampling,
        adapter: str,
        *,
        stream: bool = False,
    ) -> None:
        super().__init__(request_id, stream=stream)
        self.prompt = prompt
        self.sampling = sampling
        self.work = sampling.work
        self.adapter = adapter
        self.entered_at = time.monotonic()
        self.began_at = 0.0
        self.first_token_at: float | None = None
        self.reused_tokens = 0
        self.transcript: Transcript | None = None

    @property
    def context_tokens(self) -> int:
        """Its prompt and what was generated so far."""
        return len(self.prompt) + (len(self.transcript.tokens) if self.transcript else 0)


def final_output(job: Job, transcript: Transcript, reason: FinishReason) -> Output:
    """The whole answer of a job that has ended."""
    now = time.monotonic()
    first_token_s = None if job.first_token_at is None else job.first_token_at - job.entered_at
    queue_s, total_s = job.began_at - job.entered_at, now - job.entered_at
    prompt_tokens, completion_tokens = len(job.prompt), len(transcript.tokens)
    answer = GenerateResponse(
        text=transcript.text,
        tokens=transcript.tokens,
        finish_reason=reason,
        adapter=job.adapter,
        usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
        timings=Timings(
            queue_s=round(queue_s, 6),
            time_to_first_token_s=None if first_token_s is None else round(first_token_s, 6),
            total_s=round(total_s, 6),
        ),
        request_id=job.request_id,
    )
    measures = Measures(queue_s, first_token_s, prompt_tokens, completion_tokens, job.reused_tokens)
    return Output("done", answer, final=True, measures=measures)
