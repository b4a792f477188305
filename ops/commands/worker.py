"""`driftline worker`: answers events. Builds the worker from the settings and hosts it; decides nothing else."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    web_port: Annotated[
        int | None, typer.Option(help="Serve /ready, /status and /metrics on this port (default: setting).")
    ] = None,
) -> None:
    """Answer events with recommendations until stopped; start more of them to share the partitions."""
    import asyncio

    from ops.configuration import worker_config
    from ops.connection import configure_logs, connect, require_topics
    from ops.kafka import reachable
    from ops.settings import load
    from streams.host import faust_app, host, run
    from streams.worker import Worker

    settings = load()
    cluster = connect(settings)
    require_topics(cluster, settings, "worker")
    configure_logs()
    config = worker_config(settings, cluster)

    async def main() -> None:
        port = settings.worker_web_port if web_port is None else web_port
        app = faust_app(f"{settings.app_id}-host", settings.data_dir / "faust", web_port=port)
        host(app, lambda: Worker(config))
        await run(app)

    with reachable(cluster):
        asyncio.run(main())
