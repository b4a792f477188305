"""How to reach a Kafka cluster: every client of driftline is made here, so that all connect in the same way.

Knows addresses and, where the cluster asks for them, encryption and credentials; knows nothing about topics
or about what clients do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import AuthenticationFailedError, IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streams import lenient as lenient  # every consumer reads header names that are not UTF-8

MAX_FETCH_BYTES = 8 * 1024 * 1024
_CHECK_WITHIN_S = 5.0


@contextlib.asynccontextmanager
async def running(client: Any) -> AsyncIterator[Any]:
    """Start a consumer, producer or admin client, and stop it at the end.

    Also where it could not start: left alone, it would complain on standard error of not having been closed.
    """
    try:
        await client.start()
        yield client
    finally:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


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
    def logs_in(self) -> bool:
        """Whether clients tell who they are, by a password, a token or a certificate."""
        return bool(self.security.get("security_protocol", "PLAINTEXT") != "PLAINTEXT")

    @property
    def login(self) -> str:
        """Who logs in, in words for a message: no secret."""
        if "sasl_oauth_token_provider" in self.security:
            return "the bearer of the token"
        if "sasl_plain_username" in self.security:
            return f"user {self.security['sasl_plain_username']}"
        return "this client"

    async def check(self) -> None:
        """Connect to the first server that answers, log in, and ask it one thing; raises as `ask` does."""
        await self.ask(MetadataRequest([]))

    async def ask(self, request: Any) -> Any:
        """Connect to the first server that answers, log in, and return its answer to a request of the protocol.

        Raises what prevents it: KafkaError, `ssl.SSLError` or another OSError, TimeoutError. Clients only say that
        they could not connect, and log the reason. Where the server takes no version of the request that is known
        here: IncompatibleBrokerVersion or NotImplementedError.
        """
        failures: list[Exception] = []
        for host, port, _ in collect_hosts(self.bootstrap_servers):
            try:
                return await self._try(host, port, request)
            except IncompatibleBrokerVersion:
                raise
            except (KafkaError, OSError, TimeoutError) as error:
                failures.append(error)
        # Why one server refuses tells more than that another is away.
        raise max(failures, key=lambda error: not isinstance(error, ConnectionError | TimeoutError))

    async def _try(self, host: str, port: int, request: Any) -> Any:
        async with asyncio.timeout(_CHECK_WITHIN_S):
            connection = await create_conn(host, port, client_id="driftline-check", **self.security)
        try:
            async with asyncio.timeout(_CHECK_WITHIN_S):
                known = await connection.send(MetadataRequest([]))
                # The library takes a refused token for an accepted one; all that comes then is an empty answer.
                if not known.brokers:
                    raise AuthenticationFailedError("the token is not accepted")
                return known if isinstance(request, MetadataRequest) else await connection.send(request)
        finally:
            await asyncio.wait({connection.close()}, timeout=1)

    @property
    def _connection(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.bootstrap_servers, **self.security}
