"""`driftline learn`: learns from outcomes. Builds the learner from the settings and hosts it; decides nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.learner import LearnerConfig


def learn(
    web_port: Annotated[
        int, typer.Option(help="Serve /ready, /status and /metrics on this port; 0: on none.", min=0, max=65535)
    ] = 0,
) -> None:
    """Learn from outcomes how often and to whom items are shown, until stopped; a second one stands by."""
    import asyncio

    from ops.connection import configure_logs, connect, require_port, require_topics
    from ops.kafka import reachable
    from ops.settings import load

    settings = load()
    require_port(web_port, "--web-port")
    cluster = connect(settings)
    require_topics(cluster, settings, "learner")
    configure_logs()

    from streams.host import faust_app, host, run
    from streams.learner import Learner

    config = learner_config(settings, cluster)

    async def main() -> None:
        app = faust_app(f"{settings.app_id}-learner-host", settings.data_dir / "faust", web_port=web_port)
        host(app, lambda: Learner(config))
        await run(app)

    with reachable(cluster):
        asyncio.run(main())


def learner_config(settings: Settings, cluster: Cluster) -> LearnerConfig:
    """Return the learner's configuration as the settings say."""
    from streams.learner import LearnerConfig
    from streams.names import Topics

    topics = Topics(settings.topic_prefix)
    return LearnerConfig(
        cluster=cluster,
        app_id=settings.app_id,
        outcomes=topics.outcomes,
        models=topics.models,
        publish_every_s=settings.learner_publish_every_s,
        session_timeout_ms=round(settings.engine_session_timeout_s * 1000),
        transaction_timeout_ms=round(settings.engine_transaction_timeout_s * 1000),
    )
