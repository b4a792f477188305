"""From messages to what training reads: what counts, what is forgotten, and that reading order does not matter."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.batches import InteractionLog
from streams.cluster import Cluster
from streams.contracts import Erase, Event, Impression, Interaction, Request, encode
from streams.rounds import user_code
from streams.topics import Topics
from streams.training import History, read_history, read_items
from tests import small
from tests.conftest import Wire

ITEMS = ["i0", "i1", "i2"]
T = small.START


def saw(user: str, item: str, time: int, **more: object) -> Interaction:
    return Interaction(user=user, item=item, time=T + time, **more)  # type: ignore[arg-type]


def collected(events: list[Event], until: int | None = None) -> InteractionLog:
    history = History(ITEMS, small.RULES.actions, until)
    for event in events:
        history.add(event)
    return history.log()


def columns(log: InteractionLog) -> list[list[float]]:
    return [array.tolist() for array in (log.users, log.items, log.times_ms, log.actions, log.weights)]


def test_interactions_become_columns():
    log = collected(
        [
            saw("b", "i2", 1),
            Request(user="b", time=T),
            Impression(user="a", time=T, items=["i0"]),
            saw("a", "i0", 3, action="rate", weight=4.5),
            saw("a", "new", 2),
        ]
    )
    users = [user_code(user) for user in ("b", "a", "a")]
    assert columns(log) == [users, [2, -1, 0], [T + 1, T + 2, T + 3], [0, 0, 1], [1.0, 1.0, 4.5]]
    assert (log.actions.dtype, log.weights.dtype) == (np.uint8, np.float32)


def test_an_erasure_takes_what_came_before_it_even_if_it_came_too_late():
    events = [saw("a", "i0", 1), saw("b", "i0", 2), Erase(user="a", time=T + 900), saw("a", "i2", 4)]
    assert columns(collected(events))[1:3] == [[0, 2], [T + 2, T + 4]]
    assert columns(collected(events, until=T + 4))[1:3] == [[0], [T + 2]]


def test_a_repeated_event_counts_once():
    events = [saw("a", "i0", 1, id="x"), saw("a", "i0", 1, id="x"), saw("b", "i0", 1, id="x"), saw("a", "i0", 1)]
    assert len(collected(events)) == 3


def test_an_erasure_takes_the_ids_of_events_too():
    erased = [saw("a", "i0", 1, id="x"), Erase(user="a", time=T + 2), saw("a", "i1", 3, id="x")]
    assert columns(collected(erased))[1] == [1]


def test_until_leaves_out_that_time_and_later():
    assert columns(collected([saw("a", "i0", 1), saw("a", "i1", 2)], until=T + 2))[2] == [T + 1]


def test_an_empty_history_is_an_empty_log():
    assert len(collected([])) == 0


def test_the_log_is_the_same_however_partitions_were_interleaved():
    dice = random.Random(1)
    partitions = [[saw(f"u{part}", f"i{dice.randrange(3)}", dice.randrange(5)) for _ in range(30)] for part in range(4)]
    logs = []
    for _ in range(3):
        left, events = [list(part) for part in partitions], []
        while any(left):
            events.append(dice.choice([part for part in left if part]).pop(0))
        logs.append(columns(collected(events)))
    assert logs[0] == logs[1] == logs[2]


def test_training_goes_on_after_the_last_event_or_at_the_first_that_was_too_late():
    history = History(ITEMS, small.RULES.actions, until=T + 10)
    for partition, offset, time in ((0, 4, 1), (0, 6, 2), (1, 3, 5), (1, 4, 10), (1, 5, 6), (2, 0, 11)):
        history.add(saw("a", "i0", time), (partition, offset))
    assert history.ends == {0: 7, 1: 4, 2: 0}


@pytest.mark.broker
async def test_reads_the_topics(cluster: Cluster, topics: Topics, wire: Wire):
    items = small.items(3)
    changed = small.item_vector(1, "love")
    records = [(item.item.encode(), encode(item)) for item in (*reversed(items.values()), changed)]
    await wire.produce(topics.item_vectors, [*records, (b"i2", None)])
    assert await read_items(cluster, topics.item_vectors) == [items["i0"], changed]

    events = [saw("a", "i0", 1), saw("b", "i1", 2), Erase(user="b", time=T + 3), saw("a", "i2", 4)]
    sent = [(event.user.encode(), encode(event)) for event in events]
    await wire.produce(topics.events, [*sent, (b"a", b"{"), (b"other", sent[0][1])])
    history = History(ITEMS, small.RULES.actions)
    assert await read_history(cluster, topics.events, history, small.RULES) == 2
    assert columns(history.log())[1:3] == [[0, 2], [T + 1, T + 4]]


@pytest.mark.broker
async def test_a_record_that_is_no_item_vector_is_named(cluster: Cluster, topics: Topics, wire: Wire):
    await wire.produce(topics.item_vectors, [(b"i1", b"{}")])
    with pytest.raises(ValueError, match=r"item_vectors, key b'i1': .* expected an item vector"):
        await read_items(cluster, topics.item_vectors)
