"""Letters as text for people: hostile bytes never reach a terminal as they are.

Whatever a letter holds was written by somebody unknown: control characters, escape sequences and characters that
reorder text are shown escaped. Knows nothing of Kafka.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ops.deadletters.letters import Letter
from ops.deadletters.overview import Entry, Overview
from ops.deadletters.plan import Plan
from streams.deadletters import REASONS

HEXDUMP_BYTES = 4096
"""Shown of a value that is no JSON."""

FAILS_AGAIN = {
    "malformed_json": "the bytes stay what they are: they fail again unless the workers read more than before",
    "schema": "they fail again unless the workers' contract was loosened",
    "unknown_kind": "they fail again unless the workers know the kind now",
    "unknown_action": "they fail again unless DRIFTLINE_EVENTS_ACTIONS of the workers has the action now",
    "wrong_key": "they fail again: the key stays",
    "null_value": "they fail again: the value stays null",
    "time_past": "they keep their time: they fail again unless DRIFTLINE_EVENTS_OLDEST_TIME_MS was lowered",
    "duplicate_id": "they fail again as long as the user's state remembers the id",
    "too_large": "they fail again unless the topic that was too small takes more now",
    "already_folded": "they get new offsets, so they are folded: a second time, if the state has them already",
}
"""What becomes of letters that are sent again as they are, where that is not plain."""

_ROW = 16
_WIDE = 110
"""Columns of a terminal that has room for messages beside the rest."""


def safe(text: str | bytes | None, width: int | None = None) -> str:
    """Return text in one line that a terminal shows as it is; `-` for none, cut to `width` characters."""
    if text is None:
        return "-"
    if width is not None:
        text = text[: width + 1]
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    # A space of another kind, a joiner, an override of the writing direction: none of them is printable.
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if width is None or len(shown) <= width else shown[: width - 1] + "…"


def when(millis: int | None) -> str:
    """Return a time in milliseconds since the epoch, in UTC."""
    if millis is None:
        return "-"
    try:
        return dt.datetime.fromtimestamp(millis / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):  # a timestamp is whatever the producer said
        return f"{millis} ms"


def plain(topic: str, entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON values; texts with odd bytes escaped, the key also as base64."""
    letter = entry.letter
    source = letter.source
    return {
        "topic": topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": letter.time,
        "reason": letter.reason,
        "message": letter.message,
        "source": None
        if source is None
        else {"topic": source.topic, "partition": source.partition, "offset": source.offset, "time": source.time},
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "key_base64": _as_base64(letter.key),
        "bytes": entry.size,
        "truncated": letter.truncated is not None,
        "replayed": entry.replayed,
    }


def whole(topic: str, entry: Entry) -> dict[str, Any]:
    """Return everything about a letter as JSON values; bytes as base64, texts beside them where they are texts."""
    letter = entry.letter
    names = [name.decode(errors="backslashreplace") for name in letter.original_names()]
    return plain(topic, entry) | {
        "value": _as_text(letter.value),
        "value_base64": _as_base64(letter.value),
        "headers": [
            {"name": name, "value": _as_text(value), "value_base64": _as_base64(value)}
            for name, (_, value) in zip(names, letter.headers, strict=True)
        ],
    }


def _as_text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _as_base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def described(topic: str, entry: Entry) -> Iterator[str]:
    """Yield the lines that say everything about a letter."""
    letter, source = entry.letter, entry.letter.source
    yield f"letter    {topic} {letter.partition} {letter.offset}, written {when(letter.time)} UTC"
    yield f"reason    {safe(letter.reason) or '(none given)'}{_meaning(letter.reason)}"
    yield f"message   {safe(letter.message)}"
    if source is None:
        yield "source    (not said)"
    else:
        yield f"source    {safe(source.topic)} {source.partition} {source.offset}, of {when(source.time)} UTC"
    yield f"replayed  {'yes' if entry.replayed else 'no'}"
    if letter.truncated is not None:
        yield f"cut       the original had {letter.truncated:,} bytes; it cannot be replayed from here"
    yield f"key       {safe(letter.key)}"
    for name, (_, value) in zip(letter.original_names(), letter.headers, strict=True):
        yield f"header    {safe(name)}: {safe(value)}"
    yield ""
    yield from value_lines(letter)


