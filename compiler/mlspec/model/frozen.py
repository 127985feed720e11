"""The base of all parts of a file that a user writes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """One part, typed and never changed.

    Validators and serializers are built at first use, and cost milliseconds each: so defaults are constructed without
    one, and a part's values are read by `dict(part)`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True, populate_by_name=True)
