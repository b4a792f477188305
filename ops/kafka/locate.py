"""Which Kafka to use: the one the settings name, else the embedded one of this user.

Knows nothing about settings objects or commands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ops.errors import CliError
from ops.kafka.broker import EmbeddedKafka

if TYPE_CHECKING:
    from streams.cluster import Cluster


def embedded(data_dir: Path, port: int | None = None) -> EmbeddedKafka:
    """The embedded Kafka of the data folder `data_dir`, running or not."""
    return EmbeddedKafka(data_dir / "kafka" / "broker", data_dir / "kafka" / "jars", port)


def bootstrap(bootstrap_servers: str, data_dir: Path) -> str:
    """The address to use (`host:port`, several separated by commas).

    Args:
        bootstrap_servers: the setting; empty for the embedded one.
        data_dir: where that one lives.

    Raises:
        CliError: no address is set and the embedded Kafka does not run.
    """
    if bootstrap_servers:
        return bootstrap_servers
    kafka = embedded(data_dir)
    if kafka.address is None or not kafka.running:
        raise CliError(
            "there is no Kafka to use: DRIFTLINE_BOOTSTRAP_SERVERS is not set and the embedded one does not run",
            "Start it with `driftline kafka start`.",
        )
    return kafka.address


@contextlib.contextmanager
def reachable(cluster: Cluster) -> Iterator[None]:
    """Turn "cannot connect" within the block into one line that names the cluster's address."""
    from aiokafka.errors import KafkaConnectionError

    try:
        yield
    except KafkaConnectionError as error:
        raise CliError(
            f"no Kafka answers at {cluster}",
            "See `driftline kafka status`, or check DRIFTLINE_BOOTSTRAP_SERVERS.",
        ) from error
