"""`driftline chaos`: kill everything, again and again, on a broker of its own, and account for every event."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from rich.console import Console

    from ops.chaos.run import Chaos

_INTERRUPTED = 130


def chaos(
    reports: Annotated[list[Path] | None, typer.Argument(help="For --summary: files that --report wrote.")] = None,
    kills: Annotated[int, typer.Option(help="SIGKILLs of workers; other faults come in proportion.", min=0)] = 5,
    workers: Annotated[int, typer.Option(help="Worker processes at the start.", min=1, max=16)] = 3,
    seconds: Annotated[float, typer.Option(help="How long events are sent, in seconds.", min=10)] = 180.0,
    seed: Annotated[int, typer.Option(help="Of the plan, the events and the world.", min=0)] = 0,
    rate: Annotated[float, typer.Option(help="Events a second.", min=1)] = 150.0,
    users: Annotated[int, typer.Option(help="Users, of very different activity.", min=10)] = 400,
    session_timeout: Annotated[
        float, typer.Option(help="Seconds after which a silent worker loses its partitions.", min=1)
    ] = 3.0,
    state_store: Annotated[str, typer.Option(help="Where workers keep user states: memory or disk.")] = "memory",
    report: Annotated[Path | None, typer.Option(help="Write what was found to this file, as JSON.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep data and logs also when all is well.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only show what would be done, and when.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Only print REPORTS as a Markdown table.")] = False,
) -> None:
    """Hurt a running system at seeded random times, then check independently that nothing is lost, doubled or wrong.

    On an embedded Kafka of its own, never yours. The exit status is 1 when anything is wrong; data and logs are kept
    then.
    """
    from ops.chaos.schedule import Options, described, plan

    if summary != bool(reports):
        raise CliError("--summary and files of reports go together", "driftline chaos --summary r1.json r2.json")
    if reports:
        from ops.chaos.report import read, table

        typer.echo(table([read(path) for path in reports]))
        return
    if report is not None and not report.absolute().parent.is_dir():
        raise CliError(f"--report {report}: its folder does not exist", "Create it first.")
    if state_store not in ("memory", "disk"):
        raise CliError(f"--state-store is {state_store}", "Give memory or disk.")
    options = Options(kills, workers, seconds, seed, rate, users, session_timeout, state_store)
    faults = plan(options)
    typer.echo(f"plan (seed {seed}): {described(faults)}, in {seconds:g} s")
    if plan_only:
        for fault in faults:
            lasts = f" for {fault.seconds:.1f} s" if fault.seconds else ""
            typer.echo(f"{fault.at:8.1f} s  {fault.kind}{lasts}{f' {fault.poison}' if fault.poison else ''}")
        return
    raise typer.Exit(_run(options, report, keep))


def _run(options: Any, report: Path | None, keep: bool) -> int:
    """Run in a folder of its own; returns the exit status."""
    import asyncio
    import shutil
    import tempfile

    from rich.console import Console

    from ops.chaos.report import well
    from ops.chaos.run import Chaos
    from ops.settings import load

    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="driftline-chaos-"))
    running = Chaos(
        options, folder, load().data_dir / "kafka" / "jars", lambda text: console.log(text, highlight=False)
    )
    found: dict[str, Any] | None = None
    try:
        found = asyncio.run(_until_stopped(running, console))
    finally:
        running.stop()
        kept = keep or found is None or not well(found)
        if kept and folder.exists():
            console.print(f"Data and logs are kept in {folder}", soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if found is None:
        return _INTERRUPTED
    return _conclude(found, report, console)


def _conclude(found: dict[str, Any], report: Path | None, console: Console) -> int:
    from ops.chaos.report import lines, well, write

    if report is not None:
        write(report, found)
    for line in lines(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print("[bold green]nothing is wrong[/]" if well(found) else "[bold red]something is wrong[/]")
    return 0 if well(found) else 1


async def _until_stopped(running: Chaos, console: Console) -> dict[str, Any] | None:
    """Run until it is over or a signal comes; None for a signal."""
    import asyncio
    import signal

    from ops.chaos.screen import status
    from ops.demo.tasks import beside

    main = asyncio.create_task(beside(running.run(), status(console, running.progress)))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, main.cancel)
    try:
        return await main
    except asyncio.CancelledError:
        return None
