"""W3C trace context through a worker: from an event's headers to those of the slate that answers it.

A slate belongs to the trace of the event that caused it; of the others that it covers it says where they are. Without a
tracer the context is passed on as it came. With one the slate's parent is a span of this worker's, whose id is a
function of the event: what is written stays a function of the log. Knows no tracing library, and nothing of Kafka
clients.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_MAX_PARENT = 128
_MAX_STATE = 512

Headers = Sequence[tuple[str, bytes]]


class Context(NamedTuple):
    """Where an event stands in a trace: ids in hex, flags as sent."""

    trace: str
    span: str
    flags: int
    state: bytes = b""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & 1)

    def headers(self) -> list[tuple[str, bytes]]:
        """As record headers."""
        parent = f"00-{self.trace}-{self.span}-{self.flags:02x}".encode()
        return [(TRACEPARENT, parent)] + ([(TRACESTATE, self.state)] if self.state else [])


@dataclass(frozen=True, slots=True)
class Traced:
    """A slate whose event is part of a trace: the event's context, this worker's span, and what else it covers."""

    partition: int
    offset: int
    parent: Context
    span: str
    links: tuple[Context, ...]
    covers: int


Tracer = Callable[[Sequence[Traced], float, float, float], None]
"""Told of traced slates once they are committed: when their batch was begun, went into its transaction, and was
committed, in seconds since the epoch."""


def context(headers: Iterable[tuple[str, bytes]]) -> Context | None:
    """The trace context in a record's headers; None where there is none, or one that is none."""
    parent = state = None
    for name, value in headers:
        if name == TRACEPARENT:
            parent = value
        elif name == TRACESTATE:
            state = value
    found = None if parent is None or len(parent) > _MAX_PARENT else _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest) or not trace.strip(b"0") or not span.strip(b"0"):
        return None
    kept = state if state and len(state) <= _MAX_STATE and state.isascii() else b""
    return Context(trace.decode(), span.decode(), int(flags, 16), kept)


def span_id(parent: Context, partition: int, offset: int) -> str:
    """The id of this worker's span for the event there, 16 hex digits; never all zeros."""
    content = f"{parent.trace}-{parent.span}-{partition}-{offset}".encode()
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return digest if digest.strip("0") else "0" * 15 + "1"
