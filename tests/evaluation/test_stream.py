import numpy as np
import pytest

from tests.evaluation.streams import made, stream
from tests.small import START

EVENTS = """
a x 0
b x 0
a y 0
a x 5
b z 7
"""


def test_what_is_known_of_every_event() -> None:
    events = stream(EVENTS, listed=("z", "w"))
    assert events.item_ids == ["z", "w", "x", "y"]
    assert events.known_from.tolist() == [-1, -1, 0, 2]
    assert events.previous.tolist() == [-1, -1, 0, 2, 1]
    assert events.tied.tolist() == [False, False, True, False, False]
    assert events.item_events.tolist() == [0, 1, 0, 2, 0]
    assert events.user_events.tolist() == [0, 0, 1, 2, 1]
    assert events.repeated.tolist() == [False, False, False, True, False]


def test_the_cut_is_a_moment() -> None:
    """Events 0 to 2 have one time: a warm-up of two events would divide them, so it would be empty."""
    events = stream(EVENTS)
    assert events.cut(0.6) == events.cut(3) == 3
    assert events.cut(0.8) == 4
    with pytest.raises(ValueError, match="same time"):
        events.cut(2)
    tied = stream("a x 0\na y 1\nb x 2\nb y 2\nc x 3")
    assert tied.cut(3) == 2


@pytest.mark.parametrize("warm_up", [0, 5, 0.01, 99])
def test_a_cut_leaves_something_on_both_sides(warm_up: float) -> None:
    with pytest.raises(ValueError, match="warm-up"):
        stream(EVENTS).cut(warm_up)


def test_a_head_knows_nothing_of_the_rest() -> None:
    head = stream(EVENTS, listed=("w",)).head(3)
    assert len(head) == 3
    assert (head.item_ids, head.user_ids, head.listed) == (["w", "x", "y"], ["a", "b"], 1)
    assert head.known_from.tolist() == [-1, 0, 2]


def test_order_and_codes_are_checked() -> None:
    two = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="backwards"):
        made(two, two, np.array([START, START - 1]), ["a"], ["x"])
    with pytest.raises(ValueError, match="items"):
        made(two, two + 1, two, ["a"], ["x"])
