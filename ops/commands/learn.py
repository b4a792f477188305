"""`driftline learn`: learns while the workers serve. Builds the learner from the settings and hosts it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.learner import LearnerConfig
    from streams.trainer import TrainerTerm


def learn(
    web_port: Annotated[
        int, typer.Option(help="Serve /ready, /status and /metrics on this port; 0: on none.", min=0, max=65535)
    ] = 0,
) -> None:
    """Learn until stopped: from outcomes how often and to whom items are shown, from events what users want next.

    Goes on from what `driftline train` made. New releases are published when they are no worse than the one served. A
    second learner stands by.
    """
    import asyncio

    from ops.connection import configure_logs, connect, require_port, require_topics
    from ops.kafka import reachable
    from ops.metrics.export import metrics_page
    from ops.metrics.readings import of_learner
    from ops.settings import load

    settings = load()
    require_port(web_port, "--web-port")
    cluster = connect(settings)
    require_topics(cluster, settings, "learner")
    configure_logs()

    from streams.host import faust_app, host, run
    from streams.learner import Learner

    config = learner_config(settings, cluster)
    compute = ThreadPoolExecutor(1, thread_name_prefix="train")
    train = _terms(settings, cluster, compute) if settings.learner_trains else None

    async def main() -> None:
        folder = settings.data_dir / "faust"
        app = faust_app(f"{settings.app_id}-learner-host", folder, web_host=settings.web_host, web_port=web_port)
        host(app, lambda: Learner(config, train), metrics_page(of_learner))
        await run(app)

    with reachable(cluster), compute:
        asyncio.run(main())


def _terms(settings: Settings, cluster: Cluster, compute: ThreadPoolExecutor) -> Callable[[asyncio.Event], TrainerTerm]:
    """Return what begins a term of the trainer."""
    import torch

    from models.continual import Continual
    from models.online import OnlineTrainer
    from ops.configuration import release_judge, trainer_config
    from streams.trainer import TrainerTerm

    torch.set_num_threads(1)  # the workers need the other cores
    config, judge = trainer_config(settings, cluster), release_judge(settings)

    def load(checkpoint: Path) -> Continual:
        return Continual.load(checkpoint, lambda path: OnlineTrainer.load(path, settings.learner_device), judge)

    return lambda leave: TrainerTerm(config, load, compute, leave)


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
