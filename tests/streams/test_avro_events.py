"""Events in Avro: what Confluent's wire format holds becomes the same event as JSON, and nothing else gets in."""

from __future__ import annotations

import io
import json
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.avro_events import AvroEvents, parse
from streams.contracts import Erase, Event, Impression, Interaction, Request, encode
from streams.job import NotNow
from streams.schema_registry import UNKNOWN_FOR_S, SchemaRegistry
from streams.validation import BadMessage, EventRules, decode_event
from tests.streams.registry import REAL, Registry, registry

SCHEMA = (Path(__file__).parents[2] / "docs" / "clients" / "event.avsc").read_text()
NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture
def known(server: Registry) -> int:
    return register(server, SCHEMA)


def register(server: Registry, schema: str) -> int:
    return server.register(f"{uuid.uuid4().hex}-value", schema)


def rules(server: Registry) -> EventRules:
    return EventRules(("view", "rate"), avro=AvroEvents(SchemaRegistry(server.url, parse).schema))


def framed(number: int, fields: dict[str, Any], schema: str = SCHEMA) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(schema)), fields)
    return struct.pack(">bI", 0, number) + body.getvalue()


def refused(value: bytes, rules: EventRules, reason: str) -> str:
    with pytest.raises(BadMessage) as caught:
        decode_event(b"u", value, NOW, rules)
    assert caught.value.reason == reason
    return str(caught.value)


@pytest.mark.parametrize(
    "event",
    [
        Interaction("u", "i", NOW, "rate", 4.5, "e1", "0-7"),
        Interaction("u", "ü", NOW),
        Impression("u", NOW, ["a", "b"], "0-7"),
        Request("u", NOW, "e2"),
        Erase("u", NOW),
    ],
)
def test_every_kind_is_the_same_event_as_in_json(server: Registry, known: int, event: Event) -> None:
    value = framed(known, json.loads(encode(event)))
    assert (
        decode_event(b"u", value, NOW, rules(server)) == event == decode_event(b"u", encode(event), NOW, rules(server))
    )


def test_a_record_may_be_named_for_its_kind(server: Registry) -> None:
    fields = [{"name": "user", "type": "string"}, {"name": "time", "type": "long"}]
    schema = json.dumps({"type": "record", "name": "Request", "namespace": "shop", "fields": fields})
    value = framed(register(server, schema), {"user": "u", "time": NOW}, schema)
    assert decode_event(b"u", value, NOW, rules(server)) == Request("u", NOW)


def test_an_event_is_checked_as_json_is(server: Registry, known: int) -> None:
    event = {"kind": "interaction", "user": "u", "item": "i", "time": NOW}
    assert "expected one of view, rate" in refused(
        framed(known, event | {"action": "lick"}), rules(server), "unknown_action"
    )
    assert "item" in refused(framed(known, event | {"item": None}), rules(server), "schema")
    refused(framed(known, event | {"user": "v"}), rules(server), "wrong_key")


def test_what_is_no_avro_of_its_schema_is_turned_away(server: Registry, known: int) -> None:
    good = framed(known, {"kind": "request", "user": "u", "time": NOW})
    for value in (good[:3], good[:5], good[:-1], good + b"\0", good[:5] + b"\xff" * 20):
        refused(value, rules(server), "malformed_avro")
    assert "no schema with id 123456" in refused(struct.pack(">bI", 0, 123_456), rules(server), "unknown_schema")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_event_or_a_reason(server: Registry, body: bytes) -> None:
    read = AvroEvents(lambda _: parse(SCHEMA))
    try:
        assert read(b"\0\0\0\0\x01" + body).user is not None
    except BadMessage as bad:
        assert bad.reason in ("malformed_avro", "schema", "unknown_kind")


@pytest.mark.parametrize(
    "schema",
    [
        '"string"',
        '{"type": "record", "name": "E", "fields": [{"name": "next", "type": ["null", "E"]}]}',
        '{"type": "record", "name": "E", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}',
        '{"type": "record", "name": "E", "fields": [{"name": "a", "type": {"type": "map", "values": "string"}}]}',
        '{"type": "record", "name": "E", "fields": [{"name": "a", "type": "nix"}]}',
        '{"type": "record", "name": "E"}',
        "{",
    ],
)
def test_schemas_with_which_a_small_value_could_do_harm_are_not_used(schema: str) -> None:
    with pytest.raises(ValueError):
        parse(schema)


def test_without_a_registry_it_is_json_that_is_malformed() -> None:
    refused(struct.pack(">bI", 0, 1), EventRules(("view",)), "malformed_json")


@pytest.mark.skipif(bool(REAL), reason="a real registry does not count")
def test_a_schema_is_asked_for_once_and_an_unknown_one_now_and_then(server: Registry, known: int) -> None:
    now = [0.0]
    found = SchemaRegistry(server.url, parse, clock=lambda: now[0])
    read = AvroEvents(found.schema)
    server.asked.clear()
    for _ in range(3):
        read(framed(known, {"kind": "request", "user": "u", "time": NOW}))
    assert server.asked == [f"/schemas/ids/{known}"]
    for _ in range(3):
        with pytest.raises(BadMessage):
            read(struct.pack(">bI", 0, 9_999))
    now[0] += UNKNOWN_FOR_S
    with pytest.raises(BadMessage):
        read(struct.pack(">bI", 0, 9_999))
    assert server.asked[1:] == ["/schemas/ids/9999"] * 2


@pytest.mark.skipif(bool(REAL), reason="a real registry is not switched off")
def test_a_registry_that_is_away_is_no_fault_of_the_event(server: Registry, known: int) -> None:
    value = framed(known, {"kind": "request", "user": "u", "time": NOW})
    mine, gone = (
        rules(server),
        EventRules(("view",), avro=AvroEvents(SchemaRegistry("http://127.0.0.1:1", parse).schema)),
    )
    server.down = True
    try:
        for one in (mine, gone):
            with pytest.raises(NotNow):
                decode_event(b"u", value, NOW, one)
    finally:
        server.down = False
    assert decode_event(b"u", value, NOW, mine) == Request("u", NOW)
