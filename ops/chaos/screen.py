"""The line at the bottom of the terminal while chaos reigns; elsewhere a line now and then.

Knows nothing of where the figures come from.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from ops.chaos.run import Progress

_PLAIN_EVERY_S = 10.0


async def status(console: Console, progress: Progress) -> None:
    """Show `progress`; never returns."""
    with console.status("starting") as line:
        shown, said = 0.0, ""
        while True:
            text = _line(progress)
            line.update(text)
            stage = progress.stage.split(":")[0].split(" (")[0]  # without figures that change all the time
            if not console.is_terminal and (stage != said or time.monotonic() > shown + _PLAIN_EVERY_S):
                console.print(text, highlight=False, soft_wrap=True)
                shown, said = time.monotonic(), stage
            await asyncio.sleep(0.25)


def _line(progress: Progress) -> str:
    if not progress.sent:
        return progress.stage
    return (
        f"{progress.stage} ({time.monotonic() - progress.begun:.0f} s): {progress.sent:,} events, "
        f"{progress.slates:,} slates, {progress.faults_left} faults to come; {progress.workers}"
    )
