"""Times as people write them on a command line: a moment, or a span back from now or ahead of something.

Knows nothing of what is filtered by them.
"""

from __future__ import annotations

import datetime as dt
import re
import time

from ops.errors import CliError

_UNITS_MS = {"s": 1000, "min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}


def millis(option: str, text: str, now: int | None = None) -> int:
    """Return milliseconds since the epoch of `2026-01-31T12:00` (UTC unless it says otherwise), `90min`, `2h`, `7d`,
    or of milliseconds themselves; spans count back from `now`.

    Raises CliError, which names the option.
    """
    if text.isdecimal() and text.isascii():
        return int(text)
    if found := re.fullmatch(r"(\d{1,9})\s*(\w+)", text.strip(), re.ASCII):
        count, unit = found.groups()
        if unit in _UNITS_MS:
            return (round(time.time() * 1000) if now is None else now) - int(count) * _UNITS_MS[unit]
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CliError(
            f"{option} is {text!r}", "Expected a time like 2026-01-31T12:00 (UTC), or a span before now like 2h or 7d."
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def ahead(option: str, text: str, since: int) -> int:
    """Return milliseconds since the epoch of `+1h`, `+7d`, `+90min`, counted from `since`, or of a moment as `millis`
    reads it.

    Raises CliError, which names the option, also when the moment is not after `since`.
    """
    found = re.fullmatch(r"\+\s*(\d{1,9})\s*(\w+)", text.strip(), re.ASCII)
    if found and found[2] in _UNITS_MS:
        at = since + int(found[1]) * _UNITS_MS[found[2]]
    elif _moment(text):
        at = millis(option, text)
    else:
        raise CliError(
            f"{option} is {text!r}", "Expected a span ahead like +1h or +7d, or a time like 2026-01-31T12:00."
        )
    if at <= since:
        moment = dt.datetime.fromtimestamp(since / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        raise CliError(f"{option} is {text!r}", f"Expected a time after {moment} (UTC), or a span ahead like +7d.")
    return at


def _moment(text: str) -> bool:
    if text.isdecimal() and text.isascii():
        return True
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
