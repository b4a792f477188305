"""The load: the same seed gives the same events; each bad one is bad for the reason it carries, the others are good."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from ops.chaos.schedule import POISONS
from ops.chaos.traffic import ACTIONS, START_MS, Event, Shown, Traffic
from streams.state import StateLimits, UserState
from streams.validation import BadMessage, EventRules, cloud_event, decode_event

RULES = EventRules(actions=ACTIONS)
SHOWN = {f"u{number}": Shown(f"0-{number}", ["i1", "i2"]) for number in range(0, 50, 2)}


def stream(count: int, seed: int = 4) -> list[Event]:
    traffic = Traffic(seed, users=50, rate=100)
    return [traffic.good(SHOWN) for _ in range(count)]


def test_the_same_seed_gives_the_same_events() -> None:
    assert stream(200) == stream(200)
    assert stream(200) != stream(200, seed=5)


def test_good_events_are_let_in_and_there_is_some_of_everything() -> None:
    decoded = [decode_event(one.key, one.value, START_MS + 10**9, RULES) for one in stream(2000)]
    kinds = Counter(type(one).__name__ for one in decoded)
    assert min(kinds[name] for name in ("Interaction", "Impression", "Request", "Erase")) >= 8
    assert any(getattr(one, "slate", 1) is None for one in decoded if type(one).__name__ == "Impression")
    assert len({one.id for one in decoded}) == 2000
    assert decoded[-1].time - decoded[0].time == pytest.approx(200_000, abs=40_000)  # ten times 20 seconds
    users = Counter(one.user for one in decoded)
    assert users.most_common(1)[0][1] > 10 * min(users.values())


@pytest.mark.parametrize("poison", POISONS)
def test_a_bad_event_is_bad_for_the_reason_it_carries(poison: str) -> None:
    traffic, state = Traffic(1, 50, 100), UserState()
    if poison == "duplicate_id":
        assert traffic.bad(poison) is None
        first = traffic.good({})
        while b'"erase"' in (first.value or b""):
            first = traffic.good({})
        assert state.remember_id(msgspec.json.decode(first.value or b"")["id"], StateLimits(events=1))
    bad = traffic.bad(poison)
    assert bad is not None and bad.poison == poison
    with pytest.raises(BadMessage) as caught:
        cloud_event(bad.headers)
        event = decode_event(bad.key, bad.value, START_MS + 10**9, RULES)
        if event.id is not None and not state.remember_id(event.id, StateLimits(events=1)):
            raise BadMessage("duplicate_id", "seen before")
    assert caught.value.reason == poison


def test_the_last_events_are_so_much_later() -> None:
    traffic = Traffic(1, 50, 100)
    before = msgspec.json.decode(traffic.last(["u1"], 0)[0].value or b"")["time"]
    (event,) = traffic.last(["u1"], 120)
    assert msgspec.json.decode(event.value or b"")["time"] - before == pytest.approx(120_000, abs=200)
