"""The contracts as documents: a JSON Schema for each message, the page that explains them with examples,
and the interface as AsyncAPI.

Everything that can be said by the structs is taken from them; the prose around it stands here. Knows nothing of
where the documents are written.
"""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from ops import asyncapi
from ops.contract_examples import EXAMPLES
from streams import contracts
from streams.deadletters import REASONS
from streams.topics import SPECS, TopicSpec

Schema = dict[str, Any]

PAGE = "contracts.md"
SCHEMAS = "schemas"
_DAY_MS = 86_400_000


def documents() -> dict[str, str]:
    """Return every document's text by its path, relative to the documentation's folder."""
    schemas = {f"{SCHEMAS}/{file_name(kind)}": _pretty(json_schema(kind)) for kind in messages()}
    described = asyncapi.document({kind: json_schema(kind) for kind in messages()}, version("driftline"))
    return {PAGE: page(), asyncapi.FILE: described} | schemas


def messages() -> list[type[Struct]]:
    """Return every message of every topic, in the contracts' order."""
    return [kind for kinds in contracts.TOPIC_MESSAGES.values() for kind in kinds]


def file_name(kind: type[Struct]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() + ".json"


def json_schema(kind: type[Struct]) -> Schema:
    """Return the message's JSON Schema (2020-12), units included in the descriptions."""
    schema = msgspec.json.schema(kind)
    parts: dict[str, Schema] = schema["$defs"]
    for name, part in parts.items():
        for field, meaning in _meanings(getattr(contracts, name)).items():
            part["properties"][field]["description"] = meaning
    own = parts.pop(kind.__name__)
    own["description"] = _one_line(own["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | own | ({"$defs": parts} if parts else {})


def _meanings(kind: type[Struct]) -> dict[str, str]:
    """Return what each field of a struct means; a field's own words before those of its type (an id's, a time's)."""
    hints = typing.get_type_hints(kind, include_extras=True)
    meanings: dict[str, str] = {}
    for name in kind.__struct_fields__:
        words = [meta.description for meta in getattr(hints[name], "__metadata__", ()) if meta.description]
        if words:
            meanings[name] = "; ".join(reversed(words))
    return meanings


def page() -> str:
    """Return the page about the contracts, as Markdown."""
    topics = "\n".join(_topic(spec) for spec in SPECS if spec.name in contracts.TOPIC_MESSAGES)
    parts = "\n".join(_section("###", getattr(contracts, name), part) for name, part in _parts().items())
    reasons = "\n".join(f"| `{reason}` | {wrong} |" for reason, wrong in REASONS.items())
    return (
        _PAGE.replace("{{topics}}", topics.strip()).replace("{{parts}}", parts.strip()).replace("{{reasons}}", reasons)
    )


def _parts() -> dict[str, Schema]:
    """Return the structs that messages are made of, in the order in which they are met."""
    return {name: part for kind in messages() for name, part in json_schema(kind).get("$defs", {}).items()}


def _topic(spec: TopicSpec) -> str:
    kinds = contracts.TOPIC_MESSAGES[spec.name]
    sections = "\n".join(_section("###", kind, json_schema(kind)) + _example(kind) for kind in kinds)
    return f"## Topic `{spec.name}`\n\n{_facts(spec)}\n\n{sections}"


def _facts(spec: TopicSpec) -> str:
    partitions = "as many partitions as `events`" if spec.partitions is None else f"{spec.partitions} partitions"
    if spec.name == "events":
        partitions = "4 partitions unless `DRIFTLINE_PARTITIONS` says otherwise"
    kept = [] if spec.retention_ms is None else [f"kept {spec.retention_ms // _DAY_MS} days"]
    facts = "; ".join(
        [spec.purpose, partitions.replace("1 partitions", "1 partition"), f"cleanup `{spec.cleanup}`", *kept]
    )
    return f"{facts[0].upper()}{facts[1:]}."


def _section(level: str, kind: type[Struct], schema: Schema) -> str:
    required = schema.get("required", [])
    rows = [_row(name, field, name in required) for name, field in schema["properties"].items()]
    link = f"\nSchema: [{SCHEMAS}/{file_name(kind)}]({SCHEMAS}/{file_name(kind)})\n" if kind in messages() else ""
    head = f"{level} {kind.__name__}\n\n{_one_line(schema['description'])}\n{link}"
    return f"{head}\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n" + "".join(rows)


def _row(name: str, field: Schema, required: bool) -> str:
    default = "" if required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
    meaning = field.get("description", "").replace("|", r"\|")
    return f"| `{name}` | {_type(field)} | {default} | {meaning} |\n"


def _type(schema: Schema) -> str:
    """Return a schema's type and bounds in words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    kind: str = schema["type"]
    bounds = " and ".join(_bounds(schema))
    bounded = f"{kind} ({bounds})" if bounds else kind
    if "items" in schema:
        return f"{bounded} of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"{bounded} of {_type(schema['additionalProperties'])}"
    return "string (base64)" if schema.get("contentEncoding") == "base64" else bounded


def _bounds(schema: Schema) -> Iterator[str]:
    for low, high, unit in (("minLength", "maxLength", " characters"), ("minItems", "maxItems", "")):
        if low in schema or high in schema:
            yield f"{schema.get(low, 0)} to {schema[high]}{unit}"
    for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤")):
        if name in schema:
            yield f"{sign} {schema[name]:.10g}"


def _example(kind: type[Struct]) -> str:
    (example,) = [one for one in EXAMPLES if type(one) is kind]
    fields = json.loads(contracts.encode(example))
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in fields.items())
    return f"\n```json\n{{\n{lines}\n}}\n```\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _pretty(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


_PAGE = """\
# Contracts

What every message on every topic looks like. Tables, examples, the JSON Schemas in `schemas/` and the AsyncAPI 3
document [asyncapi.json](asyncapi.json) are generated from the structs in `streams/contracts.py` by
`driftline contracts export docs`; a test fails when they drift apart.

- **Format**: JSON, UTF-8. Fields that a reader does not know are to be ignored; driftline ignores them too. Fields are
  added with a default, and never change their meaning.
- **Keys**: the record's key is the user's id or the item's id, as UTF-8, and must equal the field in the message. It
  decides the partition, and with it the order: what one user does is handled in the order of its partition.
- **Ids** are text of 1 to 256 bytes. JSON Schema counts characters, driftline counts bytes.
- **Times** are integers, milliseconds since the epoch, UTC.
- **Arrays of numbers** in fields named `…_f32`, `…_f64`, `…_i32`, `…_i64` are base64 of little-endian values:
  `numpy.frombuffer(base64.b64decode(text), "<f4")`.
- **Readers** of `recommendations`, `decisions` and `outcomes` set `isolation.level=read_committed`: driftline writes in
  transactions, and what an aborted one wrote was never said.
- **CloudEvents**: `ce_` headers (binary mode, version 1.x) may be sent along with events, and are not needed.

A field without a default must be there. `state` is the engine's own and no contract. A prefix
(`DRIFTLINE_TOPIC_PREFIX`) may stand before every topic's name.

{{topics}}

## Dead letters

`events.dlq` and `items.dlq` hold what could not be used: key, value and headers as they came, and these headers, all
UTF-8 text:

| Header | Meaning |
|---|---|
| `driftline-reason` | one of the words below, fit for a metric's label |
| `driftline-message` | which field, what it held, what was expected |
| `driftline-source-topic`, `driftline-source-partition`, `driftline-source-offset` | where the record lay |
| `driftline-source-time` | the record's timestamp, milliseconds since the epoch, UTC |
| `driftline-truncated` | only on a letter too large to keep whole: the original size in bytes |
| `driftline-escaped` | only where header names are not UTF-8: positions (from 0) of those, escaped as `caf\\xe9` |

| Reason | What was wrong |
|---|---|
{{reasons}}

What to do about each of them, and how to send letters again: [dead-letters.md](dead-letters.md). A record that
`driftline dlq replay` writes beside the letters has the header `driftline-replayed` and no `driftline-reason`: it is no
letter, but says which letters were sent again.

## Parts of messages

{{parts}}
"""
