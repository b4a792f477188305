"""What there is to export of each process: its own measurements under the names of the definitions.

Knows the processes' measurements; computes nothing that they do not say.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ops.metrics.definitions import PARTITION_STATES
from ops.metrics.export import Samples

if TYPE_CHECKING:
    from policy.fairness import FairnessConfig, Steering
    from streams.embedder import EmbedderMeasures
    from streams.learner import Learner
    from streams.worker import Worker

ALONE = ()
"""The labels of a metric without labels."""


def build(process: str) -> Samples:
    """The running version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("driftline")
    except PackageNotFoundError:
        number = "sources"
    return {"build_info": {(process, number): 1.0}}


def of_worker(worker: Worker) -> Samples:
    """A worker's metrics now."""
    measured, status = worker.measured, worker.status()
    samples = {**_speed(measured), **_freshness(measured, status), **_slates(measured, status)}
    return {**build("worker"), **samples, **fairness(measured.steered)}


def fairness(steered: tuple[FairnessConfig, Steering] | None) -> Samples:
    """What a worker knows of exposure by group; nothing where nothing is steered."""
    from policy.fairness import gap, shares

    if steered is None:
        return {}
    config, steering = steered
    exposure: dict[tuple[str, ...], float] = {(name,): share for name, share in shares(config, steering).items()}
    return {"exposure_ratio": exposure, "fairness_gap_ratio": {ALONE: gap(steering)}}


def _speed(measured: Any) -> Samples:
    committed, timings = measured.committed, measured.timings
    stages = {**dict(timings.stages), "wait": committed.wait, "commit": committed.commit}
    return {
        "event_latency_seconds": {ALONE: committed.latency},
        "stage_seconds": {(stage,): histogram for stage, histogram in stages.items()},
        "batch_events": {ALONE: committed.batch},
        "events_total": {ALONE: float(committed.latency.cumulative()[-1])},
        "slates_total": {(arm,): float(measured.slates.slates[arm]) for arm in ("policy", "uniform")},
        "coalesced_events_total": {ALONE: float(measured.slates.coalesced)},
        "dead_letters_total": {(reason,): float(count) for reason, count in dict(committed.dead).items()},
        "retakes_total": {(kind,): float(committed.retakes.get(kind, 0)) for kind in ("retrying", "fenced", "parked")},
    }


def _freshness(measured: Any, status: dict[str, Any]) -> Samples:
    partitions = status["partitions"]
    states = Counter(one["status"] for one in partitions.values())
    release, cache = status["release"], status["cache"]
    return {
        "ready": {ALONE: float(status["ready"])},
        "lag_events": {(str(partition),): one["lag"] for partition, one in partitions.items()},
        "partitions": {(state,): float(states.get(state, 0)) for state in PARTITION_STATES},
        "broker_silence_seconds": {ALONE: status["silence_seconds"]},
        "age_seconds": {(of,): age for of, age in measured.ages.items()},
        "items": {ALONE: float(status["items"]) if release else None},
        "users": {ALONE: float(sum(one["users"] for one in partitions.values()))},
        "cache_lookups_total": {
            ("hit",): cache.get("hits"),
            ("rebuild",): cache.get("rebuilds"),
        },
        "release_info": {(release,): 1.0} if release else {},
    }


def _slates(measured: Any, status: dict[str, Any]) -> Samples:
    import time

    slates = measured.slates
    recall = slates.recall
    return {
        "slate_diversity_ratio": {ALONE: slates.diversity},
        "interest_drift_degrees": {ALONE: slates.drift},
        "catalogue_reach_ratio": {ALONE: slates.reach() if status["release"] else None},
        "index_recall_ratio": {
            ("mean",): recall.mean if recall else None,
            ("p05",): recall.fifth_percentile if recall else None,
        },
        "index_recall_age_seconds": {ALONE: time.monotonic() - slates.recall_at if recall else None},
    }


def of_learner(learner: Learner) -> Samples:
    """A learner's metrics now; one that stands by has learned nothing of late, and says nothing of it."""
    measures, status, active = learner.measures, learner.status(), learner.active
    samples: dict[str, Any] = {
        **build("learner"),
        "ready": {ALONE: float(status["ready"])},
        "learner_active": {(duty,): float(held) for duty, held in active.items()},
        "outcomes_total": {
            (origin, reason, str(hit).lower()): float(count)
            for (origin, reason, hit), count in dict(measures.counts).items()
        },
        "unusable_outcomes_total": {ALONE: float(measures.unusable)},
        "drift_alarms_total": {(signal,): float(count) for signal, count in dict(measures.alarms).items()},
    }
    if active.get("estimators"):
        samples |= {
            "hit_ratio": {ALONE: measures.hit_ratio},
            "propensity_calibration_error_ratio": {ALONE: status.get("calibration_error")},
            "propensity_effective_sample_ratio": {ALONE: measures.effective_sample_ratio},
            "propensity_clipped_weight_ratio": {ALONE: measures.clipped_ratio},
            "learner_lag_outcomes": {ALONE: status.get("lag")},
        }
    return {**samples, **_trainer(status.get("trainer", {}))}


def _trainer(status: dict[str, Any]) -> Samples:
    if "round" not in status:
        return {}
    return {
        "trainer_lag_events": {ALONE: status["lag"]},
        "trainer_loss": {ALONE: status["loss"]},
        "trainer_rounds": {ALONE: status["round"]},
        "releases": {(decision,): status[decision] for decision in ("refused", "taken_back", "recovered")},
    }


def of_embedder(measures: EmbedderMeasures) -> Samples:
    """An embedder's metrics now."""
    return {
        **build("embedder"),
        "ready": {ALONE: float(measures.ready)},
        "embedded_items_total": {("encoded",): measures.encoded, ("remembered",): measures.remembered},
        "embed_seconds": {ALONE: measures.seconds},
        "dead_letters_total": {(reason,): float(count) for reason, count in dict(measures.dead).items()},
    }
