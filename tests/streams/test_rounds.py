"""What a span of records says to the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import msgspec
import numpy as np
import pytest

from policy.reward import LARGEST_WEIGHT
from streams import rounds
from streams.contracts import Erase, Event, Interaction, Request, encode
from streams.rounds import Round, RoundReader, slate_log, user_code
from tests import small
from tests.streams.outcomes import outcomes

_offsets = count()


@dataclass
class Told:
    key: bytes | None
    value: bytes | None
    timestamp: int = small.START + 10**6
    partition: int = 0
    offset: int = 0


def told(event: Event, timestamp: int = small.START + 10**6) -> Told:
    return Told(event.user.encode(), encode(event), timestamp, 0, next(_offsets))


def did(user: str, item: str, id: str | None = None, **more: object) -> Interaction:
    return msgspec.structs.replace(Interaction(user, item, small.START, id=id), **more)


def read(*events: Event) -> Round:
    return RoundReader(small.RULES).read({0: [told(event) for event in events]})


def test_interactions_become_columns_and_nothing_else_is_learned():
    found = read(
        did("u", "i1"), Request("u", small.START), did("v", "i2", action="rate", weight=4.0, time=7 + small.START)
    )
    assert found.users.tolist() == [user_code("u"), user_code("v")]
    assert found.items == ["i1", "i2"]
    assert found.times_ms.tolist() == [small.START, small.START + 7]
    assert found.actions.tolist() == [0, 1]
    assert found.weights.tolist() == [1.0, 4.0]
    assert (found.erased, found.bad) == ([], 0)


def test_an_erasure_takes_what_the_user_did_before_it_and_nothing_else():
    found = read(did("u", "i1"), did("v", "i2"), Erase("u", small.START), did("u", "i3"))
    assert found.items == ["i2", "i3"]
    assert found.erased == [user_code("u")]


def test_what_a_worker_dead_letters_is_counted_and_left_out():
    bad = [
        Told(b"u", b"{"),
        Told(b"u", None),
        Told(b"other", encode(did("u", "i1"))),
        told(did("u", "i1", action="eat")),
    ]
    found = RoundReader(small.RULES).read({0: [*bad, told(did("u", "i2"))]})
    assert found.items == ["i2"]
    assert found.bad == 4


def test_an_event_id_counts_once_for_a_user_also_in_a_later_round():
    reader = RoundReader(small.RULES)
    first = reader.read({0: [told(did("u", "i1", "e1")), told(did("u", "i2", "e1")), told(did("v", "i3", "e1"))]})
    assert first.items == ["i1", "i3"]
    again = RoundReader(small.RULES, reader.ids.tolist())
    for one in (reader, again):
        assert one.read({0: [told(did("u", "i4", "e1")), told(did("u", "i5", "e2"))]}).items == ["i5"]


def test_the_oldest_event_ids_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rounds, "REMEMBERED_IDS", 2)
    reader = RoundReader(small.RULES)
    reader.read({0: [told(did("u", "i1", f"e{number}")) for number in range(3)]})
    assert len(reader.ids) == 2
    assert reader.read({0: [told(did("u", "i2", "e0")), told(did("u", "i3", "e2"))]}).items == ["i2"]


def test_partitions_are_merged_by_arrival_but_never_reordered():
    base = small.START + 10**6
    first = [told(did("u", "a"), base + 5), told(did("u", "b"), base + 1)]  # the producer's clock went back
    second = [told(did("v", "c"), base + 2), told(did("v", "d"), base + 9)]
    found = RoundReader(small.RULES).read({1: second, 0: first})
    assert found.items == ["c", "a", "b", "d"]
    assert RoundReader(small.RULES).read({0: first, 1: second}).items == found.items


def test_what_answered_a_slate_weighs_its_bounded_pseudo_reward():
    (outcome,) = outcomes(1)
    rewards = [1.0, 0.0, 2.0] + [0.0] * 7
    inclusion = [0.5, 0.5, 1e-6] + [0.5] * 7
    clicked = msgspec.structs.replace(outcome, rewards=rewards, inclusion=inclusion)
    external = msgspec.structs.replace(clicked, inclusion=None)
    found = RoundReader(small.RULES).read({}, {0: [Told(b"u", encode(clicked)), Told(b"u", encode(external))]})
    user = user_code(outcome.user)
    # r̂ of nothing learned is a half, the first position is looked at: .5 + 2 · (1 − .5).
    assert found.shown == [(user, outcome.items[0], 1.5), (user, outcome.items[2], LARGEST_WEIGHT)]
    assert RoundReader(small.RULES).read({}, {0: [Told(b"u", b"{")]}).bad == 1
    lying = msgspec.structs.replace(outcome, candidates=3)
    assert RoundReader(small.RULES).read({}, {0: [Told(b"u", encode(lying))]}).bad == 1


def test_codes_are_the_same_everywhere_and_use_the_sign():
    codes = np.array([user_code(f"u{number}") for number in range(1000)])
    assert len(np.unique(codes)) == 1000
    assert (codes < 0).any() and (codes > 0).any()
    assert user_code("u0") == user_code("u0")


def test_slates_go_along_as_they_were_looked_at_and_who_answers_one_says_so():
    found = read(did("u", "i1", slate="0-1"), did("u", "i2"))
    assert found.answers.tolist() == [True, False]
    outcome = msgspec.structs.replace(
        outcomes(1)[0], origin="driftline", items=["i1", "i2", "i3"], rewards=[0.0, 2.0, 0.0]
    )
    outcome = msgspec.structs.replace(outcome, inclusion=None, conditional=None, propensity=None, pinned=[], swapped=[])
    others = msgspec.structs.replace(outcome, origin="external")
    reader = RoundReader(small.RULES)
    given = [Told(one.user.encode(), encode(one)) for one in (outcome, others)]
    slates = reader.read({}, {0: given}).slates
    assert [user for user, _ in slates] == [user_code(outcome.user)]
    log = slate_log(slates, {"i1": 4, "i2": 7})
    assert log.items.tolist() == [[4, 7, -1]]
    assert log.clicks.tolist() == [[False, True, False]]
    assert log.examination[0, 0] == 1 > log.examination[0, 1] > log.examination[0, 2]
    assert log.times_ms.tolist() == [outcome.time]
