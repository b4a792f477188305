"""Every metric in one table: name, type, unit, labels with the values they may have, and what it means.

`docs/metrics.md` is made from here, and nothing is exported that does not stand here. Users and items are never in a
label. Knows nothing of how a number is come by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streams.deadletters import REASONS
from streams.measures import STAGES

PREFIX = "driftline_"

Kind = Literal["counter", "gauge", "histogram", "info"]
Process = Literal["worker", "learner", "embedder"]

OTHER = "other"
"""The value of a label in place of one that is not among those it may have."""

MOST_VALUES = 64
"""Series that an open label (`None`) may have, beyond which values are counted together as `OTHER`."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. `labels`: by name the values it may have; None: not known before, `bound` says what bounds them."""

    name: str
    kind: Kind
    unit: str
    help: str
    processes: tuple[Process, ...]
    labels: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    bound: str = ""

    @property
    def full_name(self) -> str:
        """As Prometheus shows it; a histogram's series are `_bucket`, `_sum` and `_count` of it."""
        return PREFIX + self.name


WORKER: tuple[Process, ...] = ("worker",)
LEARNER: tuple[Process, ...] = ("learner",)
EMBEDDER: tuple[Process, ...] = ("embedder",)
ALL: tuple[Process, ...] = ("worker", "learner", "embedder")

PARTITION_STATES = ("restoring", "running", "unreadable", "retrying", "fenced", "parked")
AGES = ("state", "index", "catalogue", "release", "estimator")

_SPEED = (
    Definition(
        "event_latency_seconds",
        "histogram",
        "seconds",
        "From an event's append to the commit of the slate (or dead letter) that answers it, each event once.",
        WORKER,
    ),
    Definition(
        "stage_seconds",
        "histogram",
        "seconds",
        "Of that, per stage. A batch's time in a stage counts for each of its events. `wait`: until the batch was "
        "begun; `commit`: the transaction. The sum over stages of the rates of `_sum` is nearly that of the latency.",
        WORKER,
        {"stage": STAGES},
    ),
    Definition("batch_events", "histogram", "events", "Events of one transaction.", WORKER),
    Definition("events_total", "counter", "events", "Events committed, dead letters among them.", WORKER),
    Definition(
        "slates_total",
        "counter",
        "slates",
        "Slates made, by who chose: the policy, or chance (the ε arm). Slates of a batch that had to be repeated count "
        "again.",
        WORKER,
        {"arm": ("policy", "uniform")},
    ),
    Definition(
        "coalesced_events_total",
        "counter",
        "events",
        "Events answered by the slate of a later event of the same user in the same batch.",
        WORKER,
    ),
    Definition(
        "dead_letters_total",
        "counter",
        "records",
        "Records that could not be used, by reason (docs/dead-letters.md).",
        ("worker", "embedder"),
        {"reason": (*REASONS, OTHER)},
    ),
    Definition(
        "retakes_total",
        "counter",
        "",
        "How often a partition had to be taken over again from the log, by why.",
        WORKER,
        {"kind": ("retrying", "fenced", "parked")},
    ),
)

_FRESHNESS = (
    Definition(
        "lag_events",
        "gauge",
        "events",
        "Events in an owned partition that are not committed yet. Absent until it is known.",
        WORKER,
        {"partition": None},
        "partitions of `events` that this worker owns",
    ),
    Definition(
        "partitions",
        "gauge",
        "partitions",
        "Owned partitions by what they are doing.",
        WORKER,
        {"status": PARTITION_STATES},
    ),
    Definition("ready", "gauge", "", "1: the process does its work; 0: it does not, or not yet.", ALL),
    Definition(
        "broker_silence_seconds", "gauge", "seconds", "Since the cluster last answered this worker's pulse.", WORKER
    ),
    Definition(
        "age_seconds",
        "gauge",
        "seconds",
        "How old what slates are made of is. `state`: at most so long has an event waited to be folded, 0 when none "
        "waits; `catalogue`: since `item_vectors` was last read to its end; `index`: at most so long has an item "
        "change that was read waited, 0 when none waits (they are applied with the next batch); `release`, "
        "`estimator`: since the one in use was made. Absent: there is none yet.",
        WORKER,
        {"of": AGES},
    ),
    Definition("items", "gauge", "items", "Items that can be recommended.", WORKER),
    Definition("users", "gauge", "users", "User states of the owned partitions.", WORKER),
    Definition(
        "cache_lookups_total",
        "counter",
        "users",
        "User vectors by where they came from: a true attention cache, or rebuilt from the state. The hit rate is "
        "hit / (hit + rebuild).",
        WORKER,
        {"result": ("hit", "rebuild")},
    ),
    Definition(
        "release_info",
        "info",
        "",
        "1 for the release in use.",
        WORKER,
        {"release": None},
        "one at a time",
    ),
    Definition(
        "build_info", "info", "", "1 for the running version.", ALL, {"process": ALL, "version": None}, "one at a time"
    ),
)

