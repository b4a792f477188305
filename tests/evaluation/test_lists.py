import io
from pathlib import Path

import numpy as np

from evaluation.lists import ListedArm, write_lists
from evaluation.predictions import read_predictions
from evaluation.prequential import play
from tests.evaluation.streams import stream

EVENTS = stream("a x\nb ÿ\na z\nb x\nc z")


def test_what_is_written_is_read_and_scored(tmp_path: Path) -> None:
    lists = np.array([[0, 1, -1], [0, -1, -1], [2, 0, 1]])
    file = io.StringIO()
    write_lists(file, EVENTS, 2, lists)
    assert file.getvalue().splitlines()[:2] == ['{"event": 2, "topk": ["x", "ÿ"]}', '{"event": 3, "topk": ["x"]}']
    (tmp_path / "lists.jsonl").write_text(file.getvalue(), encoding="utf-8")
    read = read_predictions(tmp_path / "lists.jsonl", EVENTS, 2, 3)
    assert (read == lists).all()
    assert play(EVENTS, 2, ListedArm(read, 2, {}), round_size=2).ranks.tolist() == [0, 1, 1]
