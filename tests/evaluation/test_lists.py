import io

import numpy as np
import pytest

from evaluation.lists import ListedArm, read_lists, write_lists
from evaluation.prequential import play
from tests.evaluation.streams import stream

EVENTS = stream("a x\nb ÿ\na z\nb x\nc z")


def test_what_is_written_is_read_and_scored() -> None:
    lists = np.array([[0, 1, 2], [0, -1, -1], [2, 0, 1]])
    file = io.StringIO()
    write_lists(file, EVENTS, 2, lists)
    assert file.getvalue().splitlines()[:2] == ['{"event": 2, "topk": ["x", "ÿ", "z"]}', '{"event": 3, "topk": ["x"]}']
    read = read_lists(file.getvalue().splitlines(), EVENTS, 2, 3)
    assert (read == lists).all()
    later = np.array([[0, 1, -1], [0, -1, -1], [2, 0, 1]])
    assert play(EVENTS, 2, ListedArm(later, 2, {}), round_size=2).ranks.tolist() == [0, 1, 1]


def test_lines_may_come_in_any_order_and_be_longer() -> None:
    lines = ['{"event": 4, "topk": ["z", "x", "x"]}', "", '{"topk": [], "event": 3}']
    assert read_lists(lines, EVENTS, 3, 2).tolist() == [[-1, -1], [2, 0]]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['{"event": 3, "topk": []}'], "event 4 has no line"),
        (['{"event": 3, "topk": []}'] * 2, "line 2: event 3 comes a second time"),
        (['{"event": 2, "topk": []}'], "line 1: event is 2, expected 3 to 4"),
        (['{"event": 3, "topk": ["w"]}'], "line 1: item 'w' is not in the stream"),
        (['{"event": 3, "topk": "x"}'], "line 1: Expected `array`"),
        (["event 3"], "line 1: "),
    ],
)
def test_a_file_of_no_use_is_named(lines: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_lists(lines, EVENTS, 3, 2)
