"""The wire: what every message on every topic looks like, as msgspec structs, JSON on the wire.

One place says what a field is called, its unit and its bounds; `docs/contracts.md` and the JSON
Schemas in `docs/schemas/` are made from here. This module knows nothing of Kafka, of state or of how
a score is computed.

Times are integers, milliseconds since the epoch, UTC. Ids are 1 to 256 bytes of UTF-8.
Columns named `…_f32` are little-endian float32 arrays (`…_u8`: uint8), base64 in the JSON: a hundred
numbers a slate as decimal text would cost more than the model does.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from index.hashing import MAX_ID_BYTES as MAX_ID_BYTES

encode = msgspec.json.Encoder().encode

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="1 to 256 bytes of UTF-8")]
Millis = Annotated[int, Meta(ge=0, le=2**53, description="milliseconds since the epoch, UTC")]
Unit = Annotated[float, Meta(ge=0.0, le=1.0)]
Group = Annotated[str, Meta(min_length=1, max_length=64)]

_GROUP = "of users the user belongs to, for fairness; stays until another is named; null: as before"


class Interaction(Struct, frozen=True, gc=False, tag="interaction", tag_field="kind"):
    """Topic `events`: a user did something with an item. Answered by a new slate."""

    user: Annotated[Id, Meta(description="who; also the record's key")]
    item: Annotated[Id, Meta(description="with what; need not be in the catalogue yet")]
    time: Annotated[Millis, Meta(description="when it happened, by the producer's clock")]
    action: Annotated[str, Meta(description="one of the setting `events_actions`", max_length=64)] = "view"
    weight: Annotated[
        float, Meta(gt=0.0, le=1e6, description="strength of the action, in the producer's own unit: a rating, a price")
    ] = 1.0
    id: Annotated[Id | None, Meta(description="the event's own id; a repeated one is dead-lettered")] = None
    slate: Annotated[Id | None, Meta(description="the slate it answers, when the client knows it")] = None
    group: Annotated[Group | None, Meta(description=_GROUP)] = None


class Impression(Struct, frozen=True, gc=False, tag="impression", tag_field="kind"):
    """Topic `events`: a user was shown items. Confirms a slate, or tells of one shown by another system."""

    user: Annotated[Id, Meta(description="who; also the record's key")]
    time: Annotated[Millis, Meta(description="when it was shown, by the producer's clock")]
    items: Annotated[list[Id], Meta(min_length=1, max_length=1000, description="what was shown, in order of position")]
    slate: Annotated[Id | None, Meta(description="driftline's slate; null: another system's")] = None
    id: Annotated[Id | None, Meta(description="the event's own id; a repeated one is dead-lettered")] = None
    group: Annotated[Group | None, Meta(description=_GROUP)] = None


class Request(Struct, frozen=True, gc=False, tag="request", tag_field="kind"):
    """Topic `events`: a user asks for a slate without having done anything."""

    user: Annotated[Id, Meta(description="who; also the record's key")]
    time: Annotated[Millis, Meta(description="when it was asked, by the producer's clock")]
    id: Annotated[Id | None, Meta(description="the event's own id; a repeated one is dead-lettered")] = None
    group: Annotated[Group | None, Meta(description=_GROUP)] = None


class Erase(Struct, frozen=True, gc=False, tag="erase", tag_field="kind"):
    """Topic `events`: forget this user. Answered by tombstones; a later event starts a fresh user."""

    user: Annotated[Id, Meta(description="who; also the record's key")]
    time: Annotated[Millis, Meta(description="when it was asked, by the producer's clock")]
    id: Annotated[
        Id | None,
        Meta(description="the event's own id, for its sender: nothing remembers it, to erase twice is harmless"),
    ] = None


Event = Interaction | Impression | Request | Erase


class Item(Struct, frozen=True, gc=False):
    """Topic `items`, compacted, keyed by item; a null value (tombstone) forgets the item."""

    item: Annotated[Id, Meta(description="also the record's key")]
    title: Annotated[str, Meta(max_length=2000)]
    text: Annotated[str, Meta(max_length=20000, description="description, body; may be empty")] = ""
    categories: Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=64)] = []
    year: Annotated[Annotated[int, Meta(ge=0, le=9999)] | None, Meta(description="of publication")] = None
    withdrawn: Annotated[
        bool, Meta(description="true: no longer recommended, but what users did with it still tells of them")
    ] = False


class ItemVector(Struct, frozen=True, gc=False):
    """Topic `item_vectors`, compacted, keyed by item: an item's text as a vector, and what filters need."""

    item: Id
    encoder: Annotated[str, Meta(description="fingerprint of the text encoder")]
    text_hash: Annotated[str, Meta(description="BLAKE2b-64 of the encoded text, hex: same text, same vector")]
    vector_f32: Annotated[bytes, Meta(description="base64 of little-endian float32[encoder dimension]")]
    title: str
    categories: list[str] = []
    year: Annotated[int, Meta(ge=0, le=9999)] | None = None
    withdrawn: Annotated[bool, Meta(description="as in the item")] = False


