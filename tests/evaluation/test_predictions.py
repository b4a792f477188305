"""Predictions of others: read in order, checked like an arm's, and every fault named with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.predictions import read_predictions
from tests.evaluation.streams import stream

EVENTS = stream("a x\na y\nb x\nb z\na z\nb y")
CUT = 2


def written(path: Path, *lines: Any) -> Path:
    file = path / "predictions.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def test_lists_come_in_rows_padded_and_cut_at_k(tmp_path: Path) -> None:
    file = written(tmp_path, {"event": 2, "topk": ["y", "x"]}, {"event": 3, "topk": []}, {"event": 4, "topk": ["z"]})
    assert read_predictions(file, EVENTS, CUT, 2).tolist() == [[1, 0], [-1, -1], [2, -1]]
    assert read_predictions(file, EVENTS, CUT, 1).tolist() == [[1], [-1], [2]]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"event": 3, "topk": []}], "line 1: event is 3, expected 2"),
        ([{"event": 2, "topk": []}, {"event": 2, "topk": []}], "line 2: event is 2, expected 3"),
        ([{"event": 2, "topk": "x"}], "line 1: topk is 'x', expected a list"),
        ([{"event": 2, "topk": [1]}], "line 1: topk is \\[1\\], expected a list"),
        ([{"event": 2, "topk": ["nothing"]}], "line 1: topk has 'nothing'"),
        ([{"event": 2, "topk": ["z"]}], "event 2: item 'z' was recommended before anybody had met it"),
        ([{"event": 2, "topk": ["x"]}, {"event": 3, "topk": ["z"]}], "event 3: item 'z' was recommended before"),
        ([{"event": 2, "topk": ["x", "x"]}], "event 2: item 'x' was recommended twice"),
        (["[2]"], "line 1: event is \\[2\\]"),
        (["{"], "line 1: "),
        ([{"event": event, "topk": []} for event in range(2, 7)], "line 5: the stream has no event 6"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, lines: list[Any], told: str) -> None:
    file = written(tmp_path, *lines)
    with pytest.raises(ValueError, match=f"{file}, {told}"):
        read_predictions(file, EVENTS, CUT, 2)
