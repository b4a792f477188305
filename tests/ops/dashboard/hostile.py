"""Texts that would do harm where they are not escaped, and a dashboard that has seen them everywhere."""

from __future__ import annotations

from types import SimpleNamespace

from msgspec.structs import replace

from ops.contract_examples import EXAMPLES
from ops.dashboard.app import Dashboard
from ops.dashboard.lookup import User
from streams.contracts import Decision, Interaction, Item, Outcome, Recommendation, encode
from streams.deadletters import dead_letter_headers
from streams.names import Topics
from tests import small

ATTACKS = {
    "user": "<script>window.hacked='user'</script>",
    "item": "\"><img src=x onerror=window.hacked='item'>",
    "title": "</td><svg onload=window.hacked='title'>",
    "category": "'-window.hacked='category'-'</script><script>window.hacked=1</script>",
    "message": "javascript:window.hacked='message'<iframe srcdoc='<script>top.hacked=1</script>'>",
}

DECISION, RECOMMENDATION, OUTCOME = (
    next(one for one in EXAMPLES if isinstance(one, kind)) for kind in (Decision, Recommendation, Outcome)
)


def record(value: bytes | None, key: bytes = b"k", headers: list[tuple[str, bytes]] | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        value=value, key=key, headers=headers or [], partition=0, offset=7, timestamp=small.START, topic="t"
    )


def fill(dashboard: Dashboard) -> None:
    """Have it see attacks in every field that is shown."""
    seen, item = dashboard.seen, ATTACKS["item"]
    seen.take("items", record(encode(Item(item, ATTACKS["title"], categories=[ATTACKS["category"]]))))
    seen.take("events", record(encode(Interaction(ATTACKS["user"], item, small.START, action="view"))))
    seen.take("events", record(ATTACKS["message"].encode(), ATTACKS["user"].encode()))
    slate = replace(RECOMMENDATION, items=[item, *RECOMMENDATION.items[1:]])
    seen.take("recommendations", record(encode(slate)))
    outcome = replace(
        OUTCOME,
        items=[item, *OUTCOME.items[1:]],
        group=ATTACKS["user"][:64],
        item_groups=[ATTACKS["category"][:64]] * len(OUTCOME.items),
    )
    seen.take("outcomes", record(encode(outcome)))
    told = dead_letter_headers([], ATTACKS["message"], ATTACKS["message"], "events", 0, 1, small.START)
    seen.take("events.dlq", record(ATTACKS["message"].encode(), ATTACKS["user"].encode(), told))
    seen.take("models", record(encode({"kind": "release", "release": ATTACKS["title"], "created": 1}), b"release"))
    seen.topic("events").problem = ATTACKS["message"]
    dashboard.processes.take(
        dashboard.processes.known.setdefault("w:1", _process()),
        'driftline_build_info{process="worker",version="1"} 1\ndriftline_exposure_ratio{group="<b>"} 1\n',
        {"release": ATTACKS["title"], "state": ATTACKS["message"], "ready": True},
    )


def _process():  # type: ignore[no-untyped-def]
    from ops.health.processes import Process

    return Process(ATTACKS["title"])


def user() -> User:
    """What a lookup would find of a user whose every id is an attack."""
    item = ATTACKS["item"]
    slate = replace(RECOMMENDATION, user=ATTACKS["user"], items=[item, *RECOMMENDATION.items[1:]])
    older = replace(slate, items=slate.items[::-1], slate="0-1", release=ATTACKS["title"])
    decision = replace(
        DECISION, candidates=[item, *DECISION.candidates[1:]], drift=4.0, drift_topics={ATTACKS["category"]: 0.1}
    )
    found = User(ATTACKS["user"], 0, 1)
    found.events.append((7, small.START, Interaction(ATTACKS["user"], item, small.START, action="view")))
    found.slates.extend((small.START, one) for one in (slate, older, slate))
    found.decisions.append((small.START, decision))
    found.turns.extend([(small.START, 4.0), (small.START - 1000, None)])
    return found


def dashboard(token: str | None = None, endpoints: tuple[str, ...] = ("w:1",)) -> Dashboard:
    return Dashboard(None, Topics(), "app", endpoints, token)
