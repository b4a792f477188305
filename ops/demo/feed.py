"""What the demo feeds the system with: items, a warm-up from the start of the stream, and live events for the rest.

Knows the data set's columns and the contracts; nothing of Kafka or of when anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.contracts import Interaction, encode

if TYPE_CHECKING:
    from ops.datasets import Dataset

WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Stream:
    """The interactions in order of time; each one's id is its number in the stream, from 0."""

    warm_up: list[Interaction]
    live: list[Interaction]


def stream(data: Dataset, live_events: int | None) -> Stream:
    """Split the data set by time: the first fifth is the warm-up; of the rest, `live_events` (None: all) are live."""
    rows = data.interactions.itertuples(index=False, name=None)
    events = [
        Interaction(user=user, item=item, time=time, action=action, weight=weight, id=str(number))
        for number, (user, item, time, action, weight) in enumerate(rows)
    ]
    cut = round(len(events) * WARM_UP_SHARE)
    return Stream(events[:cut], events[cut:][:live_events])


def write_events(path: Path, events: Iterable[Interaction]) -> None:
    """Write events as JSON lines."""
    path.write_bytes(b"".join(encode(event) + b"\n" for event in events))
