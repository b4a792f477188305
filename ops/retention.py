"""How long Kafka keeps what a topic holds: its real configuration, and by when a record is gone at the latest.

Kafka deletes whole segments by their newest timestamp, so that a record stays longer than the setting says, by up to a
segment. It compacts only segments that are no longer written to, and only a write begins a new one: where nothing is
written any more, a superseded record stays. Knows nothing about what records say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from ops.errors import CliError
from streams.cluster import Cluster, running

PACE_MS = 3_600_000
"""What the broker's own threads may take beyond that: with its defaults they look every 5 min, then wait one more."""

_FOR_EVER = 2**62
_NAMES = (
    "cleanup.policy",
    "retention.ms",
    "segment.ms",
    "max.compaction.lag.ms",
    "delete.retention.ms",
)


@dataclass(frozen=True, slots=True)
class Retention:
    """How one topic forgets. All in milliseconds.

    Attributes:
        deletes: records are deleted by age; `keeps` after the newest record of their segment, None: never.
        compacts: records are deleted when newer ones of their key have come; `lag` later at most, None: at any time.
        segment: how much time the records of one segment span at most.
        tombstones: how long an empty value stays after its first compaction.
    """

    deletes: bool
    keeps: int | None
    compacts: bool
    lag: int | None
    segment: int
    tombstones: int

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Retention:
        """Read it from a topic's configuration."""
        policies = config["cleanup.policy"].split(",")
        keeps, lag = int(config["retention.ms"]), int(config["max.compaction.lag.ms"])
        return cls(
            deletes="delete" in policies,
            keeps=keeps if 0 <= keeps < _FOR_EVER else None,
            compacts="compact" in policies,
            lag=lag if lag < _FOR_EVER else None,
            segment=int(config["segment.ms"]),
            tombstones=int(config["delete.retention.ms"]),
        )

    def aged_out(self, newest: int) -> int | None:
        """By when age has deleted a record; None: never.

        `newest` is the newest timestamp of its partition up to the record, which bounds where its segment began.
        """
        if not self.deletes or self.keeps is None:
            return None
        return newest + self.segment + self.keeps + PACE_MS

    def compacted(self, newest: int) -> int | None:
        """From when on a write to the partition removes a superseded record; None: nobody can tell.

        `newest` is the newest timestamp of the partition up to the record that supersedes it.
        """
        return newest + self.lag + PACE_MS if self.compacts and self.lag is not None else None

    def tombstone_compacted(self, newest: int) -> int | None:
        """From when on a write to the partition removes an empty value: it takes two compactions."""
        first = self.compacted(newest)
        return None if first is None or self.lag is None else first + self.tombstones + self.lag + PACE_MS


async def retentions(cluster: Cluster, names: Sequence[str]) -> dict[str, Retention]:
    """The retention of each topic. Raises CliError when the cluster does not tell."""
    async with running(cluster.admin()) as admin:
        wanted = [ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_NAMES)) for name in names]
        responses: list[Any] = await admin.describe_configs(wanted)
    found = {}
    for code, message, _, name, entries in (one for response in responses for one in response.resources):
        if code:
            reason = message or for_code(code).__name__
            step = "Is it there? `driftline topics verify` says what is missing."
            raise CliError(f"the configuration of topic {name} cannot be read: {reason}", step)
        found[name] = Retention.of({entry[0]: entry[1] for entry in entries})
    return found
