"""A wait that leads nowhere ends; the rest of the replay is tested by `tests/ops/test_demo.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.demo import replay
from ops.errors import CliError


def test_patience_ends_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(replay.time, "monotonic", lambda: now)
    patience = replay._Patience("the embedder", Path("logs"))
    for now, progress in ((0.0, 0), (100.0, 0), (119.0, 1), (200.0, 1), (238.0, 1)):  # noqa: B007
        patience.see(progress)
    now = 240.0
    with pytest.raises(CliError, match="the embedder has stood still for 120 s"):
        patience.see(1)