def _meaning(reason: str) -> str:
    return f" ({REASONS[reason].replace('`', '')})" if reason in REASONS else ""


def value_lines(letter: Letter) -> Iterator[str]:
    """Yield the value: JSON indented, as it is otherwise; anything else as bytes with their offsets."""
    value = letter.value
    if value is None:
        yield "(null)"
        return
    try:
        text = msgspec.json.format(value.decode(), indent=2)  # not decoded and encoded: keys that stand twice stay
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        yield from hexdump(value)
    else:
        yield from map(safe, text.split("\n"))


def hexdump(value: bytes, limit: int = HEXDUMP_BYTES) -> Iterator[str]:
    """Yield lines of offset, bytes in hexadecimal, and ASCII; at most `limit` bytes."""
    for at in range(0, min(len(value), limit), _ROW):
        row = value[at : at + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|"
    if not value:
        yield "(empty)"
    if len(value) > limit:
        yield f"… {len(value) - limit:,} of {len(value):,} bytes more: --raw writes all of them"


def print_overview(topic: str, found: Overview) -> None:
    """Print a summary by reason, and the newest letters."""
    console = Console(highlight=False)
    if not found.count:
        console.print(f"No letters in {topic}.", markup=False)
        return
    summary = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("reason", "letters", "replayed", "first", "last"):
        summary.add_column(name, justify="right" if name in ("letters", "replayed") else "left", no_wrap=True)
    for reason, tally in found.reasons.items():
        cells = (
            safe(reason) or "(none)",
            f"{tally.count:,}",
            f"{tally.replayed:,}",
            when(tally.first),
            when(tally.last),
        )
        summary.add_row(*map(Text, cells))
    console.print(summary)
    console.print()
    (_print_table if console.width >= _WIDE else _print_lines)(console, found.newest)
    if len(found.newest) < found.count:
        console.print(f"… the newest {len(found.newest):,} of {found.count:,}; --limit shows more", style="dim")


def _cells(entry: Entry) -> tuple[str, ...]:
    """Where a letter lies, when it was written, its reason, where the original lay, and its key."""
    letter = entry.letter
    source = "-" if letter.source is None else f"{letter.source.partition} {letter.source.offset}"
    reason = safe(letter.reason) + (" (replayed)" if entry.replayed else "")
    return f"{letter.partition} {letter.offset}", when(letter.time), reason, source, safe(letter.key, 20)


def _print_table(console: Console, entries: Sequence[Entry]) -> None:
    letters = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("letter", "written (UTC)", "reason", "source", "key", "message"):
        letters.add_column(name, no_wrap=name != "message", overflow="ellipsis" if name == "key" else "fold")
    for entry in entries:
        letters.add_row(*map(Text, (*_cells(entry), safe(entry.letter.message, 200))))
    console.print(letters)


def _print_lines(console: Console, entries: Sequence[Entry]) -> None:
    """For a narrow terminal: the message below what a table would have beside it."""
    for entry in entries:
        place, written, reason, source, key = _cells(entry)
        console.print(Text(f"letter {place}, {written} UTC, {reason}, source {source}, key {key}"))
        console.print(Padding(Text(safe(entry.letter.message, 200)), (0, 0, 0, 4)))


def planned(found: Plan) -> Iterator[str]:
    """Yield the lines that say what a replay would do."""
    yield f"{found.count:,} letters would be sent again, {found.bytes:,} bytes."
    for reason, count in found.reasons.most_common():
        hint = f": {FAILS_AGAIN[reason]}" if reason in FAILS_AGAIN else ""
        yield f"  {count:,} {safe(reason) or '(no reason given)'}{hint}"
    for problem, count in found.left_out.most_common():
        yield f"  {count:,} left out: {safe(problem)}"
