"""Driftline's own log for off-policy evaluation: decisions joined with outcomes, as arrays of one width.

Also what another policy is, in terms of a decision record: other temperature, ε or β, other weights of the named terms
and adjustments. Reads contracts; knows nothing of topics or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.ope.ratio import Floats, Ints
from streams.contracts import Decision, Outcome

Floats32 = NDArray[np.float32]

NO_BETA = "the decision has beta 0, so no popularity to correct by"
_BY_CANDIDATE = ("logits", "target_logits", "items", "base")


class Unusable(Exception):
    """A slate that cannot be used, and why; the reason names no slate, so that alike ones can be counted."""


@dataclass(frozen=True, slots=True)
class SlateTarget:
    """Another policy over the logged candidates. None: as the decision names it.

    `temperature` is the setting: where a user had one of his own, he keeps its ratio to the setting of the log.
    `terms` and `adjustments` are factors by name: 1 leaves one as it is, 0 takes it out. `size`: that only the first
    positions of the same slates count.
    """

    temperature: float | None = None
    epsilon: float | None = None
    beta: float | None = None
    size: int | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    adjustments: Mapping[str, float] = field(default_factory=dict)

    def heat(self, decision: Decision) -> float:
        """The temperature that the target would draw with."""
        if self.temperature is None:
            return decision.temperature
        return self.temperature * decision.temperature / (decision.policy_temperature or decision.temperature)

    def logits(self, decision: Decision) -> Floats32:
        """What the target would draw from, float32 [C]. Raises Unusable when the decision does not say enough."""
        logged = _floats(decision.logits_f32)
        change = np.zeros(len(logged), np.float64)
        if self.beta is not None and self.beta != decision.beta:
            if decision.beta == 0:
                raise Unusable(NO_BETA)
            change += (self.beta / decision.beta - 1) * _floats(decision.correction_f32)
        change += _change("term", self.terms, decision.terms, logged)
        change += _change("adjustment", self.adjustments, decision.adjustments, logged)
        return logged if not change.any() else (logged + change).astype(np.float32)


def _change(what: str, factors: Mapping[str, float], parts: Mapping[str, bytes], logged: Floats32) -> Floats:
    change = np.zeros(len(logged), np.float64)
    for name, factor in factors.items():
        if factor == 1:
            continue
        if name not in parts:
            known = ", ".join(sorted(parts)) or "none"
            raise Unusable(f"the decision has no {what} {name}; it has {known}")
        part = _floats(parts[name]).astype(np.float64)
        change += np.where(np.isfinite(part) & np.isfinite(logged), (factor - 1) * part, 0.0)
    return change


@dataclass(frozen=True, slots=True)
class SlateLog:
    """n slates of k positions from C candidates; what is not there is padded.

    Attributes:
        users: cluster of each slate, int64 [n].
        chosen: int64 [n, k], columns shown, -1 beyond the end.
        rewards: float64 [n, k], 0 where nothing is shown.
        conditional: float64 [n, k] as logged, 1 where nothing is shown.
        logits, target_logits: float32 [n, C], -inf in empty columns.
        temperature, target_temperature, epsilon, target_epsilon: float64 [n].
        pinned: int64 [n, k].
        exchanged: float64 [n], share of slates with two neighbours exchanged; the target's, too.
        items: int64 [n, C] code of each candidate, -1 in empty columns.
        base: float32 [n, C] log-score before the correction; -inf in empty columns.
        size: how many positions count: the first ones, at most k.
    """

    users: Ints
    chosen: Ints
    rewards: Floats
    conditional: Floats
    logits: Floats32
    target_logits: Floats32
    temperature: Floats
    target_temperature: Floats
    epsilon: Floats
    target_epsilon: Floats
    pinned: Ints
    exchanged: Floats
    items: Ints
    base: Floats32
    size: int

    def __len__(self) -> int:
        return len(self.users)


class SlateLogBuilder:
    """Takes decisions and outcomes in any order, joins them by slate, and makes arrays.

    Args:
        target: the policy to be evaluated.
        hits: count any interaction as 1; otherwise rewards are summed weights.
        shown: leave out slates that no impression confirmed.

    Attributes:
        left_out: how many slates were not used, by reason.
    """

    def __init__(self, target: SlateTarget, *, hits: bool = True, shown: bool = False) -> None:
        self._target, self._hits, self._shown = target, hits, shown
        self._codes: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._outcomes: dict[str, tuple[str, list[float]]] = {}
        self._decided: dict[str, dict[str, Any]] = {}
        self.left_out: Counter[str] = Counter()

    def outcome(self, outcome: Outcome) -> None:
        """Take in what happened."""
        if outcome.origin != "driftline":
            return
        if self._shown and not outcome.shown:
            self.left_out["no impression confirmed it"] += 1
            return
        rewards = [float(one > 0) if self._hits else one for one in outcome.rewards]
        self._outcomes[outcome.slate] = outcome.user, rewards

    def decision(self, decision: Decision) -> None:
        """Take in what was decided."""
        try:
            if not decision.chosen:
                raise Unusable("nothing was shown")
            self._decided[decision.slate] = self._row(decision)
        except Unusable as why:
            self.left_out[str(why)] += 1

    def _row(self, decision: Decision) -> dict[str, Any]:
        target = self._target
        pinned = np.full(len(decision.chosen), -1, np.int64)
        pinned[decision.pinned] = np.array(decision.chosen)[decision.pinned]
        codes = [-1 if item is None else self._codes.setdefault(item, len(self._codes)) for item in decision.candidates]
        return {
            "chosen": np.array(decision.chosen, np.int64),
            "conditional": np.array(decision.conditional, np.float64),
            "logits": _floats(decision.logits_f32),
            "target_logits": target.logits(decision),
            "temperature": decision.temperature,
            "target_temperature": target.heat(decision),
            "epsilon": decision.epsilon,
            "target_epsilon": decision.epsilon if target.epsilon is None else target.epsilon,
            "pinned": pinned,
            "exchanged": decision.swaps,
            "items": np.array(codes, np.int64),
            "base": _floats(decision.base_f32),
        }

    def build(self) -> SlateLog:
        """The arrays of all slates of which both are known. Raises ValueError when there is none."""
        both = [slate for slate in self._decided if slate in self._outcomes]
        self.left_out["its window has not closed, or its outcome is gone"] += len(self._decided) - len(both)
        self.left_out["its decision is gone"] += sum(slate not in self._decided for slate in self._outcomes)
        if not both:
            raise ValueError("no slate has both a decision and an outcome")
        rows = [self._decided[slate] for slate in both]
        outcomes = [self._outcomes[slate] for slate in both]
        users = [self._users.setdefault(user, len(self._users)) for user, _ in outcomes]
        rewards = [np.array(one[: len(row["chosen"])]) for row, (_, one) in zip(rows, outcomes, strict=True)]
        k, width = max(len(row["chosen"]) for row in rows), max(len(row["logits"]) for row in rows)

        def columns(name: str, fill: float) -> NDArray[Any]:
            return _padded([row[name] for row in rows], width if name in _BY_CANDIDATE else k, fill)

        def numbers(name: str) -> Floats:
            return np.array([row[name] for row in rows], np.float64)

        return SlateLog(
            users=np.array(users, np.int64),
            chosen=columns("chosen", -1),
            rewards=_padded(rewards, k, 0.0),
            conditional=columns("conditional", 1.0),
            logits=columns("logits", -np.inf),
            target_logits=columns("target_logits", -np.inf),
            temperature=numbers("temperature"),
            target_temperature=numbers("target_temperature"),
            epsilon=numbers("epsilon"),
            target_epsilon=numbers("target_epsilon"),
            pinned=columns("pinned", -1),
            exchanged=numbers("exchanged"),
            items=columns("items", -1),
            base=columns("base", -np.inf),
            size=min(self._target.size or k, k),
        )


class BetasBuilder:
    """Like `SlateLogBuilder`, for targets that differ in nothing but β: a log for each, of the same slates.

    Decisions that were drawn with β 0 say nothing of popularity: they are left out of all logs, and counted.
    """

    def __init__(self, target: SlateTarget, betas: Sequence[float], *, hits: bool = True, shown: bool = False) -> None:
        self._builders = [SlateLogBuilder(replace(target, beta=beta), hits=hits, shown=shown) for beta in betas]
        self.left_out = self._builders[0].left_out

    def outcome(self, outcome: Outcome) -> None:
        """Take in what happened."""
        for builder in self._builders:
            builder.outcome(outcome)

    def decision(self, decision: Decision) -> None:
        """Take in what was decided."""
        if decision.beta == 0:
            self.left_out[NO_BETA] += 1
            return
        for builder in self._builders:
            builder.decision(decision)

    def build(self) -> list[SlateLog]:
        """The logs, in the order of the βs. Raises ValueError when there is no slate of which both are known."""
        return [builder.build() for builder in self._builders]


def _padded(rows: list[NDArray[Any]], width: int, fill: float) -> NDArray[Any]:
    whole = np.full((len(rows), width), fill, rows[0].dtype)
    for at, row in enumerate(rows):
        whole[at, : len(row)] = row
    return whole


def _floats(column: bytes) -> Floats32:
    return np.frombuffer(column, "<f4")
