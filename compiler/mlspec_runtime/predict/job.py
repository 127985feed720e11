"""One request on its way to the model of tensors, or a question for the model's health."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from pydantic import BaseModel

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.submission import Submission

StackKey = tuple[tuple[str, tuple[int, ...]], ...]
"""The dtypes and shapes of a request's arrays without their first dimension: rows of equal keys can be stacked."""


class Done(BaseModel):
    """What a question for the model's health answers with."""


class Job(Submission):
    """One call of the model; without `inputs`, of its `health`.

    `sizes` is what the named dimensions of the request stand for, `rows` what it adds to a batch. Those of one `key`
    may be computed together; without one it is computed alone. `tokens` is how many its texts are, where that is known.
    Times are of `time.monotonic`.
    """

    def __init__(
        self,
        request_id: str,
        inputs: Mapping[str, Array] | None,
        sizes: dict[str, int],
        *,
        rows: int = 1,
        key: StackKey | None = None,
        encoding: str = "json",
        deadline_at: float = math.inf,
        tokens: int = 0,
    ) -> None:
        super().__init__(request_id)
        self.inputs = inputs
        self.sizes = sizes
        self.rows = rows
        self.key = key
        self.encoding = encoding
        self.deadline_at = deadline_at
        self.tokens = tokens
        self.entered_at = time.monotonic()
        self.began_at = 0.0
        self.computing = False

    def begin(self, now: float) -> None:
        """It is computed from now on; what began earlier, in a batch that failed, keeps its time."""
        self.began_at = self.began_at or now
        self.computing = True