_STEERED = "fairness: true, its term took part; false, left out to measure what it costs; null: none is configured"


class Cause(Struct, frozen=True, gc=False):
    """The event that a slate answers: the last of those it covers."""

    partition: int
    offset: int
    kind: Literal["interaction", "impression", "request", "erase"]
    item: str | None = None


class Ages(Struct, frozen=True, gc=False):
    """How old each ingredient was when the slate was computed, in milliseconds of wall-clock time."""

    event_ms: Annotated[int, Meta(description="since the causing event was appended to its topic")]
    release_ms: Annotated[int, Meta(description="since the release was made")]
    estimator_ms: Annotated[int | None, Meta(description="since the estimator snapshot was taken; null: none yet")]


class Recommendation(Struct, frozen=True, gc=False):
    """Topic `recommendations`, keyed by user: the slate. Columns run parallel to `items`, best position first."""

    user: Id
    slate: Annotated[str, Meta(description="`<partition>-<offset>` of the causing event")]
    time: Annotated[Millis, Meta(description="event time of the causing event")]
    cause: Cause
    covers: Annotated[
        list[int], Meta(description="offsets, in the cause's partition, of every event this slate answers")
    ]
    items: Annotated[list[str], Meta(description="what to show; index 0 is position 1")]
    scores: Annotated[list[float], Meta(description="corrected logits (dimensionless log-scores)")]
    conditional: Annotated[
        list[Unit],
        Meta(description="probability of the item at its position, given those before; product: the slate's"),
    ]
    propensity: Annotated[
        list[Unit] | None, Meta(description="π(item at this position | candidates); null when marginals are off")
    ]
    inclusion: Annotated[
        list[Unit] | None, Meta(description="π(item anywhere in the slate | candidates); null when marginals are off")
    ]
    release: Annotated[str, Meta(description="id of the release that scored it")]
    estimator: Annotated[str | None, Meta(description="id of the estimator snapshot that corrected it")]
    catalogue: Annotated[
        list[int], Meta(description="how far the catalogue had come: next offset of each partition of `item_vectors`")
    ]
    ages: Ages
    pinned: Annotated[
        list[int],
        Meta(description="indices into `items` of what a rule put there: not drawn, and every probability of it is 1"),
    ] = []
    swapped: Annotated[list[int], Meta(description="two positions, from 0, that were exchanged after the draw")] = []


