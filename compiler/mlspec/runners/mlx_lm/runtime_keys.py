"""Which requests have equal answers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from mlspec_runtime.generate.messages import GenerateRequest

_ONLY_DRAWN = ("seed", "top_p", "top_k", "min_p")
"""What makes no difference where the likeliest token is taken each time."""


class ResponseKeys:
    """For one service: its settings, and the text of its chat template, are part of each key; where that tells the
    model the date, so is the day.
    """

    def __init__(self, settings: Mapping[str, Any], default_adapter: str, chat_template: str) -> None:
        self._default_adapter = default_adapter
        self._service = _digest({"settings": dict(settings), "chat_template": chat_template})
        self._is_dated = "strftime_now" in chat_template

    def key(self, request: GenerateRequest) -> bytes | None:
        """32 bytes; None where chance has a part in the answer."""
        greedy = request.temperature == 0
        if not greedy and request.seed is None:
            return None
        fields = request.model_dump(mode="json", by_alias=True)
        fields["adapter"] = request.adapter or self._default_adapter
        if greedy:
            fields = {name: value for name, value in fields.items() if name not in _ONLY_DRAWN}
        day = time.strftime("%Y-%m-%d").encode() if self._is_dated else b""
        return hashlib.sha256(self._service + _digest(fields) + day).digest()


def _digest(data: Any) -> bytes:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).digest()
