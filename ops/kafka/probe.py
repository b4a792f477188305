"""Asks a Kafka whether it serves: one real metadata request, since an open socket proves nothing.

Knows nothing about who runs that Kafka.
"""

from __future__ import annotations

import asyncio
import logging


def cluster_id(bootstrap: str, timeout_s: float = 3) -> str | None:
    """The id of the cluster at `bootstrap` (`host:port`); None while it does not serve."""
    return asyncio.run(_cluster_id(bootstrap, timeout_s))


async def _cluster_id(bootstrap: str, timeout_s: float) -> str | None:
    from aiokafka.errors import KafkaError

    from streams.cluster import Cluster

    # A broker that is not up yet is what is being asked about, not news for the log.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    admin = Cluster(bootstrap).admin(request_timeout_ms=int(timeout_s * 1000))
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            cluster = await admin.describe_cluster()
        return str(cluster["cluster_id"]) if cluster["brokers"] else None
    except (KafkaError, OSError, TimeoutError):
        return None
    finally:
        await admin.close()
        logging.getLogger("aiokafka").setLevel(logging.NOTSET)
