"""The limit: driftline's own engine around a handler that only counts. Consume, transform, produce, commit.

A process of its own: `python -m bench.limit BOOTSTRAP PREFIX PLAN`, where PLAN is JSON.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec

from bench.job import Counting, Plan
from streams.cluster import Cluster
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.names import Topics


async def serve(cluster: Cluster, topics: Topics, plan: Plan) -> None:
    """Run until SIGTERM."""
    config = EngineConfig(
        cluster=cluster,
        app_id=f"{topics.prefix}app",
        events=topics.events,
        state=topics.state,
        dead_letters=topics.events_dlq,
    )
    engine = Engine(config, Counting(plan, topics))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, engine.stop)
    await engine.run()


if __name__ == "__main__":
    asyncio.run(serve(Cluster(sys.argv[1]), Topics(sys.argv[2]), msgspec.json.decode(sys.argv[3], type=Plan)))
