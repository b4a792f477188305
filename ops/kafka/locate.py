"""Which Kafka to use: the one the settings name, else the embedded one of this user.

Knows nothing about settings objects or commands.
"""

from __future__ import annotations

from pathlib import Path

from ops.errors import CliError
from ops.kafka.broker import EmbeddedKafka


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
