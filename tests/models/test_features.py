import numpy as np
import pytest

from models.features import FeatureSpace, ItemFeatures


def features(**changes: object) -> ItemFeatures:
    given = {
        "text": np.array([[1.0, 0.0], [3.0, 2.0]], np.float32),
        "categories": [["drama"], ["war", "drama"]],
        "years": np.array([1990, 0]),
    }
    return ItemFeatures(**(given | changes))  # type: ignore[arg-type]


def test_columns_are_centred_text_categories_and_year() -> None:
    space = FeatureSpace.fit(features())
    assert space.vocabulary == ("drama", "war")
    assert space.matrix(features()).tolist() == [[-1, -1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0]]


def test_what_the_space_does_not_know_is_ignored() -> None:
    space = FeatureSpace.fit(features())
    matrix = space.matrix(features(categories=[["western"], []], years=np.array([3000, 1990])))
    assert not matrix[:, 2:4].any()
    assert matrix[0, -1] == 4, "a year far outside is clipped"


def test_the_most_frequent_categories_are_kept() -> None:
    assert FeatureSpace.fit(features(), max_categories=1).vocabulary == ("drama",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"years": np.array([1990])}, r"\(2, 2, 1\)"),
        ({"text": np.zeros(2, np.float32)}, "shape"),
        ({"text": np.full((2, 2), np.nan, np.float32)}, "NaN"),
    ],
)
def test_bad_features_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(**changes)


def test_another_encoder_is_noticed_by_its_width() -> None:
    with pytest.raises(ValueError, match="5 columns, the release expects 2"):
        FeatureSpace.fit(features()).matrix(features(text=np.zeros((2, 5), np.float32)))


def test_take_keeps_items_whole() -> None:
    one = features().take(np.array([1]))
    assert one.text.tolist() == [[3, 2]]
    assert one.categories == [["war", "drama"]]
    assert one.years.tolist() == [0]
