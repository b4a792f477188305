"""Saying how far long work has come: a line that changes on a terminal, a line now and then elsewhere.

Knows nothing of the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console


class Lines:
    """Shows the newest of what it is told; a context manager.

    On a terminal at once, in one line that goes when the work is done. Elsewhere (a log, a pipe) at most once in
    `seconds`.
    """

    def __init__(
        self, console: Console, doing: str, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._status = console.status(doing) if console.is_terminal else None
        self._seconds, self._clock = seconds, clock
        self._next = clock() + seconds

    def __enter__(self) -> Lines:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, text: str) -> None:
        """Say how far the work has come."""
        if self._status is not None:
            self._status.update(text)
        elif (now := self._clock()) >= self._next:
            self._next = now + self._seconds
            self._console.print(text, markup=False, soft_wrap=True)
