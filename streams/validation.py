"""What is let in: bytes from a topic become a typed message, or a `BadMessage` that says what is wrong.

Knows the contracts and a deployment's rules; knows nothing of Kafka clients or of what is done with a
good message or a bad one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from streams.contracts import MAX_ID_BYTES, Event, Impression, Interaction, Item, ItemVector
from streams.deadletters import is_utf8


class BadMessage(ValueError):
    """A message that breaks its contract.

    `reason` is a short word from a fixed list, fit for a metric label; the text says which field, what
    it held and what was expected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EventRules(Struct, frozen=True):
    """What a deployment accepts beyond the schema."""

    actions: tuple[str, ...]
    oldest_time: int = 631_152_000_000  # 1990-01-01: older is a unit error (seconds for milliseconds)
    clock_skew_ms: int = 600_000
    avro: Callable[[bytes], Event] | None = None
    """Reads values that begin with a zero byte, which no JSON does; None: they are malformed."""


AVRO_MAGIC = b"\0"
KINDS = ("interaction", "impression", "request", "erase")

_event_decoder = msgspec.json.Decoder(Event)
_item_decoder = msgspec.json.Decoder(Item)
_vector_decoder = msgspec.json.Decoder(ItemVector)

MAX_VECTOR_NUMBER = 1e6
"""Encoders give numbers of about 1; far larger ones would overflow on their way to a score."""


def decode_event(key: bytes | None, value: bytes | None, arrived: int, rules: EventRules) -> Event:
    """Return the event in `value`, or raise `BadMessage`.

    `arrived` is the record's timestamp in milliseconds: an event may lie at most `rules.clock_skew_ms`
    after it. The key must be the user's id, since it decides the partition and so the order.
    """
    if value is None:
        raise BadMessage("null_value", "value is null; expected a JSON event (to forget a user send kind=erase)")
    avro = rules.avro if value[:1] == AVRO_MAGIC else None
    event: Event = _decode(_event_decoder, value) if avro is None else avro(value)
    _check_id("user", event.user)
    if key is None or key != event.user.encode():
        raise BadMessage("wrong_key", f"key is {_show(key)}; expected the user's id, {_show(event.user)}")
    if event.time < rules.oldest_time:
        raise BadMessage(
            "time_past", f"time is {event.time}; expected milliseconds since the epoch, at least {rules.oldest_time}"
        )
    if event.time > arrived + rules.clock_skew_ms:
        raise BadMessage(
            "time_future",
            f"time is {event.time}, {event.time - arrived} ms after it arrived; "
            f"expected at most {rules.clock_skew_ms} ms",
        )
    _check_details(event, rules)
    return event


def _check_details(event: Event, rules: EventRules) -> None:
    if event.id is not None:
        _check_id("id", event.id)
    if isinstance(event, Interaction):
        _check_id("item", event.item)
        if event.action not in rules.actions:
            raise BadMessage(
                "unknown_action", f"action is {_show(event.action)}; expected one of {', '.join(rules.actions)}"
            )
        if not math.isfinite(event.weight):
            raise BadMessage("schema", f"weight is {event.weight}; expected a finite number")
    elif isinstance(event, Impression):
        for item in event.items:
            _check_id("items", item)


def decode_item(key: bytes | None, value: bytes) -> Item:
    """Return the item in `value`, or raise `BadMessage`. The key must be the item's id."""
    item: Item = _decode(_item_decoder, value)
    _check_id("item", item.item)
    if key is None or key != item.item.encode():
        raise BadMessage("wrong_key", f"key is {_show(key)}; expected the item's id, {_show(item.item)}")
    return item


def decode_item_vector(key: bytes | None, value: bytes) -> ItemVector:
    """Return the item vector in `value`, or raise `BadMessage`. The key must be the item's id."""
    vector: ItemVector = _decode(_vector_decoder, value)
    _check_id("item", vector.item)
    if key is None or key != vector.item.encode():
        raise BadMessage("wrong_key", f"key is {_show(key)}; expected the item's id, {_show(vector.item)}")
    if len(vector.vector_f32) % 4 or not vector.vector_f32:
        raise BadMessage("schema", f"vector_f32 has {len(vector.vector_f32)} bytes; expected 4 for each number")
    numbers = np.frombuffer(vector.vector_f32, "<f4")
    if not (np.abs(numbers) <= MAX_VECTOR_NUMBER).all():
        raise BadMessage(
            "schema",
            f"vector_f32 holds {numbers[~(np.abs(numbers) <= MAX_VECTOR_NUMBER)][0]}; "
            f"expected numbers within ±{MAX_VECTOR_NUMBER:g}",
        )
    return vector


def _decode(decoder: msgspec.json.Decoder[Any], value: bytes) -> Any:
    try:
        if not value.isascii():
            value.decode()  # the decoder does not look into fields that it skips
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        if str(error).endswith("`$.kind`"):
            raise BadMessage("unknown_kind", f"{error}; expected one of {', '.join(KINDS)}") from None
        raise BadMessage("schema", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage("malformed_json", str(error)) from None


def _check_id(field: str, value: str) -> None:
    size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if not 0 < size <= MAX_ID_BYTES:
        raise BadMessage("schema", f"{field} has {size} bytes; expected 1 to {MAX_ID_BYTES}")


def _show(value: str | bytes | None) -> str:
    text = repr(None if value is None else value[:60])  # a key may be a megabyte
    return text if len(text) <= 60 else text[:57] + "…"


class Envelope(Struct, frozen=True):
    """CloudEvents attributes of a record in binary mode (`ce_` headers); accepted, never required."""

    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None


def cloud_event(headers: Sequence[tuple[str, bytes]]) -> Envelope | None:
    """Return the CloudEvents envelope of a record's headers, or None when there is none.

    Raises `BadMessage` for an envelope of a version other than 1.x, and for a header of any kind whose name is not
    UTF-8: what cannot be written cannot be passed on.
    """
    for name, _ in headers:
        if not is_utf8(name):
            raise BadMessage(
                "envelope", f"a header's name is {_show(name.encode(errors='surrogateescape'))}; expected UTF-8"
            )
    found = {name[3:].lower(): value for name, value in headers if name[:3].lower() == "ce_"}
    if not found:
        return None
    try:
        text = {name: value.decode() for name, value in found.items() if value is not None}
    except UnicodeDecodeError as error:
        raise BadMessage("envelope", f"CloudEvents header is not UTF-8: {error}") from None
    if not text.get("specversion", "1.0").startswith("1."):
        raise BadMessage("envelope", f"ce_specversion is {_show(text['specversion'])}; expected 1.x")
    return Envelope(text.get("id"), text.get("source"), text.get("type"), text.get("time"))
