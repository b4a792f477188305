"""The policy file for driftline's slates, and the whole command on topics of a real broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluation.ope.slate_log import SlateTarget
from ops.cli import app
from ops.errors import CliError
from ops.ope_topics import slate_target
from streams.contracts import encode
from tests.conftest import Wire
from tests.evaluation.ope.logged import made


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_a_policy_file_is_settings_and_factors(tmp_path: Path) -> None:
    text = "policy_temperature = 0.2\npolicy_slate_size = 2\n[terms]\ncounts = 0.5\n[adjustments]\ndiversity = 0"
    found = slate_target(written(tmp_path, text))
    assert found == SlateTarget(temperature=0.2, size=2, terms={"counts": 0.5}, adjustments={"diversity": 0})
    assert slate_target(written(tmp_path, "policy_beta = 0.0")) == SlateTarget(beta=0.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy_temprature = 0.2", "did you mean policy_temperature?"),
        ("policy_temperature = 0", "policy_temperature = 0"),
        ("policy_candidates = 50", "policy_candidates changes what is retrieved"),
        ("policy_filter_seen = false", "policy_filter_seen changes what is retrieved"),
        ("policy_seed = 5", "policy_seed changes what is retrieved, or nothing that a probability depends on"),
        ('terms = "model"', "terms is 'model'"),
        ("[terms]\nmodel = true", "terms.model is True"),
    ],
)
def test_what_the_log_cannot_tell_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(CliError) as error:
        slate_target(written(tmp_path, text))
    assert problem in error.value.problem
    assert error.value.next_step


@pytest.mark.broker
@pytest.mark.parametrize("partitions", [2])
async def test_decisions_and_outcomes_are_read_from_their_topics(
    wire: Wire, topics, worker_settings: dict[str, str], tmp_path: Path
) -> None:
    """Half of the outcomes are in the topic; one user was erased; one slate is an other system's."""
    decisions, outcomes = made(600)
    await wire.produce(topics.decisions, [(one.user.encode(), encode(one)) for one in decisions])
    await wire.produce(topics.outcomes, [(one.user.encode(), encode(one)) for one in outcomes[:500]])
    await wire.produce(topics.outcomes, [(b"u1", None)])
    policy = written(tmp_path, "policy_temperature = 0.6")
    arguments = ["ope", "--policy", str(policy), "--json", "--replicates", "200", "--to", "400"]

    import asyncio

    def run(arguments: list[str] = arguments) -> tuple[int, str]:
        found = CliRunner(env=worker_settings).invoke(app, arguments, catch_exceptions=False)
        return found.exit_code, found.stdout

    code, shown = await asyncio.to_thread(run)
    found = json.loads(shown)
    assert code == 0, shown
    positions, cascade, whole = found["families"]
    assert (positions["name"], cascade["name"], whole["name"]) == ("positions", "cascade", "slates")
    assert positions["overlap"]["rounds"] == 3 * 400
    assert positions["overlap"]["clusters"] == 200
    clicks = sum(sum(map(bool, one.rewards)) for one in outcomes[:400])
    assert found["logged"]["value"] == pytest.approx(clicks / 400)
    each = {one["name"]: one for one in positions["estimates"]}
    assert each["snips"]["low"] < each["snips"]["value"] < each["snips"]["high"]
    assert found["left_out"] == {}

    code, shown = await asyncio.to_thread(run, ["ope", "--beta", "0.2", "--beta", "0", "--json", "--replicates", "200"])
    compared = json.loads(shown)
    assert code == 0, shown
    as_logged, without = compared["betas"]
    clicks = sum(sum(map(bool, one.rewards)) for one in outcomes[:500])
    assert as_logged["estimates"]["ips"]["value"] == pytest.approx(clicks / 500)  # decisions are of β .2
    assert without["estimates"]["ips"]["value"] != pytest.approx(clicks / 500)
    assert compared["best"] in (0.2, 0.0)
    assert compared["left_out"] == {"its window has not closed, or its outcome is gone": 100}
