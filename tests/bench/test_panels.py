"""What the check of panels asks, and how it judges what it is told; the run itself takes minutes (bench/README.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from aiohttp import web

from bench.panels import RULES, answers, asked, table
from ops.grafana import queries
from ops.kafka import ports


def test_every_panel_and_every_rule_is_asked_for() -> None:
    found = list(asked())
    assert len([of for of, _ in found if of.startswith("panel")]) == len(queries())
    assert not any("$" in query for _, query in found)
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    reading = {rule.get("alert") or rule["record"] for rule in rules if "driftline" in rule["expr"]}
    assert {of.removeprefix("rule ") for of, _ in found if of.startswith("rule")} == reading


@pytest.fixture
async def prometheus() -> AsyncIterator[str]:
    """Answers as Prometheus does: nothing of releases, not a number of latencies, one of all else."""

    async def query(request: web.Request) -> web.Response:
        asked_for = request.query["query"]
        value = "NaN" if "latency" in asked_for else "2"
        found: list[dict[str, Any]] = [] if "driftline_releases" in asked_for else [{"metric": {}, "value": [0, value]}]
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": found}})

    app = web.Application()
    app.router.add_get("/api/v1/query", query)
    runner = web.AppRunner(app)
    await runner.setup()
    port = ports.free()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def test_what_finds_no_number_is_told_apart_from_what_need_not(prometheus: str) -> None:
    found = await answers(prometheus)
    assert {one.series for one in found} == {0, 1}
    for one in found:
        assert (one.value is None) == ("latency" in one.query or "driftline_releases" in one.query)
        assert bool(one.absent) == ("driftline_releases" in one.query)
    assert table(found).row_count == len(found)
