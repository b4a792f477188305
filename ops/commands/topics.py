"""`driftline topics`: create the topics, and check those that exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.completing import roles
from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from streams.cluster import Cluster

app = typer.Typer(no_args_is_help=True)

Principal = Annotated[str, typer.Option(metavar="User:NAME", help="Who that part logs in as.")]


@app.command()
def create(as_json: AsJson = False) -> None:
    """Create the missing topics, then check all of them."""
    created = _run(_create)
    if as_json:
        _tell({"created": created}, _run(_verify))
        return
    typer.echo("\n".join(f"created {name}" for name in created) or "All topics exist.")
    verify()


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Check partition counts, cleanup policies and size limits of the topics."""
    problems = _run(_verify)
    if as_json:
        _tell({}, problems)
    elif problems:
        raise CliError("\n".join(problems), f"{len(problems)} problem(s) with the topics: mend them as said above.")
    else:
        typer.echo("All topics are as they should be.")


def _tell(first: dict[str, object], problems: list[str]) -> None:
    print_json(first | {"good": not problems, "problems": problems})
    if problems:
        raise typer.Exit(1)


@app.command()
def acls(
    only: Annotated[
        list[str] | None, typer.Option("--role", help="Only this part; may be repeated.", autocompletion=roles)
    ] = None,
    principal_worker: Principal = "User:driftline-worker",
    principal_learner: Principal = "User:driftline-learner",
    principal_embedder: Principal = "User:driftline-embedder",
    principal_trainer: Principal = "User:driftline-trainer",
    principal_producer: Principal = "User:driftline-producer",
    principal_catalogue: Principal = "User:driftline-catalogue",
    principal_subscriber: Principal = "User:driftline-subscriber",
    principal_auditor: Principal = "User:driftline-auditor",
    principal_replayer: Principal = "User:driftline-replayer",
    principal_eraser: Principal = "User:driftline-eraser",
    principal_mender: Principal = "User:driftline-mender",
    principal_purger: Principal = "User:driftline-purger",
    principal_admin: Principal = "User:driftline-admin",
    as_json: AsJson = False,
) -> None:
    """Print what each part must be allowed to do on a Kafka with access control, and the commands that allow it."""
    from ops.acls import plain, rules, text
    from ops.settings import load
    from streams.acls import ROLES
    from streams.names import Topics

    given = locals()
    principals = {role: given[f"principal_{role}"] for role in ROLES}
    for role, name in principals.items():
        kind, colon, who = name.partition(":")
        if not (kind and colon and who):
            raise CliError(
                f"--principal-{role} is {name!r}", f"Kafka wants its kind before it: User:{who or kind or 'NAME'}."
            )
    if unknown := set(only or ()) - set(ROLES):
        raise CliError(f"--role is {sorted(unknown)[0]!r}", f"Expected one of {', '.join(ROLES)}.")
    settings = load()
    found = rules(only or ROLES, Topics(settings.topic_prefix), settings.app_id)
    if as_json:
        print_json(plain(found, principals))
    else:
        typer.echo(text(found, principals))


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
