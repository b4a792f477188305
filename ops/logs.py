"""Keeping a log readable: what a library says over and over is said once in a while, with how often it was.

Knows nothing about what is logged.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any


def without_words(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """For structlog: an exception is logged as its types and the way to it; its words may hold what a message said."""
    from streams.blame import way

    told = event.pop("exc_info", None)
    error = told if isinstance(told, BaseException) else (sys.exc_info()[1] if told else None)
    if error is not None:
        event["way"] = way(error)
    return event


class Repeats(logging.Filter):
    """Lets a message of a logger through once in `seconds`; the next one let through says how many were left out.

    Messages are the same when their text before formatting is: a client library that cannot connect says so a
    hundred times a second, with another address or number each time.
    """

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        message, now = (record.name, str(record.msg)), self._clock()
        if now - self._last.get(message, -self._seconds) < self._seconds:
            self._left_out[message] = self._left_out.get(message, 0) + 1
            return False
        self._last[message] = now
        if left_out := self._left_out.pop(message, 0):
            record.msg = f"{record.msg} (and {left_out} more since the last time)"
        return True
