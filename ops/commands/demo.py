"""`driftline demo`: the whole system at work on MovieLens 100K, with a live screen and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console

    from ops.demo.run import Demo

_INTERRUPTED = 130


def demo(
    events: Annotated[int | None, typer.Option(help="Live events; by default all 80,000.", min=1)] = None,
    rate: Annotated[float, typer.Option(help="Live events a second.", min=0.1)] = 200.0,
    exit_: Annotated[bool, typer.Option("--exit", help="End when all is sent and answered.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write what was found to this file, as JSON.")] = None,
    workers: Annotated[int, typer.Option(help="Worker processes that share the events.", min=1, max=16)] = 1,
    keep: Annotated[
        bool, typer.Option("--keep/--fresh", help="Keep topics and files of earlier demos, or delete them.")
    ] = False,
) -> None:
    """Start everything, replay MovieLens 100K as live events, and show what comes of it.

    Runs on the embedded Kafka, or on the cluster that is set. The exit status is 1 when an event was lost or answered
    twice.
    """
    import asyncio

    from rich.console import Console

    from ops.demo.run import Demo, Options
    from ops.settings import load

    if report is not None and not report.absolute().parent.is_dir():
        raise CliError(f"--report {report}: its folder does not exist", "Create it first.")
    console = Console()
    running = Demo(load(), Options(events, rate, workers, keep))
    try:
        status = asyncio.run(_until_stopped(running, console, report, not exit_))
    finally:
        # Not in the event loop: a thread of it may still be starting the broker, and is waited for by now.
        running.stop()
    raise typer.Exit(status)


async def _until_stopped(running: Demo, console: Console, report: Path | None, stay: bool) -> int:
    """Run the demo until it is over or a signal comes; return the exit status."""
    import asyncio
    import signal

    main = asyncio.create_task(_run(running, console, report, stay))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        return await main
    except asyncio.CancelledError:
        return _INTERRUPTED
    finally:
        console.print("Ending what was started.")
        running.stop()


async def _run(running: Demo, console: Console, report: Path | None, stay: bool) -> int:
    import asyncio

    from ops.demo.report import succeeded, summary, write
    from ops.demo.screen import LiveScreen, PlainLines
    from ops.demo.tasks import beside, every

    screen = LiveScreen(console, running.progress) if console.is_terminal else PlainLines(console, running.progress)
    with screen:
        found: dict[str, Any] = await beside(running.run(), every(0.25, screen.tick))
    console.print(summary(found))
    if report is not None:
        write(report, found)
    status = 0 if succeeded(found) else 1
    if stay:
        console.print(_still_running(running), soft_wrap=True, highlight=False)
        try:
            await running.watch()
        except asyncio.CancelledError:
            return status
    return status


def _still_running(running: Demo) -> str:
    settings = "\n".join(f"  export {name}={value}" for name, value in running.environment.items())
    return f"All of it is still running, until Ctrl-C. To look at it from another terminal:\n{settings}"
