"""`driftline topics`: create the topics, and check those that exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import typer

from ops.errors import CliError

app = typer.Typer(no_args_is_help=True)


@app.command()
def create() -> None:
    """Create the missing topics, then check all of them."""
    created = _run(_create)
    typer.echo("\n".join(f"created {name}" for name in created) or "All topics exist.")
    verify()


@app.command()
def verify() -> None:
    """Check partition counts, cleanup policies and size limits of the topics."""
    problems = _run(_verify)
    if problems:
        raise CliError("\n".join(problems), f"{len(problems)} problem(s) with the topics: mend them as said above.")
    typer.echo("All topics are as they should be.")


async def _create(address: str) -> list[str]:
    from ops.settings import load
    from streams.topics import TopicError, Topics, create

    settings = load()
    try:
        return await create(address, Topics(settings.topic_prefix), settings.partitions, settings.replication or None)
    except TopicError as error:
        raise CliError(
            str(error), "Check DRIFTLINE_REPLICATION and DRIFTLINE_PARTITIONS against the cluster."
        ) from error


async def _verify(address: str) -> list[str]:
    from ops.settings import load
    from streams.topics import Topics, verify

    settings = load()
    return await verify(address, Topics(settings.topic_prefix), settings.partitions)


def _run(action: Callable[[str], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    from ops.kafka import bootstrap, reachable
    from ops.settings import load

    settings = load()
    address = bootstrap(settings.bootstrap_servers, settings.data_dir)
    with reachable(address):
        return asyncio.run(action(address))  # type: ignore[arg-type]
