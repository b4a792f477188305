"""Events in Avro, as Confluent's serializers write them: a zero byte, the schema's id (4 bytes, big-endian), the body.

Fields are called as in the JSON contract; what they hold is checked by the same types. Needs `driftline[avro]`. Knows
nothing of where schemas come from.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgspec

from streams.contracts import Event
from streams.schema_registry import UnknownSchema
from streams.validation import AVRO_MAGIC, KINDS, BadMessage

_HEADER = 5
_PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "bytes", "string"}
_DEEPEST = 4


def parse(text: str) -> Any:
    """A schema that events may be read with: a record of plain fields. Raises ValueError for any other.

    Records within records are what no event has, and what lets a small value take endless time or stack.
    """
    from fastavro import parse_schema
    from fastavro.schema import SchemaParseException, UnknownType

    try:
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("type") != "record":
            raise ValueError("it is no record")
        for field in found["fields"]:
            _require_plain(field["type"], 0)
        return parse_schema(found)
    except (SchemaParseException, UnknownType, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no Avro schema: {error!r}") from error


def _require_plain(kind: Any, depth: int) -> None:
    """A primitive, a logical type of one, an enum, or unions and arrays of them."""
    if depth > _DEEPEST:
        raise ValueError("its fields are nested")
    if isinstance(kind, list):
        for one in kind:
            _require_plain(one, depth + 1)
    elif isinstance(kind, dict) and kind.get("type") == "array":
        if kind["items"] == "null":
            raise ValueError("an array of nothing")
        _require_plain(kind["items"], depth + 1)
    elif isinstance(kind, dict) and kind.get("type") == "enum":
        return
    elif isinstance(kind, dict):
        _require_plain(kind["type"], depth + 1)
    elif kind not in _PRIMITIVES:
        raise ValueError(f"it has a field of type {str(kind)[:60]!r}, expected plain ones")


class AvroEvents:
    """Reads the event in a value. `schema`: gives a parsed schema by its id, as `SchemaRegistry.schema` does."""

    def __init__(self, schema: Callable[[int], Any]) -> None:
        from fastavro import schemaless_reader

        self._schema, self._read = schema, schemaless_reader

    def __call__(self, value: bytes) -> Event:
        """The event in a value that begins with the zero byte.

        Raises BadMessage, or `NotNow` where its schema cannot be had just now.
        """
        if len(value) < _HEADER or value[:1] != AVRO_MAGIC:
            raise BadMessage("malformed_avro", f"{len(value)} bytes, expected a zero, 4 of a schema's id, and the rest")
        number = int.from_bytes(value[1:_HEADER], "big")
        try:
            schema = self._schema(number)
        except UnknownSchema as error:
            raise BadMessage("unknown_schema", str(error)) from error
        body = BytesIO(value[_HEADER:])
        try:
            found = self._read(body, schema, None)
        except Exception as error:  # whatever bytes do to the library that are not what their schema says
            raise BadMessage("malformed_avro", f"not what schema {number} says: {type(error).__name__}") from error
        if body.read(1):
            raise BadMessage("malformed_avro", f"there is more than schema {number} says")
        return _event(found, schema)


def _event(found: Any, schema: Any) -> Event:
    """The event that a record's fields make; a null field is one that is not there."""
    fields = {name: _millis(value) for name, value in found.items() if value is not None}
    name = str(schema["name"]).rpartition(".")[2].lower()
    if "kind" not in fields and name in KINDS:
        fields["kind"] = name
    if fields.get("kind") not in KINDS:
        raise BadMessage("unknown_kind", f"kind is {fields.get('kind')!r:.60}; expected one of {', '.join(KINDS)}")
    try:
        event: Event = msgspec.convert(fields, Event)
    except msgspec.ValidationError as error:
        raise BadMessage("schema", str(error)) from None
    return event


def _millis(value: Any) -> Any:
    """Avro's timestamps come as moments, events have milliseconds."""
    return round(value.timestamp() * 1000) if isinstance(value, dt.datetime) else value
