"""Curves as a small SVG: a line for each arm, by hand, for want of a plotting library. Knows nothing of arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 48, 150, 28, 36
COLOURS = ("#1b6ca8", "#d1495b", "#3c8d5a", "#8c5e9e", "#c98a1b", "#4d4d4d", "#28a3a3", "#a0522d", "#999999")


def lines(curves: Mapping[str, Sequence[float]], title: str, across: str, ticks: int) -> str:
    """An SVG of curves of equal length; `across` names what runs from 0 to `ticks` from left to right.

    Raises ValueError when there is no curve, or they differ in length.
    """
    sizes = {len(curve) for curve in curves.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"curves have lengths {sorted(sizes)}, expected one length of at least 1")
    size, top = sizes.pop(), max(max(curve) for curve in curves.values()) or 1.0
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def point(at: int, value: float) -> str:
        return f"{LEFT + wide * (at + 0.5) / size:.1f},{TOP + high * (1 - value / top):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="11" role="img"><title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="13">{escape(title)}</text>',
        f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}, 0 to {ticks}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = TOP + high * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{share * top:.2f}</text>')
    ends = sorted(curves, key=lambda name: -curves[name][-1])
    for place, name in enumerate(ends):
        colour = COLOURS[list(curves).index(name) % len(COLOURS)]
        points = " ".join(point(at, value) for at, value in enumerate(curves[name]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        y = TOP + 14 * place + 8
        parts.append(f'<rect x="{LEFT + wide + 12}" y="{y - 7}" width="10" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + wide + 27}" y="{y}">{escape(name)} {curves[name][-1]:.2f}</text>')
    return "\n".join([*parts, "</svg>\n"])
