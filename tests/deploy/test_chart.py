"""The Helm chart: it renders for every example, Kubernetes and the operators know its objects, typos are found."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.settings import Settings
from streams.acls import ROLES, acls
from streams.names import Topics
from streams.topics import SPECS
from tests.deploy.objects import problems
from tests.deploy.tools import DEPLOY, run, tool

CHART = DEPLOY / "helm" / "driftline"
EXAMPLES = sorted((DEPLOY / "helm" / "values").glob("*.yaml"))
TEMPLATE = ("template", "shop", str(CHART), "--kube-version", "1.34.0")


@cache
def rendered(example: str, *options: str) -> tuple[dict[str, Any], ...]:
    done = run(tool("helm"), *TEMPLATE, "-f", f"{CHART.parent}/values/{example}.yaml", *options)
    assert done.returncode == 0, done.stderr
    return tuple(thing for thing in yaml.safe_load_all(done.stdout) if thing)


def refused(*options: str) -> str:
    done = run(tool("helm"), *TEMPLATE, "-f", f"{CHART.parent}/values/minimal.yaml", *options)
    assert done.returncode != 0
    return done.stderr


def only(things: tuple[dict[str, Any], ...], kind: str, name: str = "") -> dict[str, Any]:
    (found,) = (thing for thing in things if thing["kind"] == kind and thing["metadata"]["name"].endswith(name))
    return found


def pods(things: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    found = []
    for thing in things:
        if thing["kind"] == "CronJob":
            thing = thing["spec"]["jobTemplate"]
        if "template" in thing.get("spec", {}):
            found.append(thing["spec"]["template"]["spec"])
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_linted_rendered_and_known(example: Path) -> None:
    done = run(tool("helm"), "lint", str(CHART), "--strict", "--kube-version", "1.34.0", "-f", str(example))
    assert done.returncode == 0, done.stdout
    things = rendered(example.stem)
    assert [line for thing in things for line in problems(thing)] == []
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in things]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("kind", "path", "found"),
    [
        ("StatefulSet", ("spec", "template", "spec", "terminationGracePeriodSecond"), "no such field"),
        ("StatefulSet", ("spec", "replicas"), "Expected `int"),
        ("PodMonitor", ("spec", "podMetricsEndpoint"), "Additional properties"),
        ("ScaledObject", ("spec", "maxReplicaCount"), "'typo' is not of type 'integer'"),
        ("KafkaTopic", ("spec", "partition"), "Additional properties"),
    ],
)
def test_a_planted_typo_is_found(kind: str, path: tuple[str, ...], found: str) -> None:
    things = json.loads(json.dumps(rendered("production")))
    thing = next(thing for thing in things if thing["kind"] == kind)
    assert problems(thing) == []
    inner = thing
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = "typo"
    assert len(problems(thing)) == 1
    assert found in problems(thing)[0]


def test_a_kind_that_is_not_there_is_found() -> None:
    assert problems({"apiVersion": "apps/v1", "kind": "StatefullSet"}) == ["apps/v1 StatefullSet: no such kind"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "worker.replica=2"), "additional properties 'replica' not allowed"),
        (("--set", "worker.replicas=5"), "5 workers for 4 partitions"),
        (("--set", "keda.enabled=true,keda.maxReplicas=9"), "9 workers for 4 partitions"),
        (("--set", "keda.enabled=true,keda.minReplicas=5"), "keda.minReplicas 5 is above keda.maxReplicas 4"),
        (("--set", "kafka.bootstrapServers="), "kafka.bootstrapServers is empty"),
        (("--set", "kafka.protocol=SASL_SSL"), "needs kafka.mechanism, kafka.username and kafka.passwordSecret.name"),
        (("--set", "dashboard.tokenSecret.name="), "dashboard.tokenSecret.name is empty"),
        (("--set", "dashboard.ingress.enabled=true"), "dashboard.ingress.host is empty"),
        (("--set", "strimzi.topics=true"), "strimzi.cluster is empty"),
        (("--set", "settings.app_id=other"), "settings.app_id has a value of its own"),
        (("--set", "worker.storage.size=lots"), "does not match pattern"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(options: tuple[str, ...], said: str) -> None:
    assert said in refused(*options)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_is_locked_down(example: Path) -> None:
    for pod in pods(rendered(example.stem)):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            claimed = {"data"} if "data" not in {volume["name"] for volume in pod["volumes"]} else set()
            assert mounted == {volume["name"] for volume in pod["volumes"]} | claimed


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_variable_is_a_setting(example: Path) -> None:
    things = rendered(example.stem)
    names = list(next(thing for thing in things if "DRIFTLINE_APP_ID" in thing.get("data", {}))["data"])
    for pod in pods(things):
        names += [variable["name"] for container in pod["containers"] for variable in container.get("env", [])]
    unknown = {name for name in names if name.removeprefix("DRIFTLINE_").lower() not in Settings.model_fields}
    assert unknown == set()


def test_topics_are_those_of_the_code() -> None:
    things = [thing for thing in rendered("production") if thing["kind"] == "KafkaTopic"]
    assert {
        thing["spec"]["topicName"]: (thing["spec"]["partitions"], dict(thing["spec"]["config"])) for thing in things
    } == {
        Topics("shop.").name(spec.name): (spec.count(24), {"min.insync.replicas": "2"} | spec.config())
        for spec in SPECS
    }
    assert not [thing for thing in rendered("production") if thing["metadata"]["name"].startswith("shop-topics")]


def test_the_user_may_do_what_the_parts_must_and_no_more() -> None:
    spelled = {"transactional-id": "transactionalId", "prefixed": "prefix"}
    topics = Topics("shop.")
    needed = {
        (spelled.get(acl.resource, acl.resource), acl.name, spelled.get(acl.pattern, acl.pattern), acl.operation)
        for role in ("worker", "learner", "embedder", "trainer", "dashboard", "admin")
        if role in ROLES
        for acl in acls(role, topics, "shop")  # type: ignore[arg-type]
    }
    given = {
        (rule["resource"]["type"], rule["resource"]["name"], rule["resource"]["patternType"], operation)
        for rule in only(rendered("production"), "KafkaUser")["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    }
    assert given == needed


def test_a_change_of_rules_restarts_nothing_and_one_of_settings_does() -> None:
    def checksum(*options: str) -> str:
        worker = only(rendered("production", *options), "StatefulSet")
        return str(worker["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum("--set", "rules=# none")
    assert checksum() != checksum("--set", "settings.policy_temperature=0.4")


def test_workers_are_scaled_by_the_lag_of_their_own_group() -> None:
    (trigger,) = only(rendered("production"), "ScaledObject")["spec"]["triggers"]
    assert (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) == ("shop", "shop.events")
    assert trigger["metadata"]["sasl"] == "scram_sha512"
    assert "replicas" not in only(rendered("production"), "StatefulSet")["spec"]  # else every upgrade undoes KEDA's


def test_every_value_is_documented_and_every_documented_one_is_there() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    undocumented = [path for path, part in walk(schema) if path and "description" not in part]
    assert undocumented == []
    inside = {path for path, _ in walk(schema)} - {"", "global"}
    free = ("worker.resources", "embedder.resources", "learner.resources", "dashboard.resources", "train.resources")
    assert set(paths(values)) | set(free) >= {path for path in inside if not path.endswith(("requests", "limits"))}


def walk(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)]
    for name, part in schema.get("properties", {}).items():
        found += walk(part, f"{path}.{name}".lstrip("."))
    return found


def paths(values: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        found += [here] + (paths(value, here) if isinstance(value, dict) else [])
    return found


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.*)"', (DEPLOY.parent / "pyproject.toml").read_text(), re.M)
    assert project is not None
    assert chart["appVersion"] == project.group(1)
