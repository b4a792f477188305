"""The table of metrics keeps the conventions, and its page is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.metrics.definitions import DEFINITIONS, SECTIONS, Definition
from ops.metrics.page import page
from streams.measures import STAGES

ROOT = Path(__file__).parents[3]
UNITS = {"seconds": "_seconds", "ratio": "_ratio"}


def test_the_page_is_that_which_the_definitions_make() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert written == page(), "run `driftline metrics > docs/metrics.md`"


def test_the_command_prints_the_page() -> None:
    assert CliRunner().invoke(app, ["metrics"]).stdout == page()


def test_no_name_stands_twice() -> None:
    assert sum(map(len, SECTIONS.values())) == len(DEFINITIONS)


@pytest.mark.parametrize("metric", DEFINITIONS.values(), ids=DEFINITIONS)
def test_it_keeps_the_conventions(metric: Definition) -> None:
    assert re.fullmatch(r"driftline_[a-z][a-z_]*[a-z]", metric.full_name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert metric.name.endswith(UNITS.get(metric.unit, ""))
    assert metric.help.endswith(".") and "|" not in metric.help
    assert metric.processes
    for label, values in metric.labels.items():
        assert label not in ("user", "item", "id", "slate", "le")
        assert values is not None or metric.bound


def test_every_stage_is_a_value_of_the_label() -> None:
    assert DEFINITIONS["stage_seconds"].labels["stage"] == STAGES
