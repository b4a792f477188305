"""What every long-running command needs first: the cluster, its topics in order, readable logs."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from ops.errors import CliError
from ops.kafka import bootstrap, reachable
from ops.settings import Settings

if TYPE_CHECKING:
    from streams.cluster import Cluster


def connect(settings: Settings) -> Cluster:
    """Return the cluster to use; raises `CliError` when none is there."""
    from streams.cluster import Cluster

    return Cluster(bootstrap(settings.bootstrap_servers, settings.data_dir))


def require_topics(cluster: Cluster, settings: Settings) -> None:
    """Raise `CliError` unless the broker answers and every topic is as it should be."""
    from streams.topics import Topics, verify

    with reachable(cluster):
        problems = asyncio.run(verify(cluster, Topics(settings.topic_prefix), settings.partitions))
    if problems:
        raise CliError("\n".join(problems), "Create missing topics with `driftline topics create`.")


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
