"""Every error that a client sees, in one JSON shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


class ServiceError(Exception):
    """What went wrong, as the client is told: `code` for programs, `message` for people, `status` for HTTP.

    `field` is the path of the part of the request that is at fault (`messages.0.role`), `retry_after_s` says
    when another try makes sense, `operation` is filled in by the application where a runner leaves it empty.
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
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.operation = operation
        self.retry_after_s = retry_after_s
        self.field = field

    def body(self, operation: str, request_id: str) -> dict[str, Any]:
        """The JSON body: `{"error": {operation, code, message, request_id, field?, retry_after_s?}}`."""
        error: dict[str, Any] = {
            "operation": self.operation or operation,
            "code": self.code,
            "message": self.message,
            "request_id": request_id,
        }
        if self.field is not None:
            error["field"] = self.field
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return {"error": error}

    def headers(self) -> Mapping[str, str]:
        """`Retry-After` in whole seconds, where there is a time to wait."""
        if self.retry_after_s is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}

    def again(self) -> ServiceError:
        """A fresh copy: an exception that is kept and raised for each request would collect tracebacks."""
        return ServiceError(
            self.code,
            self.message,
            self.status,
            operation=self.operation,
            retry_after_s=self.retry_after_s,
            field=self.field,
        )


def internal_error() -> ServiceError:
    """What a client learns of a fault of ours; the rest is in the log, under the request's id."""
    return ServiceError("internal", "something went wrong here; the server's log has it under this request_id", 500)
