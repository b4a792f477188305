"""The whole command on files and a tiny encoder: an encoder that helps is written, another is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.text import TextEncoder
from ops.cli import app
from ops.errors import CliError
from tests.models.test_text_kinds import bert

WORDS = ("rebels", "bread", "home", "cats", "dogs", "film")


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Sixty items whose title has a word for the kind that people stay with, and some that say nothing."""
    monkeypatch.setenv("DRIFTLINE_ENCODER_PATH", str(bert(tmp_path / "plain")))
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path / "data"))
    random = np.random.default_rng(0)
    noise = ["a", "about", "at", "find", ":", "and"]
    titles = [f"{WORDS[row % 6]} {' '.join(random.choice(noise, 6))}" for row in range(60)]
    items, events = tmp_path / "items.csv", tmp_path / "events.csv"
    items.write_text("\n".join(["item,title", *(f"i{row},{title}" for row, title in enumerate(titles))]) + "\n")
    rows = [
        f"u{user},i{user % 6 + 6 * random.integers(10)},{1_600_000_000 + at}" for at in range(30) for user in range(60)
    ]
    events.write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    return ["--events", events, "--items", items, "--batch", 64, "--held-out", 0.3, "--learning-rate", 0.01]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["encoder", "tune", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_an_encoder_is_tuned_and_can_be_loaded(given: list[object], tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    said = run(*given, "--steps", 100, "--out", out)
    made = TextEncoder(out)
    assert made.fingerprint in said
    assert f"DRIFTLINE_ENCODER_PATH={out}" in said
    for title in ("rebels a find", "bread and at"):
        other = title.replace("rebels", "cats").replace("bread", "home")
        alike = title.split()[0] + " : about"

        def lead(encoder: TextEncoder, texts: tuple[str, str, str] = (title, alike, other)) -> float:
            one, near, far = encoder.encode(texts)
            return float(one @ near - one @ far)

        assert lead(made) > lead(TextEncoder(tmp_path / "plain")) + 0.2
    with pytest.raises(CliError, match="is there already"):
        run(*given, "--out", out)


def test_what_does_not_help_is_not_written(given: list[object], tmp_path: Path) -> None:
    with pytest.raises(CliError, match="Nothing was written"):
        run(*given, "--steps", 1, "--learning-rate", 1e-8, "--out", tmp_path / "tuned")
    with pytest.raises(CliError, match="at least 5000"):
        run(*given, "--limit", 100, "--batch", 5000, "--out", tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
