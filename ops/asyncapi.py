"""The interface as an AsyncAPI 3 document: topics as channels, messages with schemas and examples, who sends what.

Written from driftline's side: it receives what it reads, it sends what it writes. Made from the same structs as the
other documents; knows nothing of how schemas come about.
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from ops.contract_examples import EXAMPLES
from streams import contracts
from streams.deadletters import REASONS
from streams.topics import SPECS, TopicSpec

Schema = dict[str, Any]

FILE = "asyncapi.json"

_RECEIVED = ("events", "items", "item_vectors", "models")
_SENT = ("item_vectors", "recommendations", "decisions", "outcomes", "models", "events.dlq", "items.dlq")
_LETTERS = ("events.dlq", "items.dlq")
_TEXT = {"type": "string"}


def document(schemas: dict[type[Struct], Schema], version: str) -> str:
    """Return the document's text. `schemas`: JSON Schema (2020-12) of each message, parts under `$defs`."""
    specs = [spec for spec in SPECS if spec.name in contracts.TOPIC_MESSAGES or spec.name in _LETTERS]
    parts: Schema = {}
    payloads = {kind.__name__: _payload(schema, parts) for kind, schema in schemas.items()}
    made = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "driftline",
            "version": version,
            "description": "A streaming online recommender: every event changes the next slate, exactly once. "
            "JSON in UTF-8; a prefix may stand before every topic's name. Readers set isolation.level=read_committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel(spec.name): _described(spec) for spec in specs},
        "operations": _operations({spec.name for spec in specs}),
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in schemas} | {"DeadLetter": _letter()},
            "schemas": payloads | dict(sorted(parts.items())),
        },
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def _channel(topic: str) -> str:
    return topic.replace(".", "_")


def _described(spec: TopicSpec) -> Schema:
    names = [kind.__name__ for kind in contracts.TOPIC_MESSAGES.get(spec.name, ())] or ["DeadLetter"]
    kafka: Schema = {"topic": spec.name, "bindingVersion": "0.5.0", "topicConfiguration": _configuration(spec)}
    if spec.partitions is not None:
        kafka["partitions"] = spec.partitions
    return {
        "address": spec.name,
        "description": spec.purpose,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": kafka},
    }


def _configuration(spec: TopicSpec) -> Schema:
    found: Schema = {"cleanup.policy": spec.cleanup.split(",")}
    if spec.retention_ms is not None:
        found["retention.ms"] = spec.retention_ms
    if spec.max_message_bytes is not None:
        found["max.message.bytes"] = spec.max_message_bytes
    return found


def _operations(known: set[str]) -> Schema:
    both = [("receive", topic) for topic in _RECEIVED] + [("send", topic) for topic in _SENT]
    return {
        f"{action}_{_channel(topic)}": {"action": action, "channel": {"$ref": f"#/channels/{_channel(topic)}"}}
        for action, topic in both
        if topic in known
    }


def _message(kind: type[Struct]) -> Schema:
    examples = [json.loads(contracts.encode(example)) for example in EXAMPLES if type(example) is kind]
    key = "item" if kind in (contracts.Item, contracts.ItemVector) else "user"
    message: Schema = {
        "name": kind.__name__,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"payload": example} for example in examples],
    }
    if key in kind.__struct_fields__:
        described = _TEXT | {"description": f"the {key}'s id, as in the message"}
        message["bindings"] = {"kafka": {"key": described, "bindingVersion": "0.5.0"}}
    return message


def _letter() -> Schema:
    names = ("message", "source-topic", "source-partition", "source-offset", "source-time")
    headers = {"driftline-reason": _TEXT | {"enum": list(REASONS)}} | {f"driftline-{name}": _TEXT for name in names}
    return {
        "name": "DeadLetter",
        "description": "What could not be used: key, value and headers as they came, and headers that say why.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": headers, "required": list(headers)},
        "payload": {"description": "the original bytes"},
    }


def _payload(schema: Schema, parts: Schema) -> Schema:
    """The schema with its parts moved to `parts`, where other messages find them too."""
    moved: Schema = _moved(schema)
    parts.update(moved.pop("$defs", {}))
    moved.pop("$schema", None)
    return moved


def _moved(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: _reference(value) if name == "$ref" else _moved(value) for name, value in part.items()}
    return [_moved(one) for one in part] if isinstance(part, list) else part


def _reference(path: str) -> str:
    return path.replace("#/$defs/", "#/components/schemas/")