_QUALITY = (
    Definition(
        "index_recall_ratio",
        "gauge",
        "ratio",
        "Share of the truly nearest items that the index finds for user vectors of late, against exact search: mean, "
        "and 5th percentile. Absent before the first measurement.",
        WORKER,
        {"statistic": ("mean", "p05")},
    ),
    Definition("index_recall_age_seconds", "gauge", "seconds", "Since recall was last measured.", WORKER),
    Definition(
        "slate_diversity_ratio",
        "histogram",
        "ratio",
        "Mean distance of two items of a slate, (1 − cosine) / 2 of their vectors: 0 all alike. A sample of slates.",
        WORKER,
    ),
    Definition(
        "interest_drift_degrees",
        "histogram",
        "degrees/day",
        "By how much the interest of a user has turned from what it was a day before, at each slate "
        "(docs/interest.md). The mean is the rate of `_sum` over that of `_count`.",
        WORKER,
    ),
    Definition(
        "catalogue_reach_ratio",
        "gauge",
        "ratio",
        "Share of the items that can be recommended which this worker has put into a slate in the last hour.",
        WORKER,
    ),
    Definition(
        "outcomes_total",
        "counter",
        "slates",
        "Outcomes learned: slates joined with what happened. `hit`: an item of it was interacted with.",
        LEARNER,
        {"origin": ("driftline", "external"), "reason": ("window", "evicted"), "hit": ("true", "false")},
    ),
    Definition(
        "hit_ratio",
        "gauge",
        "ratio",
        "Share of driftline's own recent slates with a hit: the last 1,000 or so, older ones weigh less.",
        LEARNER,
    ),
    Definition(
        "exposure_ratio",
        "gauge",
        "ratio",
        "Share of a user group's exposure that a group of items gets, of late; only with [fairness] in the rules.",
        WORKER,
        {"group": None},
        "`user group/item group` of the rules file",
    ),
    Definition(
        "fairness_gap_ratio",
        "gauge",
        "ratio",
        "Largest distance of such a share from its target: merit, or parity; only with [fairness] in the rules.",
        WORKER,
    ),
)

_PROPENSITY = (
    Definition(
        "propensity_calibration_error_ratio",
        "gauge",
        "ratio",
        "Of the exposure model's predictions against the inclusion probabilities that the policy logged.",
        LEARNER,
    ),
    Definition(
        "propensity_effective_sample_ratio",
        "gauge",
        "ratio",
        "Effective sample size of inverse inclusion weights of shown items of late, as a share: (Σw)² / (n Σw²).",
        LEARNER,
    ),
    Definition(
        "propensity_clipped_weight_ratio",
        "gauge",
        "ratio",
        "Share of those weights' sum that clipping them at 100 takes away.",
        LEARNER,
    ),
    Definition(
        "drift_alarms_total",
        "counter",
        "",
        "Times that the estimators' residuals changed more than chance explains.",
        LEARNER,
        {"signal": None},
        "the detectors of the estimators",
    ),
)

_LEARNING = (
    Definition(
        "learner_active",
        "gauge",
        "",
        "1: this learner has the duty; 0: it stands by.",
        LEARNER,
        {"duty": ("estimators", "trainer")},
    ),
    Definition("learner_lag_outcomes", "gauge", "outcomes", "Outcomes that are not learned yet.", LEARNER),
    Definition(
        "unusable_outcomes_total", "counter", "outcomes", "Outcomes skipped: they contradict themselves.", LEARNER
    ),
    Definition("trainer_lag_events", "gauge", "events", "Events that the model has not learned yet.", LEARNER),
    Definition(
        "trainer_loss", "gauge", "", "Of the last round of training; its scale depends on the release.", LEARNER
    ),
    Definition("trainer_rounds", "gauge", "rounds", "Rounds of training in the present weights.", LEARNER),
    Definition(
        "releases",
        "gauge",
        "releases",
        "What the gate decided against, over the present course of training.",
        LEARNER,
        {"decision": ("refused", "taken_back", "recovered")},
    ),
)

_EMBEDDING = (
    Definition(
        "embedded_items_total",
        "counter",
        "items",
        "Items given a vector: encoded, or remembered from the same text.",
        EMBEDDER,
        {"result": ("encoded", "remembered")},
    ),
    Definition("embed_seconds", "histogram", "seconds", "To give a batch of items its vectors.", EMBEDDER),
)

SECTIONS: dict[str, tuple[Definition, ...]] = {
    "Speed": _SPEED,
    "Freshness": _FRESHNESS,
    "Quality of slates": _QUALITY,
    "Propensities": _PROPENSITY,
    "Learning": _LEARNING,
    "Embedding": _EMBEDDING,
}

DEFINITIONS: dict[str, Definition] = {one.name: one for section in SECTIONS.values() for one in section}
