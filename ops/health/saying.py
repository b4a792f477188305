"""How numbers read: with their units, to the digits that matter. None stays None: it is not known."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: `text` None where it is not known, and `why` then says why. `age` in seconds."""

    label: str
    text: str | None
    age: float | None = None
    why: str = ""
    note: str = ""


def seconds(value: float | None) -> str | None:
    """A short time, with its unit."""
    if value is None:
        return None
    if value < 0.001:
        return f"{value * 1e6:,.0f} µs"
    return f"{value * 1e3:,.1f} ms" if value < 1 else f"{value:,.1f} s"


def duration(value: float | None) -> str | None:
    """A longer time, to the unit that matters."""
    if value is None:
        return None
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:,.0f} {unit}"
    return f"{max(0.0, value):,.0f} s" if value >= 1 else "under 1 s"


def count(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def share(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{100 * value:.1f} %" if value >= 0.001 or value == 0 else f"{100 * value:.2g} %"


def decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def signed(value: float) -> str:
    """A part of a sum; a dash where the column is empty."""
    return f"{float(value):+.3f}".replace("-", "−") if math.isfinite(float(value)) else "—"


def ratio(part: float, whole: float) -> float | None:
    """None where there is no whole."""
    return part / whole if whole else None
