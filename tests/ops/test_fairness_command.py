"""`driftline fairness` as people run it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result
from msgspec.structs import replace
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError
from streams.contracts import Outcome, encode
from streams.estimator_fairness import FairnessPart
from streams.estimators import Estimators
from streams.names import Topics
from streams.releases import ESTIMATOR_KEY
from tests.conftest import Wire
from tests.small import START
from tests.streams.outcomes import outcomes

RULES = """
[fairness]
users = ["f", "m"]
[fairness.items]
a = ["War"]
b = ["Drama"]
"""


def told(number: int, outcome: Outcome) -> Outcome:
    """Half of the users click, half of them less; group a has the better places."""
    size = len(outcome.items)
    group = "fm"[number % 2]
    rewards = [float((number + at) % (3 if group == "f" else 6) == 0) for at in range(size)]
    groups: list[str | None] = ["a"] * (size - 3) + ["b", "b", None]
    return replace(
        outcome,
        rewards=rewards,
        group=group,
        uniform=number % 10 < 2,
        steered=number % 7 > 0,
        item_groups=groups,
        group_candidates={"a": 20, "b": 20},
    )


GIVEN = [told(number, outcome) for number, outcome in enumerate(outcomes(80))]


@pytest.mark.broker
async def test_gaps_and_terms_are_told_from_the_topics(
    bootstrap: str, topics: Topics, wire: Wire, tmp_path: Path
) -> None:
    environment = {
        "DRIFTLINE_BOOTSTRAP_SERVERS": bootstrap,
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "COLUMNS": "200",
    }

    async def run(*arguments: str) -> Result:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["fairness", *arguments], env=environment)
        if result.exception is not None:
            raise result.exception
        return result

    with pytest.raises(CliError, match="no outcome of a slate yet"):
        await run()
    await wire.produce(topics.outcomes, [(one.user.encode(), encode(one)) for one in GIVEN])
    plain = json.loads((await run("--json")).output)
    assert (plain["slates"], plain["controller"]) == (80, None)
    assert [one["name"] for one in plain["users"]] == ["f", "m"]
    assert plain["gaps"][0]["relative"]["value"] == pytest.approx(0.5, abs=0.1)
    assert {(one["user"], one["item"]) for one in plain["pairs"]} == {("f", "a"), ("f", "b"), ("m", "a"), ("m", "b")}

    estimators = Estimators()
    for one in GIVEN:
        estimators.learn(one)
    assert estimators.part(FairnessPart).rates.slates.sum() > 79
    await wire.produce(topics.models, [(ESTIMATOR_KEY, encode(estimators.snapshot({0: 80}, START)))])
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    environment["DRIFTLINE_ARRANGE_RULES"] = str(rules)
    controller = json.loads((await run("--json")).output)["controller"]
    assert (controller["users"], controller["items"]) == (["f", "m"], ["a", "b"])
    assert controller["term"][0][1] > 0 > controller["term"][0][0]
    text = (await run()).output
    assert "f − m" in text
    assert f"{controller['term'][0][1]:+.2f}" in text

    rules.write_text("[fairness]\nusers = 3")
    with pytest.raises(CliError, match="fairness"):
        await run()