class Decision(Struct, frozen=True, gc=False):
    """Topic `decisions`, keyed by user: everything needed to audit, explain or replay a slate.

    Columns run parallel to `candidates`, in float32, exactly: `base` is the sum of `terms`, added one by one in the
    order of their names, and `logits = base + correction`, and then all of `adjustments`, one by one in that order.
    """

    user: Id
    slate: str
    time: Millis
    cause: Cause
    covers: list[int]
    candidates: Annotated[
        list[str | None],
        Meta(description="item ids: those from counts, the nearest, the injected; null: an empty column"),
    ]
    injected: Annotated[int, Meta(description="how many of the last columns were drawn uniformly from the catalogue")]
    injection: Annotated[Unit, Meta(description="probability that any one item not retrieved was among those drawn")]
    base_f32: Annotated[bytes, Meta(description="log-score of each candidate; -inf in an empty column")]
    correction_f32: Annotated[bytes, Meta(description="what the propensity correction adds")]
    logits_f32: Annotated[bytes, Meta(description="what the slate was drawn from")]
    chosen: Annotated[list[int], Meta(description="index into `candidates`, in slate order")]
    conditional: list[Unit]
    uniform: Annotated[bool, Meta(description="true: this slate came from the ε arm")]
    seed: Annotated[
        int,
        Meta(description="with the cause's partition and offset, and each candidate's id: every random number of it"),
    ]
    draws: Annotated[
        int,
        Meta(description="numbers an event owns in the Philox stream of (seed, partition): the arm, what is injected"),
    ]
    temperature: Annotated[float, Meta(description="that it was drawn with; a user's own")]
    epsilon: Unit
    beta: float
    release: str
    estimator: str | None
    catalogue: list[int]
    terms: Annotated[
        dict[str, bytes],
        Meta(
            description="what makes the base, by name, base64 of little-endian float32: `model`, the evolution model's "
            "part, and in a release with counts one for each of its tables and columns; empty: an older driftline's"
        ),
    ] = {}
    neighbours: Annotated[
        int, Meta(description="how many candidates may come from counts of what goes with the user's last items")
    ] = 0
    counted: Annotated[int, Meta(description="how many of the first columns came from them")] = 0
    groups: Annotated[
        dict[str, list[int]],
        Meta(description="fairness: indexes into `candidates`, by item group; empty: no groups are configured"),
    ] = {}
    steered: Annotated[bool | None, Meta(description=_STEERED)] = None
    adjustments: Annotated[
        dict[str, bytes],
        Meta(
            description="what was added to the logits by intention, by name, base64 of little-endian float32; "
            "0 in an empty column"
        ),
    ] = {}
    pinned: Annotated[list[int], Meta(description="positions, from 0, that a rule filled: not drawn, certain")] = []
    removed: Annotated[
        list[str], Meta(description="candidates that a rule took out before the draw: their columns are empty")
    ] = []
    rules: Annotated[
        str | None,
        Meta(description="digest of rules and settings that adjustments, temperature, pins and filters follow from"),
    ] = None
    policy_temperature: Annotated[
        float | None, Meta(description="the setting, before a user's own temperature; null: `temperature`")
    ] = None
    swapped: Annotated[list[int], Meta(description="two positions, from 0, that were exchanged after the draw")] = []
    swaps: Annotated[Unit, Meta(description="share of slates in which two neighbours are exchanged")] = 0.0
    drift: Annotated[
        Annotated[float, Meta(ge=0.0, le=180.0)] | None,
        Meta(description="degrees a day that the user's interest has turned; null: too few events to tell"),
    ] = None
    drift_topics: Annotated[
        dict[str, float],
        Meta(description="by topic, the change a day of its share of what the user took; the largest changes"),
    ] = {}


class Outcome(Struct, frozen=True, gc=False):
    """Topic `outcomes`, keyed by user: a slate joined with what happened, once, when its window closes."""

    user: Id
    slate: str
    time: Annotated[Millis, Meta(description="event time of the slate")]
    closed: Annotated[Millis, Meta(description="event time at which its window closed")]
    reason: Annotated[
        Literal["window", "evicted"], Meta(description="window: its time was up; evicted: newer slates took its place")
    ]
    origin: Annotated[
        Literal["driftline", "external"], Meta(description="external: an impression of another system's slate")
    ]
    shown: Annotated[bool, Meta(description="true: an impression confirmed it; false: none was reported")]
    items: list[str]
    rewards: Annotated[list[float], Meta(description="summed weight of the interactions with each item; 0: none")]
    conditional: Annotated[list[Unit] | None, Meta(description="as published; null for external slates")]
    propensity: list[Unit] | None
    inclusion: Annotated[
        list[Unit] | None, Meta(description="π(item in the slate); null: not logged, or an external slate")
    ]
    unshown: Annotated[list[str], Meta(description="a uniform sample of the candidates that were not chosen")]
    unshown_inclusion: list[Unit] | None
    candidates: Annotated[int, Meta(description="how many candidates the slate was chosen from; 0: external slate")]
    history: Annotated[int, Meta(description="events folded into the user's state when the slate was made")]
    release: str | None
    estimator: str | None
    group: Annotated[Group | None, Meta(description="of users the user belongs to; null: none was named")] = None
    uniform: Annotated[
        bool | None, Meta(description="true: the slate came from the ε arm; null: not known, or an external slate")
    ] = None
    steered: Annotated[bool | None, Meta(description=_STEERED)] = None
    item_groups: Annotated[
        list[str | None], Meta(description="fairness: of each item; empty: no groups are configured")
    ] = []
    group_candidates: Annotated[
        dict[str, int], Meta(description="fairness: how many of the candidates are of each item group")
    ] = {}
    pinned: Annotated[list[int], Meta(description="indices into `items` of what was not drawn, as published")] = []
    swapped: Annotated[
        list[int],
        Meta(description="two positions, from 0, that were exchanged after the draw, to learn how they are looked at"),
    ] = []


