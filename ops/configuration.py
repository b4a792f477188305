"""From the settings to what each layer is given: lower layers get small dataclasses, never the settings object.

Knows which setting belongs to whom; decides nothing and computes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.continual import Judge
from ops.errors import CliError
from ops.settings import Settings
from policy.arrangement import Arrangement
from policy.slate import PolicyConfig
from streams.cluster import Cluster
from streams.engine_config import EngineConfig
from streams.judge import judge
from streams.names import Topics
from streams.pipeline import PipelineConfig
from streams.state import StateLimits
from streams.stores import DiskConfig
from streams.trainer import TrainerConfig
from streams.validation import EventRules
from streams.worker import WorkerConfig

if TYPE_CHECKING:
    from models.online_config import OnlineConfig
    from streams.avro_events import AvroEvents


def event_rules(settings: Settings) -> EventRules:
    """What events are let in."""
    return EventRules(
        actions=tuple(settings.events_actions),
        oldest_time=settings.events_oldest_time_ms,
        clock_skew_ms=round(settings.events_max_clock_skew_s * 1000),
        avro=avro_events(settings),
    )


def avro_events(settings: Settings) -> AvroEvents | None:
    """What reads events in Avro; None: there is no registry, and they are JSON only.

    Raises CliError when the package for it is missing.
    """
    if not settings.schema_registry_url:
        return None
    try:
        from streams.avro_events import AvroEvents, parse
        from streams.schema_registry import SchemaRegistry

        password = settings.schema_registry_password
        secret = None if password is None else password.get_secret_value()
        registry = SchemaRegistry(settings.schema_registry_url, parse, settings.schema_registry_username, secret)
        return AvroEvents(registry.schema)
    except ImportError as error:
        raise CliError(
            f"DRIFTLINE_SCHEMA_REGISTRY_URL is set, and {error.name} is not installed",
            "Install driftline[avro], or unset it: events are JSON then.",
        ) from error


def policy_config(settings: Settings) -> PolicyConfig:
    """How slates are drawn."""
    return PolicyConfig(
        k=settings.policy_slate_size,
        candidates=settings.policy_candidates,
        neighbours=settings.policy_neighbours,
        injected=settings.policy_injected,
        temperature=settings.policy_temperature,
        epsilon=settings.policy_epsilon,
        beta=settings.policy_beta,
        seed=settings.policy_seed,
        marginals=settings.policy_marginals,
        swaps=settings.policy_swaps,
    )


def arrangement(settings: Settings) -> Arrangement:
    """What slates are arranged by, beside the scores."""
    return Arrangement(
        unsure=settings.arrange_unsure,
        loss=settings.arrange_loss,
        new_bonus=settings.arrange_new_bonus,
        new_share=settings.arrange_new_share,
        new_slates=settings.arrange_new_slates,
        diversity=settings.arrange_diversity,
        calibration=settings.arrange_calibration,
        fatigue=settings.arrange_fatigue,
    )


def release_judge(settings: Settings) -> Judge:
    """What judges releases before they are served: by the slates that the workers would make of them."""
    return judge(policy_config(settings), filter_seen=settings.policy_filter_seen)


def training_recipe(settings: Settings) -> OnlineConfig:
    """What `driftline train` makes, and a learner goes on with.

    Raises CliError when workers keep too few events of a user for a release of it.
    """
    from models.recipes import RECIPES

    config = RECIPES[settings.learner_recipe](size=settings.learner_size, members=settings.learner_members)
    needed = config.training.model.history
    if settings.state_events < needed:
        raise CliError(
            f"a model of size {settings.learner_size} needs the last {needed} events of a user, "
            f"states keep {settings.state_events}",
            f"Set DRIFTLINE_STATE_EVENTS to at least {needed} for the workers too, or take a smaller size.",
        )
    return config


def trainer_config(settings: Settings, cluster: Cluster) -> TrainerConfig:
    """Where and how often weights are trained."""
    return TrainerConfig(
        cluster=cluster,
        app_id=settings.app_id,
        topics=Topics(settings.topic_prefix),
        rules=event_rules(settings),
        releases_dir=settings.releases_dir,
        round_events=settings.learner_round_events,
        round_seconds=settings.learner_round_s,
        checkpoint_rounds=settings.learner_checkpoint_rounds,
        cpu_share=settings.learner_cpu_share,
        transaction_timeout_ms=round(settings.engine_transaction_timeout_s * 1000),
    )


def state_limits(settings: Settings) -> StateLimits:
    """How much is remembered of a user."""
    return StateLimits(
        events=settings.state_events,
        seen=settings.state_seen_capacity,
        event_ids=settings.state_event_ids,
        open_slates=settings.state_open_slates,
        outcome_window_ms=round(settings.state_outcome_window_s * 1000),
    )


def disk_config(settings: Settings) -> DiskConfig:
    """Where user states lie when they are on disk: a folder for each deployment, which all its workers here share."""
    return DiskConfig(
        folder=settings.state_dir / settings.app_id,
        topic=Topics(settings.topic_prefix).state,
        memory_mib=settings.state_cache_mb,
        keep_seconds=settings.state_keep_s,
    )


def worker_config(settings: Settings, cluster: Cluster) -> WorkerConfig:
    """All that a worker needs."""
    topics = Topics(settings.topic_prefix)
    return WorkerConfig(
        engine=EngineConfig(
            cluster=cluster,
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
            rules=event_rules(settings),
            policy=policy_config(settings),
            limits=state_limits(settings),
            filter_seen=settings.policy_filter_seen,
            cached_users=settings.worker_cached_users,
            traced=settings.tracing,
            arrangement=arrangement(settings),
            rules_file=settings.arrange_rules,
        ),
        topics=topics,
        releases_dir=settings.releases_dir,
        state=disk_config(settings) if settings.state_store == "disk" else None,
    )
