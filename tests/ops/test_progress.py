"""Progress where there is no terminal: now and then a line."""

from __future__ import annotations

import io

from rich.console import Console

from ops.progress import Lines


def test_elsewhere_than_on_a_terminal_there_is_a_line_now_and_then() -> None:
    now, out = [0.0], io.StringIO()
    with Lines(Console(file=out), "reading", clock=lambda: now[0]) as lines:
        for at in range(35):
            now[0] = float(at)
            lines.tell(f"read {at} [of 35]")
    assert out.getvalue() == "read 10 [of 35]\nread 20 [of 35]\nread 30 [of 35]\n"


def test_on_a_terminal_nothing_stays() -> None:
    out = io.StringIO()
    with Lines(Console(file=out, force_terminal=True), "reading", clock=lambda: 100.0) as lines:
        lines.tell("read 1")
    assert out.getvalue().endswith("\x1b[1A\x1b[2K")
