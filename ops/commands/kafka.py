"""`driftline kafka`: start, stop, look at and delete the embedded Kafka of this user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from ops.kafka import EmbeddedKafka, Status

app = typer.Typer(no_args_is_help=True)


@app.command()
def start(
    port: Annotated[
        int | None, typer.Option(help="For clients; by default the last one, or any.", min=1024, max=65535)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for its first answer.", min=1)] = 90,
) -> None:
    """Start Kafka in the background and wait until it answers."""
    from rich.console import Console

    if (other := _other_kafka()) is not None:
        typer.echo(f"Not needed: {other}")
        return
    kafka = _embedded(port)
    was_running = kafka.running
    with Console(stderr=True).status("Kafka") as line:
        found = kafka.start(line.update, timeout)
    if was_running and port and not found.endswith(f":{port}"):
        raise CliError(f"Kafka runs already, at {found}", "To move it: `driftline kafka stop`, then start it again.")
    typer.echo(f"Kafka {'runs already' if was_running else 'is ready'} at {found}")


@app.command()
def stop() -> None:
    """Stop it in order; its data stays."""
    typer.echo("Kafka is stopped." if _embedded().stop() else "Kafka was not running.")


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show address, process, uptime, version, data folder and sizes."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    if as_json:
        print_json({"in_use": _other_kafka() is None, **asdict(_embedded().status())})
        return
    if (other := _other_kafka()) is not None:
        typer.echo(f"Not in use: {other}")
    table = Table(show_header=False, box=None)
    for name, value in _described(_embedded().status()):
        table.add_row(name, value)
    Console().print(table, soft_wrap=True)


@app.command()
def purge(
    force_stop: Annotated[bool, typer.Option("--force-stop", help="Stop it first if it runs.")] = False,
) -> None:
    """Delete everything it stored. The downloaded jars stay."""
    deleted = _embedded().purge(force_stop=force_stop)
    typer.echo("Kafka's data is deleted." if deleted else "There was nothing to delete.")


def _embedded(port: int | None = None) -> EmbeddedKafka:
    from ops.kafka import embedded
    from ops.settings import load

    return embedded(load().data_dir, port)


def _other_kafka() -> str | None:
    from ops.settings import load

    address = load().bootstrap_servers
    return f"bootstrap_servers is set, so everything uses the Kafka at {address}." if address else None


def _described(status: Status) -> list[tuple[str, str]]:
    rows = [
        ("state", "running" if status.running else "stopped"),
        ("address", status.address or "none yet"),
        ("version", status.version),
        ("folder", str(status.folder)),
        ("on disk", _mib(status.size_bytes)),
    ]
    if status.running:
        rows += [
            ("pid", str(status.pid)),
            ("uptime", f"{status.uptime_s or 0:.0f} s"),
            ("memory", _mib(status.memory_bytes or 0)),
        ]
    return rows


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
