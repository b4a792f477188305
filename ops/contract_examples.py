"""One real example of each message: a user of MovieLens rates Star Wars, and what the topics then say.

The slate's numbers are what the policy gives for these logits at partition 2, offset 1041. Knows nothing of how
the examples are shown.
"""

from __future__ import annotations

from base64 import b64decode

from msgspec import Struct

from streams.contracts import (
    Ages,
    Cause,
    ClicksState,
    Decision,
    DriftSignal,
    DriftState,
    Erase,
    EstimatorSnapshot,
    ExaminationState,
    ExposureState,
    FrequencyState,
    Impression,
    Interaction,
    Item,
    ItemVector,
    Outcome,
    Recommendation,
    ReleasePointer,
    Request,
    RewardState,
    RoundEnds,
    SwapState,
    TrainerState,
)

_USER, _SLATE = "42", "2-1041"
_TIME = 881_250_949_000
_CAUSE = Cause(partition=2, offset=1041, kind="interaction", item="50")
_CONDITIONAL = [0.19750801955463204, 0.3373148026632252, 0.9289710304760657]
_PROPENSITY = [0.19750801955461636, 0.3406948276086927, 0.15793145068971873]
_INCLUSION = [0.8795526405979018, 0.9235460059469854, 0.9687575917459676]
_RELEASE, _ESTIMATOR = "d64l2w50-7f3a9c41b0de", "e828-1f0c3b7a"

