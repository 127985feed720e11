"""What the engine works on: jobs in, steps of a model, answers out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.formats import unfollowed_format
from mlspec_runtime.generate.messages import FinishReason, GenerateResponse, Sampling, Timings, Usage
from mlspec_runtime.generate.transcript import Detokenizer, Format, Transcript
from mlspec_runtime.submission import Measures, Output, Submission

if TYPE_CHECKING:
    from mlspec_runtime.generate.messages import TokenLogprobs


@dataclass(frozen=True)
class Step:
    """One token of one request. The token of a `stop` is the model's end token and no part of the answer. `logprobs`
    is there if the request's sampling asks for it.
    """

    row: int
    token: int
    finish_reason: FinishReason | None
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True)
class Started:
    """A request in the batch: its row's id, and how many tokens of its prompt need no computing."""

    row: int
    reused_tokens: int = 0


class LanguageModel(Protocol):
    """A loaded model with a batch of rows, used by the engine's thread alone, but for `memory_bytes`."""

    def admits(self, adapter: str) -> bool:
        """Whether a request for this adapter can join the rows that are computed now. Always where there are none."""

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        """Put a request into the batch, which admits its adapter. Raises ServiceError, as when the adapter can't be
        loaded.
        """

    def drop(self, rows: Sequence[int]) -> None:
        """Take rows out of the batch before they have ended."""

    def step(self) -> list[Step]:
        """Compute the next token of each row that has its prompt behind it. Ended rows leave the batch."""

    def settle(self) -> None:
        """Do what could wait until the tokens of the last step were on their way."""

    def read_prompts_by(self, tokens: int) -> None:
        """Read prompts in steps of so many tokens from now on; never more than it began with."""

    def detokenizer(self) -> Detokenizer:
        """A new one."""

    def memory_bytes(self) -> Mapping[str, int]:
        """What it holds now, by kind. From any thread."""

    def counts(self) -> Mapping[str, int]:
        """What it has counted since it began, as adapters loaded. From any thread."""

    def reset(self) -> None:
        """Throw the batch away and begin a new one, after a step that failed."""

    def close(self) -> None:
        """Free everything."""


class Job(Submission):
    """One request in the engine. `format` is what its transcript must know of the answer's form, which with `continues`
    goes on where the prompt's text ends. Times are of `time.monotonic`.
    """

    def __init__(
        self,
        request_id: str,
        prompt: Sequence[int],
        sampling: Sampling,
        adapter: str,
        *,
        format: Format | None = None,
        continues: bool = False,
        stream: bool = False,
    ) -> None:
        super().__init__(request_id, stream=stream)
        self.prompt = prompt
        self.sampling = sampling
        self.work = sampling.work
        self.adapter = adapter
        self.format = format
        self.continues = continues
        self.entered_at = time.monotonic()
        self.began_at = 0.0
        self.computing = False
        self.first_token_at: float | None = None
        self.reused_tokens = 0
        self.transcript: Transcript | None = None

    @property
    def context_tokens(self) -> int:
        """Its prompt and what was generated so far."""
        return len(self.prompt) + (len(self.transcript.tokens) if self.transcript else 0)


def final_output(job: Job, transcript: Transcript, reason: FinishReason) -> Output | ServiceError:
    """The whole answer of a job that has ended; an error where it left the form that was asked for."""
    unfollowed = unfollowed_format(job.sampling)
    if unfollowed is not None:
        return unfollowed
    now = time.monotonic()
    first_token_s = None if job.first_token_at is None else job.first_token_at - job.entered_at
    queue_s, total_s = job.began_at - job.entered_at, now - job.entered_at
    prompt_tokens, completion_tokens = len(job.prompt), len(transcript.tokens)
    answer = GenerateResponse(
        text=transcript.text,
        tokens=transcript.tokens,
        finish_reason=reason,
        adapter=job.adapter,
        reasoning=transcript.reasoning or None,
        tool_calls=transcript.tool_calls,
        logprobs=transcript.logprobs or None,
        usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cached_tokens=job.reused_tokens),
        timings=Timings(
            queue_s=round(queue_s, 6),
            time_to_first_token_s=None if first_token_s is None else round(first_token_s, 6),
            total_s=round(total_s, 6),
        ),
        request_id=job.request_id,
    )
    measures = Measures(queue_s, first_token_s, prompt_tokens, completion_tokens, job.reused_tokens, total_s)
    return Output("done", answer, final=True, measures=measures)
