"""Driftline's own log for off-policy evaluation, from its topics, and the policy file that says what to evaluate.

Reads `decisions` and `outcomes` whole, committed records only. Knows topics and settings; computes no estimate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from evaluation.ope.slate_log import SlateTarget
from ops.errors import CliError
from ops.policy_files import read_policy_file
from ops.replaying import change_of
from streams.cluster import Cluster
from streams.contracts import Decision, Outcome
from streams.names import Topics
from streams.restore import read_to_end

Progress = Callable[[str, int], None]
Log = TypeVar("Log", covariant=True)


class Builder(Protocol[Log]):
    """Joins what is read."""

    left_out: Counter[str]

    def outcome(self, outcome: Outcome) -> None: ...

    def decision(self, decision: Decision) -> None: ...

    def build(self) -> Log: ...


_FIELDS = ("temperature", "epsilon", "beta", "k")
_SETTINGS = "policy_temperature, policy_epsilon, policy_beta, policy_slate_size, [terms], [adjustments]"

_decode_decision = msgspec.json.Decoder(Decision).decode
_decode_outcome = msgspec.json.Decoder(Outcome).decode


def slate_target(path: Path) -> SlateTarget:
    """Read a policy file for driftline's slates. Raises CliError naming field, value and expectation."""
    told = read_policy_file(path)
    factors = {name: _factors(path, name, told.pop(name, {})) for name in ("terms", "adjustments")}
    changed = dict(change_of(None, told).policy)
    for name in changed:
        if name not in _FIELDS:
            raise CliError(
                f"{path}: policy_{name} changes what is retrieved, or nothing that a probability depends on",
                f"The log knows its own candidates only. A policy file holds some of: {_SETTINGS}.",
            )
    if "policy_filter_seen" in told:
        raise CliError(f"{path}: policy_filter_seen changes what is retrieved", f"It holds some of: {_SETTINGS}.")
    size = changed.pop("k", None)
    return SlateTarget(**changed, size=size, terms=factors["terms"], adjustments=factors["adjustments"])


def _factors(path: Path, table: str, told: Any) -> Mapping[str, float]:
    if not isinstance(told, dict):
        raise CliError(f"{path}: {table} is {told!r}", f"Expected a table of factors: [{table}] and name = 0.5.")
    for name, value in told.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e6:
            raise CliError(
                f"{path}: {table}.{name} is {value!r}", "Expected a factor: 1 leaves it as it is, 0 takes it out."
            )
    return told


async def read_slates(
    cluster: Cluster,
    topics: Topics,
    builder: Builder[Log],
    since: int | None = None,
    until: int | None = None,
    progress: Progress = lambda what, count: None,
) -> Log:
    """Read both topics into the builder: slates whose event time (ms) is in [since, until).

    Raises CliError when no slate has both a decision and an outcome, saying what there is.
    """
    seen = {"outcomes": 0, "decisions": 0}

    def inside(time: int) -> bool:
        return (since is None or time >= since) and (until is None or time < until)

    def outcome(record: Any) -> None:
        if record.value is not None:
            message = _decode_outcome(record.value)
            if inside(message.time):
                seen["outcomes"] += 1
                builder.outcome(message)
                _tell("outcomes")

    def decision(record: Any) -> None:
        if record.value is not None:
            message = _decode_decision(record.value)
            if inside(message.time):
                seen["decisions"] += 1
                builder.decision(message)
                _tell("decisions")

    def _tell(what: str) -> None:
        if seen[what] % 1000 == 1:
            progress(what, seen[what])

    # Outcomes first: a slate whose outcome is among those read was decided before.
    await read_to_end(cluster, topics.outcomes, outcome)
    await read_to_end(cluster, topics.decisions, decision)
    try:
        return builder.build()
    except ValueError as error:
        reasons = "; ".join(f"{count} × {reason}" for reason, count in builder.left_out.most_common(3) if count)
        raise CliError(
            f"{error}: {seen['decisions']} decisions and {seen['outcomes']} outcomes are in the range"
            + (f" ({reasons})" if reasons else ""),
            "An outcome is written when a slate's window closes (state_outcome_window_s).",
        ) from error
