"""From pydantic's findings to one error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError

from mlspec_runtime.errors import ServiceError

_SHOWN = 5


def validation_error(error: RequestValidationError, content_type: str, file_types: Iterable[str] = ()) -> ServiceError:
    """400 for what is no JSON, 415 for what isn't called JSON, else 422 with the path of the first field at
    fault. `file_types` are the other media types that this path takes.

    The values themselves are never repeated: they are prompts.
    """
    findings = error.errors()
    first = findings[0]
    if first["type"] == "json_invalid":
        at = first["loc"][-1]
        return ServiceError("bad_json", f"the body is not JSON: {first['ctx']['error']} at character {at}", 400)
    if not _is_json(content_type):
        message = "send JSON, with the header Content-Type: application/json"
        if others := ", ".join(file_types):
            message += f"; or one of {others}, by its own name"
        return ServiceError("unsupported_media_type", message, 415)
    told = [_told(finding) for finding in findings[:_SHOWN]]
    if len(findings) > _SHOWN:
        told.append(f"and {len(findings) - _SHOWN} more")
    return ServiceError("invalid_request", "; ".join(told), 422, field=_field(first) or None)


def unreadable_body(cause: Exception) -> ServiceError:
    """400 for a body that FastAPI stumbled over as it read it, by the exception that it was."""
    return ServiceError("bad_json", f"the body can't be read: {_reason(cause)}", 400)


def _reason(cause: Exception) -> str:
    if isinstance(cause, UnicodeDecodeError):
        return f"it is not {cause.encoding.upper()} at byte {cause.start}; send UTF-8"
    if isinstance(cause, RecursionError):
        return "its lists and objects are nested too deeply"
    # Python's own bound on what it makes numbers of, with no type of its own.
    if isinstance(cause, ValueError) and "digits" in str(cause):
        return f"a number has more than {sys.get_int_max_str_digits()} digits"
    return "it is not JSON"


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _field(finding: Mapping[str, Any]) -> str:
    return ".".join(map(str, finding["loc"][1:]))[:200]


def _told(finding: Mapping[str, Any]) -> str:
    message = str(finding["msg"]).removeprefix("Value error, ")
    if finding["type"] == "missing" and len(finding["loc"]) == 1:
        message = "the body is empty; send a JSON object"
    field = _field(finding)
    return f"{field}: {message}" if field else message
