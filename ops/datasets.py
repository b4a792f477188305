"""Public data sets to try driftline on: fetched when asked for, kept in the data folder, never in the repository.

Knows where each lives and how its files read; knows nothing of topics, or of what the data is used for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ops.errors import CliError
from streams.contracts import Item

Progress = Callable[[str], None]

MOVIELENS_PACKAGE = "recbole==1.2.1"
MOVIELENS_FILES = ("ml-100k.inter", "ml-100k.item")
_MOVIELENS_INSIDE = "recbole/dataset_example/ml-100k"
OPEN_BANDIT_PACKAGE = "obp==0.4.1"
OPEN_BANDIT_POLICIES, OPEN_BANDIT_CAMPAIGNS = ("random", "bts"), ("all", "men", "women")
_OPEN_BANDIT_INSIDE = "obp/dataset/obd"
_OPEN_BANDIT_ROWS = 10_000


class Dataset(NamedTuple):
    """A catalogue and what users did with it.

    `interactions` has one row an event, in order of time (equal times keep the source's order), with
    columns user (str), item (str), time (int64, milliseconds since the epoch), action (str), weight
    (float64).
    """

    items: list[Item]
    interactions: pd.DataFrame


def movielens_100k(folder: Path, progress: Progress = lambda message: None) -> Dataset:
    """Return MovieLens 100K: 1,682 films, 100,000 ratings of 943 users from September 1997 to April 1998.

    Downloads 2 MB by pip on first use and keeps the two files needed in `folder`/movielens-100k; the terms of
    GroupLens forbid passing them on. An interaction is `action="rate"`, its weight the rating (1 to 5).
    Raises CliError when the download fails or the files are not the whole set. F. M. Harper and J. A.
    Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015.
    """
    cache = folder / "movielens-100k"
    if not all((cache / name).is_file() for name in MOVIELENS_FILES):
        progress("downloading MovieLens 100K")
        _fetch(MOVIELENS_PACKAGE, {f"{_MOVIELENS_INSIDE}/{name}": name for name in MOVIELENS_FILES}, cache)
    data = Dataset(_movielens_items(cache / "ml-100k.item"), _movielens_ratings(cache / "ml-100k.inter"))
    if (len(data.items), len(data.interactions)) != (1682, 100_000):
        raise CliError(
            f"{cache} holds {len(data.items)} films and {len(data.interactions)} ratings; expected 1682 and 100000",
            "Delete the folder and try again.",
        )
    return data


def open_bandit(folder: Path, progress: Progress = lambda message: None) -> dict[tuple[str, str], Path]:
    """Return the small Open Bandit files by (policy, campaign): 10,000 impressions each, of a shop's recommendations
    shown by a uniformly random policy and by Bernoulli Thompson sampling ("bts"), in November 2019.

    Columns item_id, position (1 to 3), click, propensity_score, user_feature_0 to 3 and more. Downloads 1.3 MB by pip
    on first use and keeps the six files in `folder`/open-bandit. Raises CliError when the download fails or a file is
    not whole. Y. Saito et al., Open Bandit Dataset and Pipeline, NeurIPS 2021; CC BY 4.0.
    """
    cache = folder / "open-bandit"
    files = {
        (policy, campaign): cache / f"{policy}-{campaign}.csv"
        for policy in OPEN_BANDIT_POLICIES
        for campaign in OPEN_BANDIT_CAMPAIGNS
    }
    if not all(path.is_file() for path in files.values()):
        progress("downloading the small Open Bandit data set")
        inside = {
            f"{_OPEN_BANDIT_INSIDE}/{policy}/{campaign}/{campaign}.csv": path.name
            for (policy, campaign), path in files.items()
        }
        _fetch(OPEN_BANDIT_PACKAGE, inside, cache)
    for path in files.values():
        with path.open() as lines:
            rows = sum(1 for _ in lines) - 1
        if rows != _OPEN_BANDIT_ROWS:
            raise CliError(
                f"{path} holds {rows} rows; expected {_OPEN_BANDIT_ROWS}", "Delete the folder and try again."
            )
    return files


def _fetch(requirement: str, inside: Mapping[str, str], cache: Path) -> None:
    """Download a wheel and keep some files of it: path in the wheel → name in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wheel = _pip_download(requirement, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            for path, name in inside.items():
                archive.extract(path, scratch)
                # A rename is atomic: a file that is there is whole.
                (Path(scratch) / path).rename(cache / name)


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise CliError(
            f"`python {' '.join(command[1:])}` failed: {last}",
            "The data comes in a package of the Python package index: that needs pip in this environment, and a way "
            "to the index.",
        )
    return next(folder.glob("*.whl"))


def _movielens_items(path: Path) -> list[Item]:
    columns = ["item", "title", "year", "genres"]
    table = pd.read_csv(path, sep="\t", names=columns, skiprows=1, dtype=str, keep_default_na=False, quoting=3)
    return [_movielens_item(*row) for row in table.itertuples(index=False, name=None)]


def _movielens_item(item: str, title: str, year: str, genres: str) -> Item:
    categories = [genre for genre in genres.split(" ") if genre and genre != "unknown"]
    return Item(item=item, title=title, categories=categories, year=int(year) if year.isdecimal() else None)


def _movielens_ratings(path: Path) -> pd.DataFrame:
    columns = ["user", "item", "weight", "time"]
    types = {"user": str, "item": str, "weight": "float64", "time": "int64"}
    table = pd.read_csv(path, sep="\t", names=columns, skiprows=1, dtype=types)
    table["time"] *= 1000
    table.insert(3, "action", "rate")
    ordered = table.sort_values("time", kind="stable", ignore_index=True)
    return ordered[["user", "item", "time", "action", "weight"]]
