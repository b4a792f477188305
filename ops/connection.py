"""What every long-running command needs first: the cluster, its topics in order, readable logs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from ops.errors import CliError
from ops.kafka import bootstrap, reachable
from ops.kafka.refusals import PERMISSIONS
from ops.logs import Repeats, without_words
from ops.settings import DEBUG_VARIABLE, Settings

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


def require_port(port: int, setting: str) -> None:
    """Raise `CliError` unless web pages can be served on `port`; 0: on none. `setting`: what it is set with."""
    if port == 0:
        return
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            raise CliError(
                f"web pages cannot be served on port {port}: {(error.strerror or str(error)).lower()}",
                f"Choose another with {setting}; 0: none.",
            ) from error


def require_state_folder(settings: Settings) -> None:
    """Raise `CliError` unless user states can be kept where the settings say: in memory, or in a folder."""
    from ops.configuration import disk_config
    from streams.stores import check_folder

    if settings.state_store != "disk":
        return
    folder = disk_config(settings).folder
    try:
        check_folder(folder)
    except OSError as error:
        raise CliError(
            f"DRIFTLINE_STATE_DIR={str(settings.state_dir)!r}: user states cannot be kept in {folder}: "
            f"{error.strerror or error}",
            "Set DRIFTLINE_STATE_DIR to a folder on a local disk that this user can write to, or "
            "DRIFTLINE_STATE_STORE=memory.",
        ) from error


def configure_logs() -> None:
    """Log to standard error: readable on a terminal, JSON elsewhere.

    No payload and no id of a user or item is logged above debug, which DRIFTLINE_DEBUG=1 shows.
    """
    import structlog

    debugging = os.environ.get(DEBUG_VARIABLE) == "1"
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if debugging else without_words,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debugging else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Repeats())
