import numpy as np
import pytest

from models.content import ContentOnly

TEXT = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.9, 0.1]], np.float32)
IDS = ["war", "battle", "love", "kiss"]


def test_like_goes_with_like_events_or_not() -> None:
    one = ContentOnly(IDS, TEXT)
    one.learn_one("u", "war", 0)
    assert one.rank("u", 1, True) == ["battle"]
    assert one.rank("u", 2, False) == ["war", "battle"]
    one.learn_one("v", "kiss", 0)
    assert one.rank("v", 1, True) == ["love"]


def test_the_newest_weighs_most() -> None:
    one = ContentOnly(IDS, TEXT, window=2, decay=0.1)
    for item in ("war", "kiss"):
        one.learn_one("u", item, 0)
    assert one.rank("u", 1, True) == ["love"]
    one = ContentOnly(IDS, TEXT, window=1)
    for item in ("kiss", "war"):
        one.learn_one("u", item, 0)
    assert one.rank("u", 1, True) == ["battle"]


def test_without_text_it_is_popularity() -> None:
    one = ContentOnly(IDS, TEXT)
    assert one.rank("u", 3, True) == []
    for user, item in (("a", "plain"), ("b", "plain"), ("c", "kiss")):
        one.learn_one(user, item, 0)
    assert one.rank("new", 2, True) == ["plain", "kiss"]
    assert one.rank("a", 2, True) == ["kiss"]


def test_ids_and_texts_must_agree() -> None:
    with pytest.raises(ValueError, match="3 ids and 4 text"):
        ContentOnly(IDS[:3], TEXT)