class ReleasePointer(Struct, frozen=True, gc=False, tag="release", tag_field="kind"):
    """Topic `models`, key `release`: which release is current."""

    release: str
    digest: Annotated[str, Meta(description="SHA-256 of its weights, hex")]
    created: Millis


class FrequencyState(Struct, frozen=True, gc=False):
    """Streaming frequency of exposure: hashed cells, row by row. Arrays are little-endian, base64 in the JSON."""

    alpha: Annotated[float, Meta(description="weight of a new gap")]
    start: Annotated[int, Meta(description="the step at which it began")]
    step: Annotated[int, Meta(description="slates learned so far")]
    rows: Annotated[int, Meta(ge=1)]
    width: Annotated[int, Meta(ge=1)]
    last_i64: Annotated[bytes, Meta(description="int64[rows·width]: step of each cell's last hit")]
    gap_f64: Annotated[bytes, Meta(description="float64[rows·width]: averaged gap between hits, in steps")]
    hits_i64: Annotated[bytes, Meta(description="int64[rows·width]: hits of each cell")]


class ExposureState(Struct, frozen=True, gc=False):
    """The exposure model: FTRL-Proximal logistic regression over hashed features; parallel arrays by bucket."""

    bits: Annotated[int, Meta(ge=1, le=30, description="features are hashed to 2^bits buckets")]
    bucket_i32: Annotated[bytes, Meta(description="int32[n]: buckets that have learned something, ascending")]
    weight_f64: Annotated[bytes, Meta(description="float64[n]")]
    z_f64: Annotated[bytes, Meta(description="float64[n]: FTRL accumulator")]
    n_f64: Annotated[bytes, Meta(description="float64[n]: FTRL sum of squared gradients")]
    intercept: float
    iterations: int


class FairnessState(Struct, frozen=True, gc=False):
    """What groups of users were shown of groups of items, and how it was liked: sums that old slates fade out of.

    Arrays are little-endian, base64 in the JSON; `n` user groups, `m` item groups.
    """

    half_life: Annotated[float, Meta(description="slates after which one counts half")]
    users: Annotated[list[str], Meta(description="user groups; an empty name: users without one")]
    items: Annotated[list[str], Meta(description="item groups")]
    pairs_f64: Annotated[
        bytes,
        Meta(description="float64[5·n·m]: Σ examination, Σ 1/π, Σ 1/π², Σ click/(π·examination), Σ candidates"),
    ]
    slates_f64: Annotated[bytes, Meta(description="float64[n]: slates of each user group")]
    arms_f64: Annotated[
        bytes,
        Meta(description="float64[2·5]: slates left alone, then steered: Σω, Σω·clicks, Σω², Σω²·clicks, Σω²·clicks²"),
    ]
    age: Annotated[float, Meta(description="Σ over slates of outcomes learned since the estimate of each")]


class ExaminationState(Struct, frozen=True, gc=False):
    """How likely each position is looked at, by context, beside the first: η = Σ w·c / Σ w·r̂."""

    half_life: Annotated[float, Meta(description="slates after which one counts half")]
    contexts: Annotated[list[str], Meta(description="segments of users; the first, empty, is all of them")]
    positions: Annotated[int, Meta(ge=1)]
    clicks_f64: Annotated[bytes, Meta(description="float64[contexts·positions]: Σ w·c, fading")]
    expected_f64: Annotated[bytes, Meta(description="float64[contexts·positions]: Σ w·r̂, fading")]


class RewardState(Struct, frozen=True, gc=False):
    """P(click | looked at): logistic regression over hashed indicators; parallel arrays by bucket."""

    bits: Annotated[int, Meta(ge=1, le=30, description="indicators are hashed to 2^bits buckets")]
    memory: Annotated[float, Meta(description="observations of a bucket after which one counts 1/e")]
    bucket_i32: Annotated[bytes, Meta(description="int32[n]: buckets that have learned something, ascending")]
    weight_f64: Annotated[bytes, Meta(description="float64[n]")]
    information_f64: Annotated[bytes, Meta(description="float64[n]: Fisher information gathered, fading")]


