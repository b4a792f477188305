"""What every long-running command needs first: the cluster, its topics in order, readable logs."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from ops.errors import CliError
from ops.kafka import bootstrap, reachable
from ops.kafka.refusals import PERMISSIONS
from ops.logs import Repeats
from ops.settings import Settings

if TYPE_CHECKING:
    from streams.acls import Role
    from streams.cluster import Cluster


def connect(settings: Settings) -> Cluster:
    """Return the cluster to use, and how to log in to it.

    Raises CliError when no address is known, or a file with a certificate or a password is of no use.
    """
    from ops.login import client_options
    from streams.cluster import Cluster

    return Cluster(bootstrap(settings.bootstrap_servers, settings.data_dir), client_options(settings))


def require_topics(cluster: Cluster, settings: Settings, role: Role | None = None) -> None:
    """Raise `CliError` unless the broker answers and the topics that `role` uses (None: all) are as they should be."""
    from streams.acls import topics_of
    from streams.topics import TopicError, Topics, verify

    topics = Topics(settings.topic_prefix)
    used = None if role is None else topics_of(role, topics)
    with reachable(cluster):
        try:
            problems = asyncio.run(verify(cluster, topics, settings.partitions, used))
        except TopicError as error:
            raise CliError(str(error), PERMISSIONS) from error
    if problems:
        allowed = f" {PERMISSIONS}" if cluster.logs_in else ""
        raise CliError("\n".join(problems), f"Create missing topics with `driftline topics create`.{allowed}")


def configure_logs() -> None:
    """Log to standard error: readable on a terminal, JSON elsewhere."""
    import structlog

    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeats())
