"""How an engine runs: one object that its parts share. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from streams.cluster import Cluster


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One member of the group `app_id` on one cluster.

    `events`, `state`, `dead_letters`: names of topics with equally many partitions; `poison_limit`: records in a
    row that a handler may fail on before its partition is parked, for `park_seconds`, until another try;
    `stop_seconds`: how long stopping waits for what is in hand.
    """

    cluster: Cluster
    app_id: str
    events: str
    state: str
    dead_letters: str
    max_batch_records: int = 512
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 30_000
    retry_seconds: tuple[float, ...] = (0.1, 0.5, 2.0, 5.0)
    poison_limit: int = 16
    park_seconds: float = 30.0
    stop_seconds: float = 10.0
