"""The AsyncAPI document: references lead somewhere, every topic and message is in it, examples fit their schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ops.contracts_docs import documents, messages
from streams import contracts
from streams.topics import SPECS

DOCUMENT: dict[str, Any] = json.loads(documents()["asyncapi.json"])


def references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [path for one in part for path in references(one)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [path for one in part.values() for path in references(one)]


def test_every_reference_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert len(found) > 40
    for path in found:
        at: Any = DOCUMENT
        for name in path.removeprefix("#/").split("/"):
            at = at[name]


def test_every_topic_but_the_engines_own_is_a_channel() -> None:
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == {spec.name for spec in SPECS} - {"state"}
    named = {name for channel in DOCUMENT["channels"].values() for name in channel["messages"]}
    assert named == {kind.__name__ for kind in messages()} | {"DeadLetter"}


def test_what_is_received_and_sent() -> None:
    operations = {
        (operation["action"], operation["channel"]["$ref"].rsplit("/", 1)[1])
        for operation in DOCUMENT["operations"].values()
    }
    assert {
        ("receive", "events"),
        ("receive", "items"),
        ("send", "recommendations"),
        ("send", "events_dlq"),
    } < operations
    assert ("send", "events") not in operations and ("receive", "recommendations") not in operations


@pytest.mark.parametrize("kind", messages(), ids=lambda kind: kind.__name__)
def test_examples_fit_their_schemas(kind: type) -> None:
    message = DOCUMENT["components"]["messages"][kind.__name__]
    schema = {"$ref": message["payload"]["$ref"], "components": DOCUMENT["components"]}
    validator = Draft202012Validator(schema)
    for example in message["examples"]:
        assert list(validator.iter_errors(example["payload"])) == []
    needed = DOCUMENT["components"]["schemas"][kind.__name__]["required"][0]
    assert list(validator.iter_errors(message["examples"][0]["payload"] | {needed: None}))


def test_the_version_is_the_projects() -> None:
    from importlib.metadata import version

    assert DOCUMENT["info"]["version"] == version("driftline")
    assert contracts.TOPIC_MESSAGES.keys() <= {channel["address"] for channel in DOCUMENT["channels"].values()}
