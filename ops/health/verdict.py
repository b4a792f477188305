"""What a deployment needs, from what was read of it: pure judgement, in words, with the next step.

Knows nothing of Kafka clients or of how advice is shown.
"""

from __future__ import annotations

from collections.abc import Iterator

from ops.health.advice import RELEASE_AMBER_S, Advice, of_lag, of_pages, worst_first
from ops.health.deployment import EMBEDDERS, LEARNERS, WORKERS, Deployment
from ops.health.saying import count, duration

ESTIMATOR_AMBER_S = 15 * 60.0
LETTERS_AMBER = 0.01
"""Of the events of the last hour."""


def verdict(found: Deployment) -> list[Advice]:
    """All there is to say, the most urgent first."""
    if not any(topic.partitions for topic in found.topics.values()):
        return [Advice("red", "none of the topics exists", "Create them with `driftline topics create`.")]
    parts = (_topics, _workers, _release, _catalogue, _learning, _letters, _pages)
    return worst_first(one for part in parts for one in part(found))


def healthy(advice: list[Advice]) -> bool:
    """Whether nothing needs attention."""
    return all(one.level == "hint" for one in advice)


def _topics(found: Deployment) -> Iterator[Advice]:
    for topic in found.topics.values():
        for problem in topic.problems:
            what, _, mend = problem.partition(": ")
            yield Advice("red", what, mend[:1].upper() + mend[1:])
        if topic.leaderless:
            words = f"{topic.leaderless} of {topic.partitions} partitions of {topic.name} have no leader"
            yield Advice("red", words, "Is a broker away? Nothing can be read or written there until it is back.")
        if topic.short:
            words = f"{topic.short} of {topic.partitions} partitions of {topic.name} have fewer copies than they should"
            yield Advice("amber", words, "Is a broker away, or behind?")


def _workers(found: Deployment) -> Iterator[Advice]:
    group = found.group(WORKERS)
    if not group.members:
        yield Advice("red", f"no worker is in group {group.name}", "Start one: `driftline worker`.")
    elif "rebalance" in group.state:
        yield Advice("hint", "partitions are being given to other workers just now", "Look again in some seconds.")
    yield from of_lag(sum(group.lag.values()))
    if not found.topics["events"].offsets:
        yield Advice("hint", "there are no events", "Send some: `driftline events send FILE`.")


def _release(found: Deployment) -> Iterator[Advice]:
    if found.unreadable:
        yield Advice("red", f"what is published cannot be read: {found.unreadable}")
    elif found.published is None or found.published.release is None:
        step = "Make one of the events and vectors that are there: `driftline train`."
        yield Advice("red", "no release is published, so that nothing is recommended", step)
    else:
        age, waiting = found.age(found.published.release.created), found.unlearned.get("training", 0)
        if age > RELEASE_AMBER_S and waiting:
            words = f"the release is {duration(age)} old, and {count(waiting)} events have come that it has not learned"
            yield Advice("amber", words, "Is a learner active, and does it let its releases pass? See its log.")


def _catalogue(found: Deployment) -> Iterator[Advice]:
    if not found.topics["items"].offsets:
        yield Advice("hint", "the catalogue is empty", "Send items: `driftline items send FILE`.")
    group = found.group(EMBEDDERS)
    waiting = sum(group.lag.values())
    if waiting and not group.members:
        yield Advice("amber", f"{count(waiting)} items wait, and no embedder runs", "Start one: `driftline embed`.")


def _learning(found: Deployment) -> Iterator[Advice]:
    published = found.published
    if published is None or published.release is None:
        return
    if not found.group(LEARNERS).members:
        words = "no learner runs: estimates and weights stay as they are"
        yield Advice("amber", words, "Start one: `driftline learn`.")
    waiting = found.unlearned.get("estimators", 0)
    if published.estimator is not None and waiting:
        age = found.age(published.estimator.created)
        if age > ESTIMATOR_AMBER_S:
            words = f"the estimates are {duration(age)} old, and {count(waiting)} outcomes wait to be learned"
            yield Advice("amber", words, "Is a learner active? See its log.")


def _letters(found: Deployment) -> Iterator[Advice]:
    letters = found.letters
    if letters.count > LETTERS_AMBER * found.recent_events:
        reason = next(iter(letters.reasons))
        number = f"{'more than ' if letters.more else ''}{count(letters.count)}"
        words = f"{number} events and items of the last hour could not be used, mostly: {reason}"
        yield Advice("amber", words, "See why: `driftline dlq list --since 1h` (docs/dead-letters.md says what to do).")


def _pages(found: Deployment) -> Iterator[Advice]:
    if found.processes.endpoints:
        yield from of_pages(found.processes)
    else:
        step = "Set DRIFTLINE_DASHBOARD_ENDPOINTS to what they were given as --web-port."
        yield Advice("hint", "the pages of workers and learners are not asked", step)
