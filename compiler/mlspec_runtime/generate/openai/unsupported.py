"""What would change an answer and isn't supported: to ignore it would be to answer another question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.errors import ServiceError

_TEMPLATE = "what the chat template is given is settled when the service is built"
_FORMAT = "use 'response_format'"
_KEYS: Mapping[str, str] = {
    "audio": "answers are text",
    "modalities": "answers are text",
    "functions": "use 'tools'",
    "function_call": "use 'tool_choice'",
    "moderation": "nothing is moderated here",
    "web_search_options": "nothing is searched here",
    "reasoning_effort": _TEMPLATE,
    "verbosity": _TEMPLATE,
    "suffix": "text is continued at its end only",
    # Of other servers of this API.
    "chat_template": _TEMPLATE,
    "chat_template_kwargs": _TEMPLATE,
    "continue_final_message": _TEMPLATE,
    "role_mapping": _TEMPLATE,
    "adapters": "name an adapter in 'model'",
    "guided_choice": _FORMAT,
    "guided_grammar": _FORMAT,
    "guided_json": _FORMAT,
    "guided_regex": _FORMAT,
    "structured_outputs": _FORMAT,
    "ignore_eos": "an answer ends where the model ends it",
    "min_tokens": "an answer ends where the model ends it",
    "length_penalty": "there is no beam search",
    "repetition_context_size": "it is settled",
    "stop_token_ids": "use 'stop'",
    "typical_p": "use 'top_p' or 'min_p'",
    "xtc_probability": "use 'top_p' or 'min_p'",
}
_NEUTRAL: Mapping[str, Any] = {"modalities": ["text"], "length_penalty": 1}
"""Values that ask for nothing, beside those that are false."""


def unsupported(field: str, way_out: str) -> ServiceError:
    """400, with the field and what to do instead."""
    return ServiceError("unsupported", f"'{field}' is not supported: {way_out}", 400, field=field)


def check_keys(request: BaseModel) -> None:
    """Raises ServiceError (400) for the first key of a request that asks for what there isn't."""
    for key, value in (request.model_extra or {}).items():
        if value and key in _KEYS and _NEUTRAL.get(key) != value:
            raise unsupported(key, _KEYS[key])
