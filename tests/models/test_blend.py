"""Terms and their sum beside arithmetic made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models import blend as blending
from models.blend import Blend
from models.sections import Arrays
from tests import counted


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return counted.sections_of(20)


def test_terms_are_weights_times_features_and_the_score_is_their_sum_in_order_of_names(arrays: Arrays) -> None:
    random = np.random.default_rng(0)
    shape = (7, 9)
    model = random.normal(size=shape).astype(np.float32)
    model[2, 5:] = -np.inf
    sums = {name: random.choice([0, 0.3, 2.5], shape).astype(np.float32) for name in ("after", "again", "window")}
    columns = {"popularity": random.normal(size=shape).astype(np.float32)}
    contexts = random.integers(0, 18, 7)
    terms = Blend(arrays).terms(model, sums, columns, contexts)
    assert list(terms) == ["after", "again", "model", "popularity", "window"]
    for user, column in np.ndindex(shape):
        # Columns of the weights: the model, of each of three tables its sum and that it is missing, popularity.
        weight = arrays["blend.weights"][contexts[user]].tolist()
        there = model[user, column] > -np.inf
        expected = {
            "model": weight[0] * model[user, column],
            "popularity": weight[7] * columns["popularity"][user, column],
        }
        for name, first in (("after", 1), ("again", 3), ("window", 5)):
            summed = float(sums[name][user, column])
            expected[name] = weight[first] * math.log1p(summed / 0.1) + weight[first + 1] * (summed == 0)
        for name, term in expected.items():
            found = float(terms[name][user, column])
            assert found == pytest.approx(term, rel=1e-5) if there else found == (-np.inf if name == "model" else 0)
    score = blending.total(dict(reversed(terms.items())))
    again = (((terms["after"] + terms["again"]) + terms["model"]) + terms["popularity"]) + terms["window"]
    assert score.dtype == np.float32
    assert np.array_equal(score, again)
    assert np.isneginf(score[2, 5:]).all()


def test_a_context_is_a_range_of_each_quantity(arrays: Arrays) -> None:
    events = np.array([1, 3, 10, 10])
    gaps = np.array([-1, 0, 60, 3], np.float32)
    recent = np.array([[4, -1, -1], [4, 5, 6], [4, 5, 4], [-1, -1, -1]])
    # events below 3, below 10, more; gap none, below 60 s, more; no repeat, a repeat.
    assert Blend(arrays).contexts(events, gaps, recent).tolist() == [
        0,
        (1 * 3 + 1) * 2,
        (2 * 3 + 2) * 2 + 1,
        (2 * 3 + 1) * 2,
    ]
    assert blending.context_count(Blend(arrays).edges) == 18


def test_repeats_are_told_by_how_long_ago_they_were() -> None:
    recent = np.array([[4, 4, 4], [4, 5, 4], [4, 5, 6], [-1, -1, 3], [-1, 3, -1]])
    edges = {"repeat": np.array([0.5, 1.5], np.float32)}
    assert blending.events_since(recent).tolist() == [1, 2, 0, 0, 0]
    assert blending.events_since(recent[:, :1]).tolist() == [0] * 5
    nothing = np.zeros(5, np.float32)
    assert blending.contexts(edges, nothing.astype(int), nothing, recent).tolist() == [1, 2, 0, 0, 0]


def test_without_edges_there_is_one_context(arrays: Arrays) -> None:
    assert blending.contexts({}, np.array([1, 2]), np.zeros(2, np.float32), np.zeros((2, 1), np.int64)).tolist() == [
        0,
        0,
    ]
    assert blending.context_count({}) == 1


def test_an_unknown_quantity_is_named() -> None:
    with pytest.raises(ValueError, match="edges of 'weather'"):
        blending.contexts(
            {"weather": np.zeros(1, np.float32)}, np.ones(1, int), np.zeros(1, np.float32), np.zeros((1, 1), int)
        )
