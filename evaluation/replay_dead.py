"""Events that the log says were dead: what today's rules say of them, and whether a difference is one.

They stay dead in a replay whatever the rules say now: what a worker did not fold is in nobody's state. Knows the
contracts; knows nothing of Kafka, models or worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.fold import Folder
from streams.job import Record
from streams.pipeline import PipelineConfig

ENGINE_REASONS = ("handler_error", "too_large")
"""Reasons that the engine gives, not the fold: no rule says them again."""

OF_SETTINGS = ("unknown_action", "time_past", "time_future", "duplicate_id")
"""Reasons that hang on settings, which the log does not name: with others an event is taken, or refused otherwise."""

OF_THE_CONTRACT = ("schema", "unknown_kind")
"""Reasons that a newer contract may have done away with."""


def refused_today(
    record: Record, before: Sequence[Record], config: PipelineConfig, partition: int, states: Mapping[bytes, bytes]
) -> str | None:
    """Return why the rules of `config` refuse a record, or None when they take it.

    `before`: the events of its user that are not in `states` yet. Nothing is changed.
    """
    folder = Folder(partition, config.limits, config.rules)
    letters = folder.fold([*before, record], states).dead
    return next((letter.reason for letter in letters if letter.record.offset == record.offset), None)


def explained(logged: str, now: str | None) -> bool:
    """Whether other settings, or a newer contract, account for a letter's reason being `now`, or none, today."""
    return logged in OF_SETTINGS or (logged in OF_THE_CONTRACT and now is None)
