"""A seeded source of bad events: good ones that were broken in every way somebody's producer may break them.

Each way names the reasons that the dead letter may give, so that a wrong verdict is found too. `odd_but_good` makes
the opposite: events at the edge of what the contract lets in.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from tests import small

ARRIVED = small.START + 10**6
"""When the records were appended, unless a test says otherwise."""
SKEW = small.RULES.clock_skew_ms
Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """What a producer sends; `reasons`: those its dead letter may give, none for a good event."""

    way: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    reasons: frozenset[str] = frozenset()


@dataclass(slots=True)
class Draft:
    """A good event on its way to be broken."""

    fields: dict[str, Any]
    key: bytes | None
    headers: Headers = ()
    arrived: int = ARRIVED

    @property
    def text(self) -> str:
        return json.dumps(self.fields)

    def with_raw(self, field: str, raw: str) -> bytes:
        """The event with what stands for `field` in the text being `raw`, which need not be JSON."""
        return json.dumps(self.fields | {field: "@"}).replace('"@"', raw).encode()


Way = Callable[[random.Random, Draft], "bytes | None"]
WAYS: list[tuple[str, frozenset[str], Way]] = []
RARE: list[tuple[str, frozenset[str], Way]] = []
"""Large ones."""


def way(*reasons: str, rare: bool = False) -> Callable[[Way], Way]:
    def note(function: Way) -> Way:
        (RARE if rare else WAYS).append((function.__name__, frozenset(reasons), function))
        return function

    return note


# -- not JSON, not UTF-8 -------------------------------------------------------------------------------


@way("malformed_json")
def truncated(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode()[: r.randrange(len(draft.text))]


@way("malformed_json")
def a_bit_flipped(r: random.Random, draft: Draft) -> bytes:
    """The highest, which makes no ASCII text UTF-8; others may give another good event."""
    text = bytearray(draft.text.encode())
    text[r.randrange(len(text))] ^= 0x80
    return bytes(text)


@way("malformed_json")
def not_utf8_in_a_string(r: random.Random, draft: Draft) -> bytes:
    odd = r.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe9"])
    return draft.with_raw(r.choice([*draft.fields, "colour"]), '"?"').replace(b"?", odd)


@way("malformed_json")
def not_utf8_in_a_name(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode()[:-1] + b', "caf\xe9": 1}'


@way("malformed_json")
def lone_surrogate(r: random.Random, draft: Draft) -> bytes:
    field = r.choice([*(set(draft.fields) & {"user", "item", "action", "id"}), "colour"])
    return draft.with_raw(field, r.choice([r'"\ud800"', r'"x\udfff"', r'"\udc00\ud800"', r'"\ud83d"']))


@way("malformed_json")
def control_character(r: random.Random, draft: Draft) -> bytes:
    return draft.with_raw(r.choice(["user", "colour"]), f'"a{chr(r.randrange(32))}b"')


@way("malformed_json", "schema")
def no_number_of_json(r: random.Random, draft: Draft) -> bytes:
    words = [
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "0x10",
        "01",
        "+1",
        ".5",
        "1.",
        "1e",
        "--1",
        "1_000",
        "True",
        "None",
    ]
    return draft.with_raw(r.choice(["weight", "time", "colour"]), r.choice(words))


@way("malformed_json")
def deep(r: random.Random, draft: Draft) -> bytes:
    opening, closing = r.choice([("[", "]"), ('{"a":', "}")])
    depth = r.randrange(2_000, 4_000)
    inner = opening * depth + ("1" + closing * depth if r.random() < 0.5 and opening != "[" else "")
    return draft.with_raw("colour", inner)


@way("malformed_json")
def another_encoding(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode(r.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "cp037"]))


@way("malformed_json")
def packed(r: random.Random, draft: Draft) -> bytes:
    text = draft.text.encode()
    return r.choice([gzip.compress, zlib.compress, base64.b64encode, base64.b85encode])(text)


@way("malformed_json")
def another_format(r: random.Random, draft: Draft) -> bytes:
    fields, text = draft.fields, draft.text
    return r.choice(
        [
            repr(fields),
            text.replace('"', ""),
            text[:-1] + ",}",
            text + "// note",
            f"/* note */ {text}",
            ",".join(map(str, fields.values())),
            "<event/>",
            "&".join(f"{name}={value}" for name, value in fields.items()),
            text.replace(":", "=", 1),
            text.replace(",", ";"),
            "data: " + text,
        ]
    ).encode()


@way("malformed_json")
def more_than_one(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode() + r.choice([draft.text.encode(), b"\x00", b"}", b"1", b"\xe2\x80\xa8", b"null"])


@way("malformed_json")
def empty(r: random.Random, draft: Draft) -> bytes:
    return r.choice([b"", b" ", b"\n\n", b"\x00", b"\t"])


@way("malformed_json", "schema")
def noise(r: random.Random, draft: Draft) -> bytes:
    return r.randbytes(r.randrange(1, 200))


@way("malformed_json", "schema")
def msgpack(r: random.Random, draft: Draft) -> bytes:
    return msgspec.msgpack.encode(draft.fields)


# -- JSON, but no event --------------------------------------------------------------------------------


@way("schema")
def no_object(r: random.Random, draft: Draft) -> bytes:
    whole: Any = r.choice(
        [None, True, 7, 1.5, "text", [], [draft.fields], json.dumps(draft.fields), list(draft.fields)]
    )
    return json.dumps(whole).encode()


@way("schema")
def missing_field(r: random.Random, draft: Draft) -> bytes:
    gone = r.choice(["kind", "user", "item", "time"])
    return json.dumps({name: value for name, value in draft.fields.items() if name != gone}).encode()


_WRONG: dict[str, list[Any]] = {
    "user": [None, True, 7, 1.5, [], {}, ["u"], {"id": "u"}],
    "item": [None, False, 7, -1.5, [], {}, ["i"]],
    "time": [None, True, 1.5, "1600000000000", [], {}, "2020-09-13T12:26:40Z", 1.6e12],
    "action": [None, True, 7, [], {}],
    "weight": [None, True, "4.5", [], {}],
    "id": [True, 7, [], {}],
    "slate": [True, 7, [], {}],
}


@way("schema")
def wrong_type(r: random.Random, draft: Draft) -> bytes:
    field = r.choice(list(_WRONG))
    return json.dumps(draft.fields | {field: r.choice(_WRONG[field])}).encode()


@way("unknown_kind")
def unknown_kind(r: random.Random, draft: Draft) -> bytes:
    kinds = [None, 7, True, [], {}, "", "dance", "Interaction", "interaction ", "ınteraction", "k" * r.randrange(5_000)]
    return json.dumps(draft.fields | {"kind": r.choice(kinds)}).encode()


@way("unknown_kind")
def two_kinds(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode()[:-1] + b', "kind": "' + r.choice([b"erase", b"request", b"x"]) + b'"}'


@way("unknown_action")
def unknown_action(r: random.Random, draft: Draft) -> bytes:
    actions = [
        "lick",
        "",
        "VIEW",
        "view\u0000",
        "\x1b[31mview",
        "view ",
        "ｖｉｅｗ",
        "a" * 64,
        "💥",
        "rate\n",
        "'; DROP",
    ]
    return json.dumps(draft.fields | {"action": r.choice(actions)}, ensure_ascii=r.random() < 0.5).encode()


@way("schema")
def id_of_a_wrong_size(r: random.Random, draft: Draft) -> bytes:
    field = r.choice(["user", "item", "id"])
    size = r.choice([257, 1_000, 20_000])
    text = r.choice(["", "x" * size, "é" * max(129, size // 2), "💥" * max(65, size // 4), "\u0000" * size])
    draft.key = text.encode() if field == "user" else draft.key
    return json.dumps(draft.fields | {field: text}, ensure_ascii=r.random() < 0.5).encode()


@way("schema")
def number_out_of_bounds(r: random.Random, draft: Draft) -> bytes:
    weights = ["0", "-1", "-0.0", "1e7", "1e308", "1e400", "-1e400", "1e-400", "9" * 400, "1" + "0" * 4_000]
    times = ["-1", "1" + "0" * 40, "1" + "0" * 4_000, str(2**63), str(2**64), str(2**53 + 1), "1e12", "1600000000000.0"]
    field, raw = r.choice([("weight", text) for text in weights] + [("time", text) for text in times])
    return draft.with_raw(field, raw)


@way("schema")
def bad_impression(r: random.Random, draft: Draft) -> bytes:
    items: Any = r.choice(
        [[], ["i"] * 1_001, [""], ["i", None], ["i", 7], ["x" * 257], {}, "i1", None, [["i"]], ["é" * 129], ["i", ""]]
    )
    return json.dumps(draft.fields | {"kind": "impression", "items": items}).encode()


@way("schema")
def a_field_twice(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode()[:-1] + r.choice([b', "item": 7}', b', "time": null}', b', "weight": "x", "weight": 1}'])


# -- an event, but not here or not now -----------------------------------------------------------------


@way("wrong_key")
def wrong_key(r: random.Random, draft: Draft) -> bytes:
    key = draft.key or b""
    draft.key = r.choice([None, b"", key + b"\x00", b" " + key, key.upper(), b"\xff\xfe", b"k" * 5_000, key + b"1"])
    return draft.text.encode()


@way("wrong_key")
def another_user_last(r: random.Random, draft: Draft) -> bytes:
    return draft.text.encode()[:-1] + b', "user": "somebody else"}'


@way("null_value")
def null_value(r: random.Random, draft: Draft) -> None:
    return None


@way("time_past")
def time_past(r: random.Random, draft: Draft) -> bytes:
    times = [0, 1, small.START // 1000, small.RULES.oldest_time - 1]
    return json.dumps(draft.fields | {"time": r.choice(times)}).encode()


@way("time_future")
def time_future(r: random.Random, draft: Draft) -> bytes:
    times = [draft.arrived + SKEW + 1, small.START * 1000, 2**53, draft.arrived + 10 * SKEW]
    return json.dumps(draft.fields | {"time": r.choice(times)}).encode()


@way("envelope")
def bad_envelope(r: random.Random, draft: Draft) -> bytes:
    odd = [
        ("ce_specversion", b"2.0"),
        ("ce_specversion", b"0.3"),
        ("ce_specversion", b""),
        ("CE_SpecVersion", b"1"),
        ("ce_id", b"\xff"),
        ("ce_", b"\x80"),
        ("ce_type", "é".encode("latin-1")),
        ("ce_specversion", "1.0".encode("utf-16")),
    ]
    draft.headers = (("ce_specversion", b"1.0"), ("trace", None), r.choice(odd), ("last", b"\x00\xff"))
    return draft.text.encode()


@way("envelope")
def header_name_not_utf8(r: random.Random, draft: Draft) -> bytes:
    name = r.choice([b"caf\xe9", b"\xff", b"\xed\xa0\x80", b"driftlin\xe9", b"a\\b\xc3", b"\x80" * 300])
    draft.headers = (("trace", b"1"), (name.decode(errors="surrogateescape"), r.choice([None, b"", b"\xff"])))
    return draft.text.encode()


# -- large ---------------------------------------------------------------------------------------------


@way("schema", rare=True)
def megabyte_of_item(r: random.Random, draft: Draft) -> bytes:
    return json.dumps(draft.fields | {"item": "x" * 1_000_000}).encode()


@way("wrong_key", rare=True)
def megabyte_of_key(r: random.Random, draft: Draft) -> bytes:
    draft.key = r.randbytes(1) * 1_000_000
    return draft.text.encode()


@way("malformed_json", rare=True)
def megabyte_of_brackets(r: random.Random, draft: Draft) -> bytes:
    return r.choice([b'{"colour":' + b"[" * 1_000_000, b'{"a":' * 200_000, b"{" * 1_000_000])


@way("unknown_kind", rare=True)
def megabyte_of_kind(r: random.Random, draft: Draft) -> bytes:
    return json.dumps(draft.fields | {"kind": "\x1b" * 160_000}).encode()


@way("malformed_json", rare=True)
def megabyte_of_noise(r: random.Random, draft: Draft) -> bytes:
    return b"\x00" + r.randbytes(1_000_000)


# -- the streams ---------------------------------------------------------------------------------------


def draft(r: random.Random, user: str) -> Draft:
    fields = {
        "kind": "interaction",
        "user": user,
        "item": f"i{r.randrange(40)}",
        "time": small.START + r.randrange(10**6),
    }
    headers: Headers = r.choice([(), (), (("traceparent", b"00-1"), ("empty", None), ("traceparent", b"\x00\xff"))])
    return Draft(fields | r.choice([{}, {"action": "rate", "weight": 4.5}]), user.encode(), headers)


def malformed(seed: int, count: int, rare: int, arrived: int = ARRIVED) -> Iterator[Sent]:
    """Yield `count` bad events, of which about one in `rare` is large."""
    r = random.Random(seed)
    for number in range(count):
        name, reasons, broken = r.choice(RARE if rare and number % rare == rare - 1 else WAYS)
        made = draft(r, f"u{r.randrange(200)}")
        made.arrived = arrived
        value = broken(r, made)
        yield Sent(name, made.key, value, made.headers, reasons)


def odd_but_good(seed: int, count: int, arrived: int = ARRIVED) -> Iterator[Sent]:
    """Yield events that are let in, many of them at the edge of the contract."""
    r = random.Random(seed)
    users = [*(f"u{number}" for number in range(200)), "\u0000", "\x1b[2J", "💥" * 64, "x" * 256, "é" * 128, " ", "{}"]
    for _ in range(count):
        made = draft(r, r.choice(users))
        edge: dict[str, Any] = r.choice(
            [
                {},
                {"weight": 5e-324},
                {"weight": 1e6},
                {"item": "never heard of"},
                {"item": "\u2028" * 85},
                {"time": small.RULES.oldest_time},
                {"time": arrived + SKEW},
                {"colour": "red", "kind": "request"},
                {"kind": "impression", "items": ["i1"] * 1_000},
                {"kind": "impression", "items": ["i1", "i2"], "slate": "no such"},
                {"slate": None, "id": None},
                {"user": made.fields["user"], "nested": json.loads("[" * 300 + "]" * 300)},
                {"slate": "x" * 256},
            ]
        )
        text = json.dumps(made.fields | edge, ensure_ascii=r.random() < 0.5)
        headers = r.choice([made.headers, (("ce_specversion", b"1.0"), ("CE_ID", b"7"), ("ce_source", None))])
        yield Sent("good", made.key, r.choice(["", " \n"]).encode() + text.encode() + b"\n", headers)
