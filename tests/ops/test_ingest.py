"""Rows become records that the contracts accept, or say what is wrong."""

from __future__ import annotations

import datetime as dt
import time

import msgspec
import pytest

from ops.ingest import WrongUnit, event_record, item_record
from streams.contracts import Event, Impression, Interaction, Item
from streams.validation import BadMessage, EventRules

RULES = EventRules(actions=("view", "rate"))
SECONDS = 880_000_000
NOW = int(time.time())


def event(fields: dict, unit=None) -> Event:
    key, value = event_record(RULES, unit)(fields)
    decoded = msgspec.json.decode(value, type=Event)
    assert key == decoded.user.encode()
    return decoded


def test_a_csv_row_is_an_interaction_with_its_types():
    row = {"user": "196", "item": "242", "time": "880000000000", "action": "rate", "weight": "3", "id": "", "note": "x"}
    assert event(row) == Interaction(user="196", item="242", time=SECONDS * 1000, action="rate", weight=3.0)


def test_numbers_as_ids_become_text_and_missing_values_defaults():
    row = {"user": 196, "item": 242, "time": SECONDS * 1000, "weight": float("nan"), "slate": None}
    assert event(row) == Interaction(user="196", item="242", time=SECONDS * 1000)


@pytest.mark.parametrize("items", ["a|b", ["a", "b"]])
def test_an_impression_lists_its_items(items):
    row = {"kind": "impression", "user": "u", "time": SECONDS * 1000, "items": items, "slate": "0-1"}
    assert event(row) == Impression(user="u", time=SECONDS * 1000, items=["a", "b"], slate="0-1")


@pytest.mark.parametrize(
    ("fields", "unit"),
    [
        ({"time": str(SECONDS * 1000)}, None),
        ({"timestamp": str(SECONDS)}, None),
        ({"timestamp": f"{SECONDS}.0"}, None),
        ({"time": SECONDS}, "s"),
        ({"timestamp": SECONDS * 1000}, "ms"),
        ({"time": dt.datetime.fromtimestamp(SECONDS, dt.UTC)}, None),
        ({"timestamp": dt.datetime.fromtimestamp(SECONDS, dt.UTC).replace(tzinfo=None)}, None),
    ],
)
def test_time_is_in_ms_and_timestamp_in_s_unless_told(fields, unit):
    assert event({"user": "u", "item": "i"} | fields, unit).time == SECONDS * 1000


def test_fractions_of_a_second_are_kept():
    assert event({"user": "u", "item": "i", "timestamp": f"{SECONDS}.25"}).time == SECONDS * 1000 + 250


@pytest.mark.parametrize(
    ("fields", "hint"),
    [({"time": SECONDS}, "read in s it is 1997-11-20"), ({"timestamp": SECONDS * 1000}, "read in ms it is 1997-11-20")],
)
def test_a_time_in_the_other_unit_is_recognised(fields, hint):
    with pytest.raises(WrongUnit, match=hint):
        event({"user": "u", "item": "i"} | fields)


@pytest.mark.parametrize("fields", [{"time": 5}, {"timestamp": NOW + 86_400_000}])
def test_a_time_that_is_wrong_in_either_unit_is_just_wrong(fields):
    with pytest.raises(BadMessage) as caught:
        event({"user": "u", "item": "i"} | fields)
    assert not isinstance(caught.value, WrongUnit)
    assert caught.value.reason in ("time_past", "time_future")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"item": "i", "time": 1}, "missing required field `user`"),
        ({"user": "u", "item": "i"}, "there is no time; expected `time` (milliseconds) or `timestamp` (seconds)"),
        ({"user": "u", "item": "i", "time": "soon"}, "time is 'soon'; expected a number"),
        ({"user": "u", "item": "i", "time": True}, "time is True; expected a number"),
        ({"user": "u", "item": "i", "time": "nan"}, "time is 'nan'; expected a number"),
        ({"user": "u", "item": "i", "time": 1e300}, "<= 9007199254740992"),
        ({"user": "u", "item": "i", "time": SECONDS * 1000, "weight": "much"}, "weight is 'much'; expected a number"),
        ({"user": "u", "item": "i", "time": SECONDS * 1000, "action": "buy"}, "action is 'buy'; expected one of view"),
        ({"user": "u", "item": 2.5, "time": SECONDS * 1000}, "Expected `str`, got `float` - at `$.item`"),
        ({"user": "u", "time": SECONDS * 1000, "kind": "impression", "items": 5}, "Expected `array`, got `int`"),
        ({"user": "u", "time": SECONDS * 1000, "kind": "wish"}, "expected one of interaction"),
        ({"user": "u" * 300, "item": "i", "time": SECONDS * 1000}, "length <= 256"),
    ],
)
def test_a_bad_event_says_what_is_wrong(fields, says):
    with pytest.raises(BadMessage) as caught:
        event(fields)
    assert says in str(caught.value)


def test_items_with_everything_and_with_little():
    row = {"item": 1, "title": "Toy Story", "text": "", "categories": "Comedy|Animation", "year": "1995", "url": "x"}
    key, value = item_record(row)
    assert key == b"1"
    assert msgspec.json.decode(value, type=Item) == Item(
        item="1", title="Toy Story", categories=["Comedy", "Animation"], year=1995
    )
    assert msgspec.json.decode(item_record({"item": "2", "title": "B", "year": 1995.0})[1], type=Item).year == 1995
    for written, meant in (("True", True), ("0", False), (True, True), ("", False)):
        _, value = item_record({"item": "2", "title": "B", "withdrawn": written})
        assert msgspec.json.decode(value, type=Item).withdrawn is meant


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"item": "1"}, "missing required field `title`"),
        ({"item": "1", "title": "A", "year": "V"}, "year is 'V'; expected a number"),
        ({"item": "1", "title": "A", "categories": "a||b"}, "length >= 1"),
        ({"item": "1", "title": "A", "withdrawn": "soon"}, "withdrawn is 'soon'; expected true or false"),
    ],
)
def test_a_bad_item_says_what_is_wrong(fields, says):
    with pytest.raises(BadMessage) as caught:
        item_record(fields)
    assert says in str(caught.value)
