"""Files of deploy/: generated ones are up to date, compose and Dockerfile are sound, alerts fire and fall silent."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.deployment import documents
from ops.grafana import queries
from ops.settings import Settings
from tests.deploy.tools import DEPLOY, run, tool

ROOT = DEPLOY.parent
RULES = yaml.safe_load((DEPLOY / "prometheus" / "driftline.rules.yaml").read_text())
TESTS = yaml.safe_load((DEPLOY / "prometheus" / "driftline.test.yaml").read_text())
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def test_what_is_generated_is_up_to_date() -> None:
    stale = [str(path) for path, text in documents(DEPLOY).items() if (DEPLOY / path).read_text() != text]
    assert stale == [], "run `python -m ops.deployment deploy`"


# -- Prometheus and Grafana ---------------------------------------------------------------------------------


def test_rules_are_valid_and_their_tests_pass() -> None:
    for command in (("check", "rules", "driftline.rules.yaml"), ("test", "rules", "driftline.test.yaml")):
        done = run(tool("promtool"), *command, cwd=DEPLOY / "prometheus")
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    fires: dict[str, set[bool]] = {}
    for test in TESTS["tests"]:
        for check in test["alert_rule_test"]:
            fires.setdefault(check["alertname"], set()).add(bool(check["exp_alerts"]))
    assert fires == {alert["alert"]: {True, False} for alert in ALERTS}


def test_every_alert_has_its_runbook_entry() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    for alert in ALERTS:
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
        assert f"\n## {alert['alert']}\n" in runbook


def test_panels_are_valid_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{at}", "expr": query.replace("$__rate_interval", "1m")} for at, query in enumerate(queries())
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = run(tool("promtool"), "check", "rules", tmp_path / "panels.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_that_is_asked_for_is_defined() -> None:
    from ops.metrics.definitions import DEFINITIONS

    samples = {
        one.full_name + end
        for one in DEFINITIONS.values()
        for end in (("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",))
    }
    asked = queries() + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    names = {name for query in asked for name in re.findall(r"\bdriftline_[a-z0-9_]+", query)}
    assert names - samples == set()
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    assert {name for query in asked for name in re.findall(r"\bdriftline:[a-z0-9_:]+", query)} <= recorded


def test_every_bucket_that_is_asked_for_is_exported_under_that_name() -> None:
    from ops.metrics.definitions import DEFINITIONS
    from ops.metrics.export import family
    from streams.measures import SECONDS, Histogram

    exported = family(DEFINITIONS["event_latency_seconds"], {(): Histogram(SECONDS)})
    bounds = {sample.labels["le"] for sample in exported.samples if "le" in sample.labels}
    asked = queries() + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    found = {bound for query in asked for bound in re.findall(r'event_latency_seconds_bucket\{le="([^"]+)"', query)}
    assert found and found <= bounds
    assert not [query for query in asked if re.search(r'(?<!event_latency_seconds_bucket\{)\ble="', query)]


# -- compose ------------------------------------------------------------------------------------------------


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = COMPOSE["services"]
    return found


def test_compose_names_only_what_is_there() -> None:
    for name, service in services().items():
        assert set(service.get("depends_on", {})) <= set(services()), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if not volume.startswith("${") else "."
            if source.startswith("."):
                assert (DEPLOY / "compose" / source).exists(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_compose_pins_every_image_and_opens_ports_on_loopback_only() -> None:
    for name, service in services().items():
        assert re.search(r":v?\d+(\.\d+)+$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_compose_has_whatever_has_metrics_scraped_and_on_the_dashboard() -> None:
    served = {name for name, service in services().items() if "--web-port" in service.get("command", [])}
    (job,) = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    assert {name for one in job["dns_sd_configs"] for name in one["names"]} == served == {"worker", "learner", "embed"}
    shown = services()["dashboard"]["environment"]["DRIFTLINE_DASHBOARD_ENDPOINTS"].split(",")
    assert {one.partition(":")[0] for one in shown} == served


def test_compose_sets_settings_and_runs_commands_that_exist() -> None:
    from typer.main import get_command

    from ops.cli import app

    commands = get_command(app)
    ours = {name: service for name, service in services().items() if service["image"].startswith("driftline:")}
    assert set(ours) == {"topics", "embed", "worker", "learner", "dashboard", "cli"}
    for name, service in ours.items():
        variables = [variable for variable in service["environment"] if variable.startswith("DRIFTLINE_")]
        assert {variable.removeprefix("DRIFTLINE_").lower() for variable in variables} <= set(Settings.model_fields), (
            name
        )
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        if "command" in service:
            command: Any = commands
            for word in service["command"]:
                if not word.startswith("-") and hasattr(command, "commands"):
                    command = command.commands[word]
                elif word.startswith("--"):
                    assert any(word in parameter.opts for parameter in command.params), f"{name}: {word}"


# -- image --------------------------------------------------------------------------------------------------


def test_the_image_holds_every_package_and_runs_as_nobody() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    copied = [words.split()[0] for kind, words in instructions if kind == "COPY" and not words.startswith("--from")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(copied)
    assert all((ROOT / path).exists() for path in copied)
    kinds = [kind for kind, _ in instructions]
    assert kinds.index("USER") > max(at for at, kind in enumerate(kinds) if kind == "RUN")
    assert [words for kind, words in instructions if kind == "USER"] == ["10001:10001"]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    wanted = {f"!{path}" for words in copied for path in [words]} | {"!README.md", "!LICENSE"}
    assert ignored[0] == "*" and wanted <= set(ignored)


def test_the_image_is_pinned_to_the_versions_that_are_tested() -> None:
    def pins(path: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / path).read_text(), re.M))

    tested, shipped = pins("requirements.lock"), pins("deploy/requirements.lock")
    assert shipped.items() <= tested.items()
    assert {"torch", "faiss-cpu", "aiokafka", "river"} <= shipped.keys()
    assert not {"pytest", "mypy", "ruff"} & shipped.keys()
    assert "--hash=sha256:" in (ROOT / "deploy/requirements.lock").read_text()


def test_the_pin_of_the_python_that_is_used_everywhere() -> None:
    python = re.search(r"ARG PYTHON=(3\.11)\.", (DEPLOY / "Dockerfile").read_text())
    assert python is not None and (ROOT / "Makefile").read_text().count(f"python{python.group(1)}")


@pytest.mark.parametrize("path", sorted((DEPLOY / "schemas").glob("*.json")), ids=lambda path: path.stem)
def test_our_schemas_are_schemas(path: Path) -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(json.loads(path.read_text()))
