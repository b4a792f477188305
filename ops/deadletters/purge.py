"""Deleting letters. Kafka deletes a partition's log from its beginning up to an offset, and nothing else.

So letters can be deleted by age, or up to the first that was not sent again, and never one by one or by reason.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from ops.deadletters.letters import letter_of, noted
from ops.deadletters.mailbox import Mailbox, Progress, quietly
from streams.cluster import running


@dataclass(slots=True)
class Cut:
    """Where to cut: offsets by place, and how many letters lie before them; `open`: of those, not sent again."""

    before: dict[TopicPartition, int] = field(default_factory=dict)
    letters: int = 0
    open: int = 0


async def cut(
    box: Mailbox,
    partition: int | None = None,
    before: int | None = None,
    replayed: bool = False,
    progress: Progress = quietly,
) -> Cut:
    """Say what would be deleted: everything decided by now, or less.

    Args:
        box: the letters.
        partition: only of this one.
        before: only up to the first letter not older than this, milliseconds since the epoch.
        replayed: only up to the first letter that was not sent again.
        progress: told how far the letters were read.
    """
    places = box.chosen(partition)
    starts, ends = await box.begins(places), await box.ends(places)
    letters: dict[TopicPartition, list[int]] = defaultdict(list)
    done: dict[TopicPartition, set[int]] = defaultdict(set)
    async for record in box.records(starts, ends, progress):
        place = TopicPartition(record.topic, record.partition)
        if letter_of(record) is None:
            done[place].update(noted(record))
        else:
            letters[place].append(record.offset)
    limits = ends if before is None else await box.at(before, places)
    found = Cut()
    for place in places:
        limit = min(limits[place], ends[place])
        if replayed:
            limit = min([limit, *(offset for offset in letters[place] if offset not in done[place])])
        gone = [offset for offset in letters[place] if offset < limit]
        if limit > starts[place]:
            found.before[place] = limit
        found.letters += len(gone)
        found.open += sum(offset not in done[place] for offset in gone)
    return found


async def purge(box: Mailbox, found: Cut) -> None:
    """Delete what lies before the cut."""
    async with running(box.cluster.admin()) as admin:
        await admin.delete_records({place: RecordsToDelete(offset) for place, offset in found.before.items()})
