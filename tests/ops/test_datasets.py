"""Data sets: fetched once, read right, and clear when they cannot be had."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from ops import datasets
from ops.datasets import movielens_100k
from ops.errors import CliError


def fake_wheel(folder: Path, films: int, ratings: int) -> Path:
    """Write a wheel with the layout of the real one and made-up rows, newest rating first."""
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    items += [f"{n}\tFilm {n}\t{1900 + n % 90}\tSci-Fi Drama" for n in range(1, films)]
    items += [f"{films}\tunkonwn\tunkonwn\tunknown"]
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    rows += [f"{n % 7}\t{n % films + 1}\t{n % 5 + 1}\t{880_000_000 + (ratings - n) // 5}" for n in range(ratings)]
    path = folder / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, lines in (("ml-100k.item", items), ("ml-100k.inter", rows)):
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", "\n".join(lines) + "\n")
        wheel.writestr("recbole/dataset_example/ml-100k/ml-100k.kg", "not needed")
    return path


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace pip by a made-up wheel; return the folders asked for."""
    asked: list[Path] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(folder)
        return fake_wheel(folder, 1682, 100_000)

    monkeypatch.setattr(datasets, "_pip_download", download)
    return asked


def test_items_have_title_categories_and_year(downloads, tmp_path):
    items = movielens_100k(tmp_path).items
    assert (items[0].item, items[0].title, items[0].year) == ("1", "Film 1", 1901)
    assert items[0].categories == ["Sci-Fi", "Drama"]
    assert (items[-1].year, items[-1].categories) == (None, [])


def test_interactions_are_in_order_of_time_and_ties_keep_the_order_of_the_file(downloads, tmp_path):
    rows = movielens_100k(tmp_path).interactions
    assert rows.columns.tolist() == ["user", "item", "time", "action", "weight"]
    assert rows["time"].is_monotonic_increasing
    assert rows["time"].iloc[0] == 880_000_000_000
    assert set(rows["action"]) == {"rate"}
    # The made-up file runs backwards in time, five rows to a second.
    in_order = sorted(range(100_000), key=lambda n: (100_000 - n) // 5)
    assert rows["item"].tolist() == [str(n % 1682 + 1) for n in in_order]
    assert isinstance(rows["user"].iloc[0], str)


def test_it_is_fetched_once_and_only_what_is_needed_stays(downloads, tmp_path):
    messages: list[str] = []
    movielens_100k(tmp_path, messages.append)
    movielens_100k(tmp_path, messages.append)
    assert len(downloads) == len(messages) == 1
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["ml-100k.inter", "ml-100k.item"]


def test_a_cut_file_is_refused(downloads, tmp_path):
    movielens_100k(tmp_path)
    ratings = tmp_path / "movielens-100k" / "ml-100k.inter"
    ratings.write_text("".join(ratings.read_text().splitlines(keepends=True)[:500]))
    with pytest.raises(CliError, match=r"499 ratings; expected 1682 and 100000\nDelete the folder"):
        movielens_100k(tmp_path)


def test_a_failed_download_says_what_was_run_and_what_is_needed(monkeypatch, tmp_path):
    answer = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: no matching distribution\n")
    monkeypatch.setattr(datasets.subprocess, "run", lambda *a, **k: answer)
    with pytest.raises(CliError, match=r"(?s)pip download .*no matching distribution.*needs pip"):
        movielens_100k(tmp_path)
    assert not list(tmp_path.rglob("*.inter"))


def bandit_wheel(folder: Path, rows: int) -> Path:
    path = folder / "obp-0.4.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for policy in datasets.OPEN_BANDIT_POLICIES:
            for campaign in datasets.OPEN_BANDIT_CAMPAIGNS:
                lines = [",item_id,position,click,propensity_score", *(f"{n},1,1,0,0.5" for n in range(rows))]
                wheel.writestr(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv", "\n".join(lines) + "\n")
        wheel.writestr("obp/__init__.py", "")
    return path


def test_open_bandit_is_six_files_fetched_once(monkeypatch, tmp_path):
    asked: list[str] = []

    def download(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        return bandit_wheel(folder, 10_000)

    monkeypatch.setattr(datasets, "_pip_download", download)
    files = datasets.open_bandit(tmp_path)
    assert datasets.open_bandit(tmp_path) == files
    assert asked == ["obp==0.4.1"]
    assert len(files) == 6 == len([path for path in tmp_path.rglob("*") if path.is_file()])
    assert files["bts", "men"].read_text().startswith(",item_id,")


def test_an_open_bandit_file_that_is_cut_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "_pip_download", lambda requirement, folder: bandit_wheel(folder, 9_999))
    with pytest.raises(CliError, match=r"holds 9999 rows; expected 10000\nDelete the folder"):
        datasets.open_bandit(tmp_path)
