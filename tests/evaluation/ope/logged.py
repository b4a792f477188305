"""Decisions and outcomes as they are on the topics, in a world whose truth is known."""

from __future__ import annotations

import numpy as np

from policy.slate import PolicyConfig, decide, noise
from streams.contracts import Cause, Decision, Outcome

POLICY = PolicyConfig(k=3, candidates=10, injected=0, temperature=1.0, epsilon=0.2, beta=0.2)
TASTE = np.random.default_rng(0).normal(-1.0, 0.8, POLICY.width)  # log-odds of a click by item, less by position


def made(
    size: int, seed: int = 0, config: PolicyConfig = POLICY, busy: bool = False, herd: float = 0.0
) -> tuple[list[Decision], list[Outcome]]:
    """Slates of driftline's own policy code and clicks that depend on the item and its position.

    `busy`: with an adjustment, a temperature for each user and every third slate's position 1 pinned. `herd`: instead
    of chance, so much of the scores is popularity, of which taste knows nothing: that β undoes it.
    """
    random = np.random.default_rng(seed)
    slots = np.tile(np.arange(config.width), (size, 1))
    terms = {"a": 0.5 * TASTE + 0.3 * random.standard_normal(slots.shape), "b": random.standard_normal(slots.shape)}
    popularity = -random.random(slots.shape) * 3
    terms["b"] = herd * popularity if herd else terms["b"]
    parts = {name: part.astype(np.float32) for name, part in terms.items()}
    own = random.choice([0.7, 1.5], size) if busy else np.ones(size)
    pins = np.full((size, config.k), -1)
    pins[::3, 1] = 4 if busy else -1
    choice = decide(
        config,
        slots,
        slots.astype(np.uint64),
        parts["a"] + parts["b"],
        popularity,
        noise(config, 0, np.arange(size)),
        adjustments={"boost": (np.arange(config.width) % 2) * np.ones(slots.shape)} if busy else {},
        temperature=own * config.temperature,
        pinned=pins,
    )
    clicks = random.random(choice.chosen.shape) < 1 / (1 + np.exp(-TASTE[choice.chosen] + 0.5 * np.arange(config.k)))
    decisions, outcomes = [], []
    for row in range(size):
        slate, user = f"0-{row}", f"u{row // 2}"
        decisions.append(
            Decision(
                user=user, slate=slate, time=row, cause=Cause(0, row, "request"), covers=[row],
                candidates=[f"i{at}" for at in range(config.width)], injected=0, injection=0.0,
                base_f32=(parts["a"] + parts["b"])[row].tobytes(), correction_f32=choice.correction[row].tobytes(),
                logits_f32=choice.logits[row].tobytes(), chosen=choice.chosen[row].tolist(),
                conditional=choice.conditional[row].tolist(), uniform=False, seed=0, draws=4,
                temperature=float(own[row]) * config.temperature, policy_temperature=config.temperature,
                epsilon=config.epsilon, beta=config.beta, swaps=config.swaps, release="r", estimator=None,
                adjustments={name: part[row].tobytes() for name, part in choice.adjustments.items()},
                pinned=np.flatnonzero(choice.pinned[row]).tolist(),
                catalogue=[0], terms={name: part[row].tobytes() for name, part in parts.items()},
            )
        )  # fmt: skip
        outcomes.append(
            Outcome(
                user=user, slate=slate, time=row, closed=row + 1, reason="window", origin="driftline",
                shown=row % 2 == 0,
                items=[f"i{at}" for at in choice.chosen[row]], rewards=(2.5 * clicks[row]).tolist(), conditional=None,
                propensity=None, inclusion=None, unshown=[], unshown_inclusion=None, candidates=config.width, history=0,
                release="r", estimator=None,
            )
        )  # fmt: skip
    return decisions, outcomes
