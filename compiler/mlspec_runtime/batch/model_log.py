"""What the service's log would have: errors of the model's code, kept for the rows that they are of."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

MOST_KEPT = 1000
MOST_LINES = 200
"""Errors that the process writes to its own log; of a million rows each may fail."""
_LETTERS = 2000


class ModelLog(logging.Handler):
    """Keeps the last errors that name a request."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._told: OrderedDict[str, str] = OrderedDict()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block."""
        logger = logging.getLogger("mlspec")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        problem = record.exc_info[1] if record.exc_info else None
        text = f"{type(problem).__name__}: {problem}" if problem is not None else record.getMessage()
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, str) and argument.startswith("row-"):
                self._told[argument] = text[:_LETTERS]
        while len(self._told) > MOST_KEPT:
            self._told.popitem(last=False)

    def about(self, request_id: str) -> str | None:
        """What was said of this request."""
        return self._told.pop(request_id, None)


class Few(logging.Filter):
    """Lets the first errors through."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def filter(self, record: logging.LogRecord) -> bool:
        self._seen += record.levelno >= logging.ERROR
        return record.levelno < logging.ERROR or self._seen <= MOST_LINES
