"""A deployment on a screen, and for programs. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ops.health.advice import Advice
from ops.health.deployment import Deployment
from ops.health.saying import count, duration
from ops.health.verdict import healthy

if TYPE_CHECKING:
    from rich.console import Console

    from ops.health.topics import GroupFacts, TopicFacts

_STYLES = {"red": "bold red", "amber": "yellow", "hint": "dim"}


def plain(found: Deployment, advice: list[Advice]) -> dict[str, Any]:
    """All of it as JSON values; ages and times in seconds, lags in offsets."""
    cluster, clock = found.cluster, found.cluster.clock
    return {
        "healthy": healthy(advice),
        "advice": spoken(advice),
        "cluster": {
            "id": cluster.id,
            "brokers": [{"id": broker, "address": address} for broker, address in cluster.brokers.items()],
            "controller": cluster.controller,
            "version": cluster.release.words,
            "clock_ahead_s": None if clock is None else clock.ahead_s,
            "clock_within_s": None if clock is None else clock.within_s,
        },
        "topics": {facts.name: _topic(facts) for facts in found.topics.values()},
        "groups": [
            {"group": one.name, "of": one.of, "state": one.state, "members": one.members, "lag": dict(one.lag)}
            for one in found.groups
        ],
        "release": _made(found, "release"),
        "estimates": _made(found, "estimator"),
        "unlearned": found.unlearned,
        "dead_letters": {"last_hour": dict(found.letters.reasons), "more": found.letters.more},
        "events_last_hour": found.recent_events,
        "processes": [
            {
                "address": one.address,
                "kind": one.kind or None,
                "problem": one.problem or None,
                "ready": one.status.get("ready"),
                "release": one.status.get("release"),
            }
            for one in found.processes.known.values()
        ],
    }


def spoken(advice: list[Advice]) -> list[dict[str, str]]:
    """Advice as JSON values."""
    return [{"level": one.level, "words": one.words, "next": one.step} for one in advice]


def _topic(facts: TopicFacts) -> dict[str, Any]:
    return {
        "partitions": facts.partitions,
        "offsets": facts.offsets,
        "copies": facts.copies,
        "problems": facts.problems,
        "differs": {key: {"is": real, "made_as": made} for key, (real, made) in facts.differs.items()},
        "without_leader": facts.leaderless,
        "short_of_copies": facts.short,
    }


def _made(found: Deployment, what: str) -> dict[str, Any] | None:
    made = getattr(found.published, what, None)
    return None if made is None else {"id": getattr(made, what), "age_s": found.age(made.created)}


def show(found: Deployment, advice: list[Advice]) -> None:
    """Print it, the advice last, where the eye is."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    cluster = found.cluster
    leader = f", led by {cluster.controller}" if cluster.controller is not None else ""
    addresses = ", ".join(f"{broker} at {address}" for broker, address in cluster.brokers.items())
    console.print(f"Kafka {cluster.release.words}, brokers {escape(addresses)}{leader}")
    _topics(console, found)
    _groups(console, found)
    console.print()
    for line in _learned(found):
        console.print(escape(line))
    console.print()
    for one in advice:
        console.print(f"[{_STYLES[one.level]}]{'! ' if one.level != 'hint' else '  '}{escape(one.words)}[/]")
        if one.step:
            console.print(f"    {escape(one.step)}")
    if healthy(advice):
        console.print("[green]Nothing needs attention.[/]")


def _topics(console: Console, found: Deployment) -> None:
    rows = [
        (
            facts.name,
            str(facts.partitions or "missing"),
            count(facts.offsets) or "",
            str(facts.copies),
            "; ".join(_configuration(facts)) or "as it should be",
        )
        for facts in found.topics.values()
    ]
    _table(console, ("topic", "partitions", "offsets", "copies", "configuration"), rows, right=(1, 2, 3))


def _configuration(facts: TopicFacts) -> list[str]:
    if facts.problems:
        return ["see below"]
    return [f"{key} {real}, made with {made}" for key, (real, made) in facts.differs.items()]


def _groups(console: Console, found: Deployment) -> None:
    rows = [
        (
            one.name,
            one.of,
            one.state,
            str(one.members),
            _behind(one),
        )
        for one in found.groups
    ]
    _table(console, ("group", "of", "state", "members", "behind"), rows, right=(3,))


def _behind(group: GroupFacts) -> str:
    return ", ".join(f"{count(lag)} of {name}" for name, lag in group.lag.items())


def _table(console: Console, names: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for at, name in enumerate(names):
        table.add_column(name, justify="right" if at in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print()
    console.print(table)


def _learned(found: Deployment) -> list[str]:
    release, estimator = _made(found, "release"), _made(found, "estimator")
    waiting = found.unlearned
    lines = [
        "release    none"
        if release is None
        else f"release    {release['id']}, {duration(release['age_s'])} old"
        + (f", {count(waiting['training'])} events not learned" if "training" in waiting else ""),
        "estimates  none"
        if estimator is None
        else f"estimates  {duration(estimator['age_s'])} old, {count(waiting['estimators'])} outcomes not learned",
    ]
    reasons = ", ".join(f"{count(number)} {reason}" for reason, number in found.letters.reasons.items()) or "none"
    more = ", and more" if found.letters.more else ""
    lines.append(f"last hour  {count(found.recent_events)} events, dead letters: {reasons}{more}")
    for one in found.processes.known.values():
        state = one.problem or str(one.status.get("state", "ready" if one.status.get("ready") else "not ready"))
        lines.append(f"process    {one.address} {one.kind}: {state}")
    return lines
