"""Which setting reaches which part."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.recipes import histories, sessions
from ops.configuration import training_recipe, worker_config
from ops.errors import CliError
from ops.settings import load
from streams.cluster import Cluster
from streams.stores import DiskConfig


def test_states_are_in_memory_or_in_a_folder_of_the_deployments_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path))
    assert worker_config(load(), Cluster("nowhere:1")).state is None
    for name, value in (("STORE", "disk"), ("CACHE_MB", "64"), ("KEEP_S", "600")):
        monkeypatch.setenv(f"DRIFTLINE_STATE_{name}", value)
    monkeypatch.setenv("DRIFTLINE_APP_ID", "shop")
    monkeypatch.setenv("DRIFTLINE_TOPIC_PREFIX", "eu.")
    expected = DiskConfig(tmp_path / "state" / "shop", "eu.state", memory_mib=64, keep_seconds=600.0)
    assert worker_config(load(), Cluster("nowhere:1")).state == expected
    monkeypatch.setenv("DRIFTLINE_STATE_DIR", "/elsewhere")
    assert worker_config(load(), Cluster("nowhere:1")).state == DiskConfig(
        Path("/elsewhere/shop"), "eu.state", memory_mib=64, keep_seconds=600.0
    )


def test_a_deployment_chooses_its_recipe_and_the_size_of_its_model(monkeypatch: pytest.MonkeyPatch):
    assert training_recipe(load()) == histories()
    for name, value in (("RECIPE", "sessions"), ("SIZE", "3"), ("MEMBERS", "2")):
        monkeypatch.setenv(f"DRIFTLINE_LEARNER_{name}", value)
    assert training_recipe(load()) == sessions(size=3, members=2)
    monkeypatch.setenv("DRIFTLINE_LEARNER_RECIPE", "histories")
    with pytest.raises(CliError, match="size 3 needs the last 150 events of a user, states keep 100"):
        training_recipe(load())
