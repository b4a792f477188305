"""`driftline worker`: answers events. Builds the worker from the settings and hosts it; decides nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ops.settings import Settings
    from streams.worker import WorkerConfig


def worker(
    web_port: Annotated[
        int | None, typer.Option(help="Serve /ready, /status and /metrics on this port (default: setting).")
    ] = None,
) -> None:
    """Answer events with recommendations until stopped; start more of them to share the partitions."""
    from ops.connection import bootstrap_servers, configure_logs, require_topics
    from ops.settings import load
    from streams.host import faust_app, host, run
    from streams.worker import Worker

    settings = load()
    configure_logs()
    bootstrap = bootstrap_servers(settings)
    require_topics(bootstrap, settings)
    config = worker_config(settings, bootstrap)

    async def main() -> None:
        port = settings.worker_web_port if web_port is None else web_port
        app = faust_app(f"{settings.app_id}-host", bootstrap, settings.data_dir / "faust", web_port=port)
        host(app, lambda: Worker(config))
        await run(app)

    asyncio.run(main())


def worker_config(settings: Settings, bootstrap: str) -> WorkerConfig:
    """Return the worker's configuration as the settings say."""
    from policy.slate import PolicyConfig
    from streams.engine import EngineConfig
    from streams.pipeline import PipelineConfig
    from streams.state import StateLimits
    from streams.topics import Topics
    from streams.validation import EventRules
    from streams.worker import WorkerConfig

    topics = Topics(settings.topic_prefix)
    return WorkerConfig(
        engine=EngineConfig(
            bootstrap_servers=bootstrap,
            app_id=settings.app_id,
            events=topics.events,
            state=topics.state,
            dead_letters=topics.events_dlq,
            max_batch_records=settings.engine_max_batch_records,
            session_timeout_ms=round(settings.engine_session_timeout_s * 1000),
            transaction_timeout_ms=round(settings.engine_transaction_timeout_s * 1000),
        ),
        pipeline=PipelineConfig(
            topics=topics,
            rules=EventRules(
                actions=tuple(settings.events_actions),
                oldest_time=settings.events_oldest_time_ms,
                clock_skew_ms=round(settings.events_max_clock_skew_s * 1000),
            ),
            policy=PolicyConfig(
                k=settings.policy_slate_size,
                candidates=settings.policy_candidates,
                injected=settings.policy_injected,
                temperature=settings.policy_temperature,
                epsilon=settings.policy_epsilon,
                beta=settings.policy_beta,
                seed=settings.policy_seed,
                marginals=settings.policy_marginals,
            ),
            limits=StateLimits(
                events=settings.state_events,
                seen=settings.state_seen_capacity,
                event_ids=settings.state_event_ids,
                open_slates=settings.state_open_slates,
                outcome_window_ms=round(settings.state_outcome_window_s * 1000),
            ),
            filter_seen=settings.policy_filter_seen,
            cached_users=settings.worker_cached_users,
        ),
        topics=topics,
        releases_dir=settings.releases_dir,
    )
