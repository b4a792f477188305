from __future__ import annotations

import tomllib

import pytest

from policy.fairness import FairnessConfig
from policy.rules import Pin, RuleError, Rules, Shift, Target

GOOD = """
[[boost]]
categories = ["Drama", "War"]
by = 0.5
[[bury]]
items = ["174"]
by = 2
users = ["u1"]
[[pin]]
item = "50"
position = 1
[[pin]]
item = "51"
position = 3
users = ["u1", "u2"]
[[filter]]
categories = ["Horror"]
items = ["9"]
[[cap]]
category = "Drama"
most = 3
[fairness]
items = {a = ["Drama"], b = ["War"]}
"""


def test_a_file_with_every_table() -> None:
    rules = Rules.of(tomllib.loads(GOOD))
    assert rules.boosts == (Shift(Target(categories=frozenset({"Drama", "War"})), 0.5),)
    assert rules.buries == (Shift(Target(items=frozenset({"174"}), users=frozenset({"u1"})), -2.0),)
    assert rules.pins == (Pin("50", 1), Pin("51", 3, frozenset({"u1", "u2"})))
    assert rules.filters == (Target(frozenset({"9"}), frozenset({"Horror"})),)
    assert rules.caps == {"Drama": 3}
    assert rules.fairness == FairnessConfig({"a": ["Drama"], "b": ["War"]})
    assert rules
    assert not Rules.of({})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[boots]]", r"\[boots\] is no table of rules, expected one of boost, bury"),
        ("[boost]\nby = 1", r"boost = .*, expected tables of their own: \[\[boost\]\]"),
        ('[[boost]]\nitems = ["1"]', r"\[\[boost\]\] number 1: by is missing, expected a number above 0, at most 100"),
        ('[[boost]]\nitems = ["1"]\nby = -1', r"\[\[boost\]\] number 1: by = -1, expected a number above 0"),
        ('[[boost]]\nitems = ["1"]\nby = nan', "by = nan, expected a number"),
        ('[[boost]]\nitems = ["1"]\nby = true', "by = True, expected a number"),
        ("[[bury]]\nby = 1", r"\[\[bury\]\] number 1: items and categories are missing"),
        ('[[bury]]\nitems = "1"\nby = 1', r"items = '1', expected a list of one or more texts"),
        ("[[filter]]\ncategories = []", r"categories = \[\], expected a list of one or more texts"),
        ('[[filter]]\nitems = ["1"]\nuser = ["u"]', r"user = \['u'\] is not a field of it, expected items, categories"),
        (
            '[[pin]]\nitem = "1"\nposition = 0',
            r"\[\[pin\]\] number 1: position = 0, expected a whole number, 1 or more",
        ),
        ('[[pin]]\nitem = "1"\nposition = 1.5', "position = 1.5, expected a whole number"),
        ("[[pin]]\nitem = 1\nposition = 1", "item = 1, expected a text"),
        ('[[pin]]\nitem = "1"\nposition = 1\n[[pin]]\nitem = "2"\nposition = 1', "number 2: position = 1 is that of"),
        ('[[pin]]\nitem = "1"\nposition = 1\n[[pin]]\nitem = "1"\nposition = 2', "number 2: item = '1' is that of"),
        ('[[cap]]\ncategory = "a"\nmost = -1', r"\[\[cap\]\] number 1: most = -1, expected a whole number, 0 or more"),
        ('[[cap]]\ncategory = "a"\nmost = 1\n[[cap]]\ncategory = "a"\nmost = 2', "category = 'a' stands there twice"),
        ("fairness = 3", "fairness = 3, expected a table"),
        ("[fairness]\ngain = 1", r"\[fairness\]: items is None, expected a table"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(RuleError, match=said):
        Rules.of(tomllib.loads(text))


def test_pins_of_different_users_may_share_a_position() -> None:
    text = '[[pin]]\nitem = "1"\nposition = 1\nusers = ["a"]\n[[pin]]\nitem = "2"\nposition = 1\nusers = ["b"]'
    assert len(Rules.of(tomllib.loads(text)).pins) == 2
