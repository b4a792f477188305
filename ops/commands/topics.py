"""`driftline topics`: create the topics, and check those that exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from streams.cluster import Cluster

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


async def _create(cluster: Cluster) -> list[str]:
    from ops.settings import load
    from streams.topics import TopicError, Topics, create

    settings = load()
    try:
        return await create(cluster, Topics(settings.topic_prefix), settings.partitions, settings.replication or None)
    except TopicError as error:
        raise CliError(
            str(error), "Check DRIFTLINE_REPLICATION and DRIFTLINE_PARTITIONS against the cluster."
        ) from error


async def _verify(cluster: Cluster) -> list[str]:
    from ops.settings import load
    from streams.topics import Topics, verify

    settings = load()
    return await verify(cluster, Topics(settings.topic_prefix), settings.partitions)


def _run(action: Callable[[Cluster], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load

    cluster = connect(load())
    with reachable(cluster):
        return asyncio.run(action(cluster))  # type: ignore[arg-type]
