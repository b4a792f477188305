"""The permissions as text: the commands say what the JSON says, and nothing in them can run away."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from ops.acls import commands
from ops.cli import app
from ops.errors import CliError
from streams.acls import ROLES, Acl, acls
from streams.names import Topics

ENVIRONMENT = {"DRIFTLINE_TOPIC_PREFIX": "shop.", "DRIFTLINE_APP_ID": "app", "DRIFTLINE_BOOTSTRAP_SERVERS": "secret:1"}


def show(*arguments: str) -> str:
    shown = CliRunner().invoke(app, ["topics", "acls", *arguments], env=ENVIRONMENT, catch_exceptions=False)
    assert shown.exit_code == 0
    return shown.stdout


def read(command: str) -> tuple[str, set[Acl]]:
    """Principal and rules of a `kafka-acls` command: each operation on each resource."""
    words = shlex.split(command)
    assert words[:7] == [
        *("kafka-acls", "--bootstrap-server", "$KAFKA", "--command-config", "admin.properties", "--add", "--force")
    ]
    pairs = list(zip(words[7::2], words[8::2], strict=True))
    values = {name.removeprefix("--"): value for name, value in pairs}
    pattern = values.get("resource-pattern-type", "literal")
    kinds = ("--topic", "--group", "--transactional-id")
    resources = [(name.removeprefix("--"), value) for name, value in pairs if name in kinds]
    return values["allow-principal"], {Acl(kind, name, pattern, values["operation"]) for kind, name in resources}  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ROLES)
def test_the_commands_are_the_rules(role) -> None:
    lines = [line for line in show("--role", role, f"--principal-{role}", "User:me").splitlines() if line[:1] != "#"]
    found = [read(line) for line in lines if line]
    assert {principal for principal, _ in found} == {"User:me"}
    assert set[Acl]().union(*(rules for _, rules in found)) == set(acls(role, Topics("shop."), "app"))


def test_json_names_every_part_with_its_principal() -> None:
    shown = json.loads(show("--json", "--principal-worker", "User:CN=worker"))
    assert list(shown) == list(ROLES)
    assert shown["worker"]["principal"] == "User:CN=worker"
    assert shown["learner"]["principal"] == "User:driftline-learner"
    assert [Acl(**acl) for acl in shown["worker"]["acls"]] == list(acls("worker", Topics("shop."), "app"))


@pytest.mark.parametrize("name", ["bob", "User:", ":bob", ""])
def test_a_principal_without_its_kind_is_named(name: str) -> None:
    with pytest.raises(CliError, match=f"--principal-worker is '{name}'\nKafka wants its kind before it: User:"):
        show("--principal-worker", name)


def test_no_host_is_named_and_a_principal_is_quoted() -> None:
    assert "secret:1" not in show()
    (line,) = commands("User:CN=a b; rm -rf $HOME", [Acl("topic", "events", "literal", "Read")])
    assert read(line)[0] == "User:CN=a b; rm -rf $HOME"


def test_an_unknown_role_is_told() -> None:
    failed = CliRunner().invoke(app, ["topics", "acls", "--role", "boss"], env=ENVIRONMENT)
    assert "--role is 'boss'" in str(failed.exception)