class SwapState(Struct, frozen=True, gc=False):
    """What exchanged and randomly ordered slates say of examination: counts by intended and shown position."""

    half_life: Annotated[float, Meta(description="slates after which one counts half")]
    positions: Annotated[int, Meta(ge=1)]
    scale: Annotated[float, Meta(description="unit of the counts")]
    cell_i32: Annotated[bytes, Meta(description="int32[n]: intended · positions + shown; the last row: random order")]
    shown_f64: Annotated[bytes, Meta(description="float64[n]")]
    clicks_f64: Annotated[bytes, Meta(description="float64[n]")]


class ClicksState(Struct, frozen=True, gc=False):
    """What clicks teach: examination and reward, learned from each other, and their check by experiment."""

    examination: ExaminationState
    reward: RewardState
    swaps: SwapState
    outcomes: Annotated[int, Meta(ge=0, description="outcomes that they learned from")]
    disagree: Annotated[
        list[int], Meta(description="positions, from 0, at which swaps contradict the examination that was learned")
    ] = []


class DriftSignal(Struct, frozen=True, gc=False):
    """One stream of residuals, observed − expected, that is watched."""

    name: str
    up: Annotated[float, Meta(description="Page's sum of what was too much")]
    down: Annotated[float, Meta(description="and of what was too little")]
    changed: Annotated[bool, Meta(description="ADWIN has seen a change")]
    adwin: Annotated[str, Meta(description="its state, hex")]


class DriftState(Struct, frozen=True, gc=False):
    """Whether what is observed has left what the estimators expect."""

    updates: Annotated[int, Meta(ge=0)]
    quiet: Annotated[int, Meta(ge=0, description="updates until an alarm is possible")]
    alarms: Annotated[dict[str, int], Meta(description="alarms so far, by signal")]
    last: Annotated[dict[str, int], Meta(description="at which update each signal was alarmed last")]
    signals: list[DriftSignal]


class EstimatorSnapshot(Struct, frozen=True, gc=False, tag="estimator", tag_field="kind"):
    """Topic `models`, key `estimator`: the online estimators, and the offsets that they have learned from."""

    estimator: Annotated[str, Meta(description="id of the snapshot")]
    created: Millis
    offsets: Annotated[dict[str, int], Meta(description="next offset of `outcomes` to learn, by partition")]
    outcomes: Annotated[int, Meta(description="outcomes learned so far")]
    frequency: FrequencyState
    exposure: ExposureState
    calibration_error: Annotated[
        float | None, Meta(description="of the exposure model against logged inclusion propensities; null: none yet")
    ]
    fairness: FairnessState | None = None
    clicks: Annotated[ClicksState | None, Meta(description="null: an older driftline's")] = None
    drift: DriftState | None = None


class RoundEnds(Struct, frozen=True, gc=False):
    """Where a round of training ends, and the next one begins: next offsets, by partition."""

    events: dict[str, int]
    outcomes: dict[str, int]


class TrainerState(Struct, frozen=True, gc=False, tag="trainer", tag_field="kind"):
    """Topic `models`, key `trainer`: how far the weights have come, so that whoever goes on repeats no other rounds."""

    checkpoint: Annotated[str, Meta(description="folder of the last checkpoint, beside the releases")]
    created: Millis
    round: Annotated[int, Meta(ge=0, description="rounds of training in the checkpoint")]
    at: Annotated[RoundEnds, Meta(description="what the checkpoint has learned")]
    begun: Annotated[list[RoundEnds], Meta(description="the rounds begun since: they are repeated after a crash")]


ModelMessage = ReleasePointer | EstimatorSnapshot | TrainerState

TOPIC_MESSAGES: dict[str, tuple[type[Struct], ...]] = {
    "events": (Interaction, Impression, Request, Erase),
    "items": (Item,),
    "item_vectors": (ItemVector,),
    "recommendations": (Recommendation,),
    "decisions": (Decision,),
    "outcomes": (Outcome,),
    "models": (ReleasePointer, EstimatorSnapshot, TrainerState),
}


def item_text(item: Item) -> str:
    """Return what the text encoder reads of an item: "title (year). categories. text"."""
    title = item.title if item.year is None or f"({item.year})" in item.title else f"{item.title} ({item.year})"
    return ". ".join(part for part in (title, ", ".join(item.categories), item.text) if part)
