"""What each part of driftline must be allowed to do on a cluster with access control, and nothing more; pure data.

Reading and writing a topic include describing it, and writing one includes the idempotent producer (Kafka 3 and
later). Knows the names that the parts use; knows nothing about principals or about how rules get into a cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from streams.names import Topics

Role = Literal[
    "worker",
    "learner",
    "embedder",
    "trainer",
    "producer",
    "catalogue",
    "subscriber",
    "auditor",
    "replayer",
    "eraser",
    "mender",
    "purger",
    "admin",
]
Resource = Literal["topic", "group", "transactional-id"]
Pattern = Literal["literal", "prefixed"]
Operation = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs"]

ROLES: tuple[Role, ...] = get_args(Role)

PURPOSES: dict[Role, str] = {
    "worker": "`driftline worker`",
    "learner": "`driftline learn`",
    "embedder": "`driftline embed`",
    "trainer": "`driftline train`",
    "producer": "what sends events: `driftline events send`, or a program of yours",
    "catalogue": "what sends items: `driftline items send`, or a program of yours",
    "subscriber": "what reads slates: `driftline recommend` and `watch`, or a program of yours",
    "auditor": "`driftline audit`",
    "replayer": "`driftline replay`",
    "eraser": "`driftline erase`, which reads everything to prove what is left",
    "mender": "`driftline dlq list`, `show` and `replay`",
    "purger": "`driftline dlq purge`; Kafka lets who may delete records of a topic delete all of it",
    "admin": "`driftline topics create` and `verify`",
}


class Acl(NamedTuple):
    """One permission: `operation` on the resource of that name, or on all whose names begin with it (prefixed)."""

    resource: Resource
    name: str
    pattern: Pattern
    operation: Operation


def acls(role: Role, topics: Topics, app_id: str) -> tuple[Acl, ...]:
    """All that a role needs, in a fixed order."""
    return _RULES[role](topics, app_id)


def topics_of(role: Role, topics: Topics) -> dict[str, bool]:
    """The topics that a role uses, and whether it may look at their configuration."""
    rules = [acl for acl in acls(role, topics, "") if acl.resource == "topic"]
    inspected = {acl.name for acl in rules if acl.operation == "DescribeConfigs"}
    return {acl.name: acl.name in inspected for acl in rules}


def _worker(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    reads = (topics.events, topics.item_vectors, topics.models, topics.state)
    writes = (topics.recommendations, topics.decisions, topics.outcomes, topics.state, topics.events_dlq)
    return (
        *_on(reads, "Read"),
        *_on(writes, "Write"),
        *_on(dict.fromkeys(reads + writes), "DescribeConfigs"),  # it refuses to start on topics that would lose data
        Acl("group", app_id, "literal", "Read"),
        # Each partition of events has two: see streams/transactions.py.
        Acl("transactional-id", f"{app_id}-{topics.events}-", "prefixed", "Write"),
    )


def _learner(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return (
        *_on((topics.outcomes, topics.models, topics.events, topics.item_vectors), "Read"),
        *_on((topics.models,), "Write"),
        *_on((topics.outcomes, topics.models, topics.events, topics.item_vectors), "DescribeConfigs"),
        Acl("group", f"{app_id}-learner", "literal", "Read"),
        Acl("transactional-id", f"{app_id}-learner", "literal", "Write"),
        Acl("transactional-id", f"{app_id}-trainer", "literal", "Write"),
    )


def _embedder(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return (
        *_on((topics.items,), "Read"),
        *_on((topics.item_vectors, topics.items_dlq), "Write"),
        *_on((topics.items, topics.item_vectors, topics.items_dlq), "DescribeConfigs"),
        Acl("group", f"{app_id}-embed", "literal", "Read"),
    )


def _trainer(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return (
        *_on((topics.item_vectors, topics.events), "Read"),
        *_on((topics.models,), "Write"),
        Acl("transactional-id", f"{app_id}-trainer", "literal", "Write"),
    )


def _producer(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return _on((topics.events,), "Write")


def _catalogue(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return _on((topics.items,), "Write")


def _subscriber(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return _on((topics.recommendations, topics.item_vectors), "Read")


def _auditor(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return (
        *_on((topics.events, topics.recommendations, topics.decisions, topics.events_dlq), "Read"),
        Acl("group", app_id, "literal", "Describe"),
    )


def _replayer(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    world = (topics.item_vectors, topics.models)
    return _on((topics.events, topics.decisions, topics.recommendations, topics.events_dlq, *world), "Read")


def _eraser(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return (*_on((topics.events,), "Write"), *_on(topics.all, "Read"), *_on(topics.all, "DescribeConfigs"))


def _mender(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    sources, letters = (topics.events, topics.items), (topics.events_dlq, topics.items_dlq)
    ids = [Acl("transactional-id", f"{app_id}-dlq-replay-{name}", "literal", "Write") for name in letters]
    # What was undone since is not sent again: sources are read. Notes of what was sent lie among the letters.
    return (*_on((*sources, *letters), "Read"), *_on((*sources, *letters), "Write"), *ids)


def _purger(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    letters = (topics.events_dlq, topics.items_dlq)
    return (*_on(letters, "Read"), *_on(letters, "Delete"))


def _admin(topics: Topics, app_id: str) -> tuple[Acl, ...]:
    return tuple(acl for operation in ("Create", "Describe", "DescribeConfigs") for acl in _on(topics.all, operation))


_RULES = {
    "worker": _worker,
    "learner": _learner,
    "embedder": _embedder,
    "trainer": _trainer,
    "producer": _producer,
    "catalogue": _catalogue,
    "subscriber": _subscriber,
    "auditor": _auditor,
    "replayer": _replayer,
    "eraser": _eraser,
    "mender": _mender,
    "purger": _purger,
    "admin": _admin,
}


def _on(topics: Iterable[str], operation: Operation) -> tuple[Acl, ...]:
    return tuple(Acl("topic", name, "literal", operation) for name in topics)
