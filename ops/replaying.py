"""Replaying a whole log: partition by partition, into one account of what came out.

Knows settings, topics and releases; knows nothing of how a slate is computed or compared.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.replay import Change, Replay
from evaluation.replay_compare import Comparison, shown
from evaluation.replay_verdict import Replayed
from evaluation.replay_world import Worlds
from models.release import Release
from models.serving import ServingModel
from ops.configuration import worker_config
from ops.errors import CliError
from ops.replay_log import LogReader
from ops.settings import Settings
from streams.cluster import Cluster
from streams.job import Record
from streams.names import Topics

_LISTED = 20
_OF_POLICY = {"policy_slate_size": "k", "policy_filter_seen": None}
"""Settings whose name in the policy is another, or that are not in it."""


@dataclass(slots=True)
class Account:
    """What came out of a replay.

    Attributes:
        slates: decisions in the range.
        choices_differ: slates whose choice does not come out of their own record; must be none.
        verdicts: how many slates of each.
        notes: the commonest reasons given, with how many slates.
        examples: of slates that are not the same: slate, user, verdict, note, items sent, items computed.
        base_error, correction_error: largest difference of a model's score, and of a correction.
        unrecorded, dead_differences, dead_unchecked, conflicts: see `evaluation.replay.Replay`.
        gaps: partitions whose log no longer has its beginning: (partition, first offset).
        begins, ends: when the first and the last event that the log has were appended, ms; None: there are none.
    """

    slates: int = 0
    choices_differ: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    base_error: float | None = None
    correction_error: float | None = None
    unrecorded: list[tuple[int, int]] = field(default_factory=list)
    dead_differences: list[tuple[int, int, str | None, str | None]] = field(default_factory=list)
    dead_unchecked: list[tuple[int, int, str | None, str | None]] = field(default_factory=list)
    conflicts: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    begins: int | None = None
    ends: int | None = None

    def take(self, one: Replayed) -> None:
        self.slates += 1
        self.verdicts[one.verdict] += 1
        self.base_error = _largest(self.base_error, one.base_error)
        self.correction_error = _largest(self.correction_error, one.correction_error)
        if not one.choice:
            self.choices_differ.append(one.recorded.slate)
        if one.note is not None:
            self.notes[one.note] += 1
        if one.verdict not in ("same", "unchecked") and len(self.examples) < _LISTED:
            made = None if one.made is None else shown(one.made)
            told = {"slate": one.recorded.slate, "user": one.recorded.user, "verdict": one.verdict, "note": one.note}
            self.examples.append({**told, "sent": shown(one.recorded), "computed": made})

    def covers(self, events: Sequence[Record]) -> None:
        """Take note of a partition's events, whether they are asked for or not."""
        for event in events:
            self.begins = event.timestamp if self.begins is None else min(self.begins, event.timestamp)
            self.ends = event.timestamp if self.ends is None else max(self.ends, event.timestamp)

    @property
    def same(self) -> bool:
        """Whether nothing came out otherwise; what could not be checked is no difference."""
        found = (self.choices_differ, self.unrecorded, self.dead_differences, self.conflicts)
        return not self.verdicts["different"] and not any(found)

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "verdicts": dict(self.verdicts), "notes": dict(self.notes.most_common(_LISTED))}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to replay: appended from `since` to before `until` (ms), with a `change` or none."""

    since: int
    until: int | None
    change: Change


def run(
    settings: Settings, cluster: Cluster, wanted: Wanted, progress: Callable[[str, int], None]
) -> tuple[Account, Comparison]:
    """Replay all partitions. Raises CliError when a topic, or the release to compare with, is not there."""
    topics = Topics(settings.topic_prefix)
    config = worker_config(settings, cluster)
    try:
        replace(config.pipeline.policy, **wanted.change.policy)
    except ValueError as error:
        raise CliError(f"no such policy: {error}", "Correct the policy file.") from error
    loader = _loader(settings.releases_dir, config.pipeline.limits.events)
    if wanted.change.release is not None:
        try:
            loader(wanted.change.release)
        except (OSError, ValueError) as error:
            raise CliError(
                f"release {wanted.change.release} cannot be loaded from {settings.releases_dir}: {error}",
                "`ls` that folder for what there is, or set DRIFTLINE_RELEASES_DIR.",
            ) from error
    reader = LogReader(cluster, topics, progress)
    common = asyncio.run(reader.common())
    worlds = Worlds(common.changes, common.snapshots, loader)
    replay = Replay(config.pipeline, worlds, wanted.change)
    account, comparison = Account(), Comparison()
    for number in sorted(common.begins):
        log = asyncio.run(reader.partition(number, common))
        account.covers(log.events)
        if log.begins:
            account.gaps.append((number, log.begins))
        for count, one in enumerate(replay.run(log, wanted.since, wanted.until), 1):
            account.take(one)
            if wanted.change:
                comparison.take(one)
            if count % 100 == 1:
                progress(f"partition {number}: slates computed", count)
        replay.states.pop(number)  # nobody asks for them here
    account.unrecorded, account.conflicts = replay.unrecorded, replay.conflicts
    account.dead_differences, account.dead_unchecked = replay.dead_differences, replay.dead_unchecked
    return account, comparison


def change_of(release: str | None, policy: Mapping[str, Any]) -> Change:
    """What is to be changed; `policy` as a policy file gives it: settings named policy_… . Raises CliError."""
    import difflib
    from typing import Annotated

    from pydantic import TypeAdapter, ValidationError

    known = [name for name in Settings.model_fields if name.startswith("policy_")]
    values: dict[str, Any] = {}
    for name, value in policy.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise CliError(
                f"{name} is not a setting of the policy" + (f"; did you mean {near[0]}?" if near else ""),
                f"A policy file holds some of: {', '.join(known)}.",
            )
        setting = Settings.model_fields[name]
        try:
            kind: Any = Annotated[setting.annotation, setting]
            values[name] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise CliError(
                f"{name} = {value!r}: {error.errors()[0]['msg']}", "Correct it in the policy file."
            ) from error
    seen = values.pop("policy_filter_seen", None)
    fields = {_OF_POLICY.get(name) or name.removeprefix("policy_"): value for name, value in values.items()}
    return Change(release, fields, seen)


def _loader(folder: Path, events: int) -> Callable[[str], ServingModel]:
    def load(release: str) -> ServingModel:
        model = ServingModel(Release.load(folder / release))
        if model.config.history > events:
            raise ValueError(f"it needs the last {model.config.history} events of a user, state_events is {events}")
        return model

    return load


def _largest(known: float | None, found: float | None) -> float | None:
    return known if found is None else max(known or 0.0, found)
