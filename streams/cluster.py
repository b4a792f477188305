"""How to reach a Kafka cluster: every client of driftline is made here, so that all connect in the same way.

Knows addresses and, where the cluster asks for them, encryption and credentials; knows nothing about topics
or about what clients do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from streams import lenient as lenient  # every consumer reads header names that are not UTF-8

MAX_FETCH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and how to log in to it.

    Attributes:
        bootstrap_servers: `host:port`, several separated by commas.
        security: what the client library is to be told beyond that (security_protocol, ssl_context, sasl_…);
            never printed, since it may hold a password.
    """

    bootstrap_servers: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.bootstrap_servers

    def consumer(self, *topics: str, **options: Any) -> AIOKafkaConsumer:
        """A consumer of committed records that starts at the beginning and commits nothing by itself."""
        defaults = {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
        }
        return AIOKafkaConsumer(*topics, **self._connection, **(defaults | options))

    def producer(self, **options: Any) -> AIOKafkaProducer:
        """A producer; its options are the client library's."""
        return AIOKafkaProducer(**self._connection, **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        """An admin client; its options are the client library's."""
        return AIOKafkaAdminClient(**self._connection, **options)

    @property
    def _connection(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap_servers, **self.security}