EXAMPLES: tuple[Struct, ...] = (
    Interaction(
        user=_USER, item="50", time=_TIME, action="rate", weight=5.0, id="6f1c2a-17", slate="2-1007", group="f"
    ),
    Impression(user=_USER, time=_TIME + 1500, items=["174", "181", "172"], slate=_SLATE, id="6f1c2a-18"),
    Request(user=_USER, time=_TIME + 90_000, id="6f1c2a-19"),
    Erase(user=_USER, time=_TIME + 86_400_000),
    Item(
        item="50",
        title="Star Wars",
        text="A farm boy joins rebels against an empire.",
        categories=["Action", "Adventure", "Sci-Fi"],
        year=1977,
    ),
    ItemVector(
        item="50",
        encoder="c9caae64d94a7ede",
        text_hash="3b5f82e2a1544981",
        vector_f32=b64decode("AAAAP83MTL6amZk+AAAAvw=="),
        title="Star Wars",
        categories=["Action", "Adventure", "Sci-Fi"],
        year=1977,
    ),
    Recommendation(
        user=_USER,
        slate=_SLATE,
        time=_TIME,
        cause=_CAUSE,
        covers=[1040, 1041],
        items=["174", "181", "172"],
        scores=[2.2724244594573975, 2.3837950229644775, 2.5932486057281494],
        conditional=_CONDITIONAL,
        propensity=_PROPENSITY,
        inclusion=_INCLUSION,
        release=_RELEASE,
        estimator=_ESTIMATOR,
        catalogue=[418, 431, 409, 424],
        ages=Ages(event_ms=9, release_ms=5_227_000, estimator_ms=1_480),
    ),
    Decision(
        user=_USER,
        slate=_SLATE,
        time=_TIME,
        cause=_CAUSE,
        covers=[1040, 1041],
        candidates=["172", "181", "174", "204", "96", "853"],
        injected=1,
        injection=0.0005963029218843172,
        base_f32=b64decode("AAAwQAAAIEAAABBAAADAPwAAoD8AAAC/"),
        correction_f32=b64decode("cYMgvtX87b2rs7c86g9AvfGU6T3oxDs+"),
        logits_f32=b64decode("yfclQBmQGEBnbxFAgf+5P0+Zrj+MHaK+"),
        chosen=[2, 1, 0],
        conditional=_CONDITIONAL,
        uniform=False,
        seed=0,
        draws=4,
        temperature=0.35,
        epsilon=0.02,
        beta=0.1,
        release=_RELEASE,
        estimator=_ESTIMATOR,
        catalogue=[418, 431, 409, 424],
        terms={
            "after": b64decode("AACAPgAAAD8AAIC+AAAAPgAAAAAAAAC/"),
            "model": b64decode("AACgPwAAoD8AANA/AABAPwAAQD8AAKA/"),
            "popularity": b64decode("AADAPgAAgD4AAAA+AACAPgAAAD8AAIC+"),
            "window": b64decode("AABgPwAAAD8AAEA/AADAPgAAAAAAAIC/"),
        },
        neighbours=3,
        counted=3,
        groups={"adventure": [0, 1, 2], "drama": [3, 5]},
        steered=False,
    ),
    Outcome(
        user=_USER,
        slate=_SLATE,
        time=_TIME,
        closed=_TIME + 1_800_000,
        reason="window",
        origin="driftline",
        shown=True,
        items=["174", "181", "172"],
        rewards=[0.0, 0.0, 4.0],
        conditional=_CONDITIONAL,
        propensity=_PROPENSITY,
        inclusion=_INCLUSION,
        unshown=["204", "853", "96"],
        unshown_inclusion=[0.12100254550572749, 0.01071956046554484, 0.09642165573762798],
        candidates=6,
        history=57,
        release=_RELEASE,
        estimator=_ESTIMATOR,
        group="f",
        uniform=False,
        steered=False,
        item_groups=["adventure", "adventure", "adventure"],
        group_candidates={"adventure": 3, "drama": 2},
    ),
    ReleasePointer(
        release=_RELEASE,
        digest="9b0e4d5c0f6f3a7d1b6a8e2c4f907153d2a4c6e8f0b1a3957d8c6e4f2a1b0c9d",
        created=1_772_360_100_000,
    ),
    EstimatorSnapshot(
        estimator=_ESTIMATOR,
        created=1_772_365_327_000,
        offsets={"0": 210, "1": 187, "2": 233, "3": 198},
        outcomes=828,
        frequency=FrequencyState(
            alpha=0.05,
            start=0,
            step=828,
            rows=1,
            width=2,
            last_i64=b64decode("OgMAAAAAAAA8AwAAAAAAAA=="),
            gap_f64=b64decode("AAAAAAAA4D8AAAAAAAAIQA=="),
            hits_i64=b64decode("bwAAAAAAAABUAAAAAAAAAA=="),
        ),
        exposure=ExposureState(
            bits=18,
            bucket_i32=b64decode("EQAAAGICAAA="),
            weight_f64=b64decode("AAAAAAAA4D8AAAAAAADQvw=="),
            z_f64=b64decode("AAAAAAAA8L8AAAAAAADgPw=="),
            n_f64=b64decode("AAAAAAAAEEAAAAAAAAAAQA=="),
            intercept=-2.3,
            iterations=828,
        ),
        calibration_error=0.018,
        clicks=ClicksState(
            examination=ExaminationState(
                half_life=5000.0,
                contexts=["", "1-4"],
                positions=2,
                clicks_f64=b64decode("AAAAAAAASUAAAAAAAAA5QAAAAAAAAChAAAAAAAAAFEA="),
                expected_f64=b64decode("AAAAAAAASUAAAAAAAABEQAAAAAAAAChAAAAAAAAAJEA="),
            ),
            reward=RewardState(
                bits=15,
                memory=5000.0,
                bucket_i32=b64decode("EQAAAGICAAA="),
                weight_f64=b64decode("AAAAAAAA4D8AAAAAAADQvw=="),
                information_f64=b64decode("AAAAAAAAEEAAAAAAAAAAQA=="),
            ),
            swaps=SwapState(
                half_life=100_000.0,
                positions=2,
                scale=1.0,
                cell_i32=b64decode("AAAAAAEAAAA="),
                shown_f64=b64decode("AAAAAAAAWUAAAAAAAAAAQA=="),
                clicks_f64=b64decode("AAAAAAAAJEAAAAAAAADwPw=="),
            ),
            outcomes=790,
        ),
        drift=DriftState(
            updates=790,
            quiet=0,
            alarms={"position 3": 1},
            last={"position 3": 512},
            signals=[DriftSignal("position 1", 1.25, 0.5, False, "")],
        ),
    ),
    TrainerState(
        checkpoint="driftline-96-5f0c77d1",
        created=1_772_365_311_000,
        round=96,
        at=RoundEnds({"0": 6150, "1": 6201, "2": 5987, "3": 6240}, {"0": 208, "1": 187, "2": 233, "3": 196}),
        begun=[RoundEnds({"0": 6212, "1": 6268, "2": 6049, "3": 6305}, {"0": 210, "1": 187, "2": 233, "3": 198})],
    ),
)
