"""`driftline status`: how it goes, on one screen, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from ops.health.deployment import Deployment


def status(as_json: AsJson = False) -> None:
    """Show how it goes: cluster, topics, who reads them and how far behind, releases, dead letters; and what to do.

    The exit status is 0 when nothing needs attention, 1 when something does. Writes nothing.
    """
    try:
        found = _read()
    except CliError as error:
        if not as_json:
            raise
        first = {"level": "red", "words": error.problem, "next": error.next_step}
        print_json({"healthy": False, "advice": [first]})
        raise typer.Exit(1) from error
    from ops.health.printing import plain, show
    from ops.health.verdict import healthy, verdict

    advice = verdict(found)
    if as_json:
        print_json(plain(found, advice))
    else:
        show(found, advice)
    raise typer.Exit(0 if healthy(advice) else 1)


def _read() -> Deployment:
    import asyncio

    from ops.connection import connect
    from ops.health.deployment import read_deployment
    from ops.health.processes import endpoints
    from ops.kafka.refusals import PERMISSIONS, reachable
    from ops.settings import load
    from streams.names import Topics
    from streams.topics import TopicError

    settings = load()
    listed = endpoints(settings.dashboard_endpoints)
    cluster = connect(settings)
    with reachable(cluster):
        try:
            return asyncio.run(
                read_deployment(cluster, Topics(settings.topic_prefix), settings.app_id, settings.partitions, listed)
            )
        except TopicError as error:
            raise CliError(str(error), PERMISSIONS) from error
