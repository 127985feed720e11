"""Every error that a client sees, in one JSON shape."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_INDEX = re.compile(r"\.(\d+)(?=\.|$)")


class ServiceError(Exception):
    """What went wrong, as the client is told: `code` for programs, `message` for people, `status` for HTTP.

    `field` is the path of the part of the request that is at fault (`messages.0.role`), `retry_after_s` says
    when another try makes sense, `details` are the numbers of the message by name (`allowed_tokens`), `operation` is
    filled in by the application where a runner leaves it empty.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        *,
        operation: str = "",
        retry_after_s: float | None = None,
        field: str | None = None,
        details: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.operation = operation
        self.retry_after_s = retry_after_s
        self.field = field
        self.details = details

    @property
    def type(self) -> str:
        """OpenAI's name of the kind of error, by the status."""
        return _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    @property
    def param(self) -> str | None:
        """`field` as OpenAI writes it: `messages[0].role`."""
        return None if self.field is None else _INDEX.sub(r"[\1]", self.field)

    def body(self, operation: str, request_id: str) -> dict[str, Any]:
        """The JSON body: `{"error": {operation, code, type, message, param, request_id, field?, details?,
        retry_after_s?}}`.
        """
        error: dict[str, Any] = {
            "operation": self.operation or operation,
            "code": self.code,
            "type": self.type,
            "message": self.message,
            "param": self.param,
            "request_id": request_id,
        }
        optional = {"field": self.field, "details": self.details, "retry_after_s": self.retry_after_s}
        return {"error": {**error, **{name: value for name, value in optional.items() if value is not None}}}

    def headers(self) -> Mapping[str, str]:
        """`Retry-After` in whole seconds, where there is a time to wait; how to show a key, where one is missing."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers

    def again(self) -> ServiceError:
        """A fresh copy: an exception that is kept and raised for each request would collect tracebacks."""
        return ServiceError(
            self.code,
            self.message,
            self.status,
            operation=self.operation,
            retry_after_s=self.retry_after_s,
            field=self.field,
            details=self.details,
        )


def internal_error() -> ServiceError:
    """What a client learns of a fault of ours; the rest is in the log, under the request's id."""
    return ServiceError("internal", "something went wrong here; the server's log has it under this request_id", 500)


def client_left() -> ServiceError:
    """The client closed the connection; 499 is what the metrics and nobody else see."""
    return ServiceError("client_left", "the client closed the connection", 499)
