"""`driftline worker`: answers events. Builds the worker from the settings and hosts it; decides nothing else."""

from __future__ import annotations

from typing import Annotated

import typer


def worker(
    web_port: Annotated[
        int | None,
        typer.Option(
            help="Serve /ready, /status and /metrics on this port; 0: on none (default: setting).", min=0, max=65535
        ),
    ] = None,
) -> None:
    """Answer events with recommendations until stopped; start more of them to share the partitions."""
    import asyncio

    from ops.configuration import worker_config
    from ops.connection import configure_logs, connect, require_port, require_state_folder, require_topics
    from ops.kafka import reachable
    from ops.metrics.export import metrics_page
    from ops.metrics.readings import of_worker
    from ops.settings import load
    from ops.tracing import open_tracer
    from streams.host import faust_app, host, run
    from streams.worker import Worker

    settings = load()
    port = settings.worker_web_port if web_port is None else web_port
    # Whoever cannot work does not join the group: it would take partitions from those who can.
    require_port(port, "--web-port or DRIFTLINE_WORKER_WEB_PORT")
    require_state_folder(settings)
    cluster = connect(settings)
    require_topics(cluster, settings, "worker")
    configure_logs()
    config = worker_config(settings, cluster)
    tracer = open_tracer() if settings.tracing else None

    async def main() -> None:
        app = faust_app(
            f"{settings.app_id}-host", settings.data_dir / "faust", web_host=settings.web_host, web_port=port
        )
        host(app, lambda: Worker(config, tracer), metrics_page(of_worker))
        await run(app)

    with reachable(cluster):
        asyncio.run(main())
