"""Item features as arrays: what a tower reads of an item it may never have seen. Knows nothing about weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.config import Float32, Int64

YEAR_COLUMNS = 2


@dataclass(frozen=True, slots=True, eq=False)
class ItemFeatures:
    """Features of n items.

    Attributes:
        text: [n, t] vectors of the text encoder.
        categories: n lists of names; those that a release does not know are ignored.
        years: [n] calendar years, 0 where unknown.

    Raises:
        ValueError: the three disagree on n, or the text is not a finite matrix.
    """

    text: Float32
    categories: Sequence[Sequence[str]]
    years: Int64

    def __post_init__(self) -> None:
        if self.text.ndim != 2:
            raise ValueError(f"ItemFeatures.text has shape {self.text.shape}, expected [items, text dim]")
        sizes = (len(self.text), len(self.categories), len(self.years))
        if len(set(sizes)) != 1:
            raise ValueError(f"ItemFeatures text, categories, years hold {sizes} items, expected the same number")
        if not np.isfinite(self.text).all():
            raise ValueError("ItemFeatures.text holds NaN or infinity, expected finite numbers")

    def __len__(self) -> int:
        return len(self.text)

    def take(self, rows: Int64) -> ItemFeatures:
        """Features of some of the items."""
        return ItemFeatures(self.text[rows], [self.categories[row] for row in rows], self.years[rows])

    def put(self, rows: Int64, features: ItemFeatures) -> ItemFeatures:
        """These with some rows replaced; rows from n on are appended, and must be n, n + 1, ... without a gap."""
        more = max(0, int(rows.max(initial=-1)) + 1 - len(self))
        text = np.concatenate([self.text, np.zeros((more, self.text.shape[1]), np.float32)])
        years = np.concatenate([self.years, np.zeros(more, np.int64)])
        categories = [*self.categories, *[()] * more]
        text[rows], years[rows] = features.text, features.years
        for row, names in zip(rows.tolist(), features.categories, strict=True):
            categories[row] = names
        return ItemFeatures(text, categories, years)


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """What serving needs of n items.

    Attributes:
        search: [n, d + 1] unit vectors and a bias; its inner product with a user vector is a logit.
        input: [n, d] what an event with the item feeds into the evolution model.
    """

    search: Float32
    input: Float32


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """Where raw features become columns: fitted on the items of a training run, then frozen in its release.

    Attributes:
        text_mean: [t] mean text vector, taken off because sentence vectors share a large common part.
        vocabulary: categories, one column each.
        year_mean, year_scale: years are standardised with these.
    """

    text_mean: Float32
    vocabulary: tuple[str, ...]
    year_mean: float
    year_scale: float

    @classmethod
    def fit(cls, features: ItemFeatures, *, max_categories: int = 1000) -> FeatureSpace:
        """The space of these items; of many categories, the ``max_categories`` most frequent ones."""
        counts: dict[str, int] = {}
        for names in features.categories:
            for name in set(names):
                counts[name] = counts.get(name, 0) + 1
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:max_categories]
        known = features.years[features.years > 0].astype(np.float64)
        return cls(
            text_mean=features.text.mean(axis=0, dtype=np.float64).astype(np.float32),
            vocabulary=tuple(sorted(frequent)),
            year_mean=float(known.mean()) if len(known) else 0.0,
            year_scale=max(float(known.std()), 1.0) if len(known) else 1.0,
        )

    @property
    def columns(self) -> int:
        """f, the width of ``matrix``: text, categories, year."""
        return len(self.text_mean) + len(self.vocabulary) + YEAR_COLUMNS

    def matrix(self, features: ItemFeatures) -> Float32:
        """[n, f]: centred text, multi-hot categories, whether the year is known, and the year standardised.

        Raises:
            ValueError: the text vectors have another width than those of the training run.
        """
        width = len(self.text_mean)
        if features.text.shape[1] != width:
            raise ValueError(f"ItemFeatures.text has {features.text.shape[1]} columns, the release expects {width}")
        out = np.zeros((len(features), self.columns), np.float32)
        out[:, :width] = features.text - self.text_mean
        column = {name: width + at for at, name in enumerate(self.vocabulary)}
        for row, names in enumerate(features.categories):
            for name in names:
                if name in column:
                    out[row, column[name]] = 1.0
        known = np.asarray(features.years) > 0
        out[:, -2] = known
        out[:, -1] = np.where(known, np.clip((features.years - self.year_mean) / self.year_scale, -4, 4), 0)
        return out
