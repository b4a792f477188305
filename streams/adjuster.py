"""What is added to the logits by intention, before anything is drawn.

The one place where such terms come together: each is a function of candidates, scores, states, world and rules, and
becomes a column with a name; then there is one draw. So the probabilities that go with a slate stay exact, whatever is
switched on. Knows nothing of Kafka, of messages or of how a draw is made.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policy import calibration, diversity, exploration
from policy.arrangement import OFF, Arrangement
from policy.rules import Rules
from policy.slate import correct
from streams import ruling
from streams.adjusting import Adjusted, Scene
from streams.rules_file import RulesFile
from streams.steering import with_fairness
from streams.uncertainty import HISTORY, exposures, unsure
from streams.world import World

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

FADING: Floats = np.power(0.9, np.arange(HISTORY))
"""What a user's last events count in his past mix of categories, the newest first."""
CATEGORIES = 8
"""So many of an item's categories count in its mix."""


class Adjuster:
    """Follows an arrangement, and the rules of a file as they are at the moment.

    `digest`: of arrangement and rules, 16 hex digits, as of the last batch: the same digest, the same adjustments. None
    where nothing is asked for.
    """

    def __init__(self, arrangement: Arrangement = OFF, file: RulesFile | None = None) -> None:
        self.arrangement = arrangement
        self.file = file or RulesFile(None)
        self._rules = Rules()
        self.digest: str | None = None

    def pins(self, world: World, offsets: Ints, users: Sequence[str], k: int) -> Ints | None:
        """Looks at the file once a batch: `adjust` follows the same rules."""
        self._rules = self.file.rules()
        self.digest = self._digest_now()
        return ruling.pins(world, self._rules, users, k)

    def adjust(self, scene: Scene) -> Adjusted:
        if self.digest is None:
            return Adjusted(scene.slots)
        return _Adjusting(scene, self.arrangement, self._rules).done(self.digest)

    def _digest_now(self) -> str | None:
        if self.arrangement == OFF and not self._rules:
            return None
        text = f"{self.arrangement} {self.file.digest if self._rules else None}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class _Adjusting:
    """One batch on its way: candidates leave, terms are added, each on top of those before it."""

    def __init__(self, scene: Scene, arrangement: Arrangement, rules: Rules) -> None:
        self._scene = scene
        self._arrangement = arrangement
        self._rules = rules
        self._added: dict[str, Floats32] = {}
        self._slots = ruling.filtered(scene.world, rules, scene.users, scene.slots)
        correction = correct(scene.policy.beta, self._slots >= 0, scene.log_popularity)
        self._logits = np.where(self._slots >= 0, scene.base + correction, np.float32(-np.inf))

    def done(self, digest: str) -> Adjusted:
        """All of it, in the order in which one thing builds on another."""
        scene, wanted = self._scene, self._arrangement
        self._shift()
        if wanted.fatigue:
            shown = exposures(scene.world, scene.states, scene.times, self._slots)
            self._add("fatigue", np.float32(-wanted.fatigue) * shown)
        temperature = np.full(len(self._slots), scene.policy.temperature)
        if wanted.unsure > 1:
            doubt = unsure(scene.world, scene.recent, scene.degrees)
            temperature = exploration.temperatures(scene.policy.temperature, doubt, wanted.unsure)
        if wanted.calibration:
            self._calibrate(temperature)
        if wanted.diversity:
            self._vary()
        self._cap_categories()
        if np.isfinite(wanted.loss):
            temperature = exploration.capped(self._logits, scene.policy.k, temperature, wanted.loss)
        if wanted.new_bonus:
            self._favour_new(temperature)
        made = Adjusted(self._slots, self._added, temperature, self._columns_of_pins(), digest)
        return made if self._rules.fairness is None else with_fairness(made, scene, self._rules.fairness)

    def _add(self, name: str, term: Floats32) -> None:
        self._added[name] = term
        self._logits = self._logits + term

    def _shift(self) -> None:
        for name, shifts in (("boost", self._rules.boosts), ("bury", self._rules.buries)):
            if shifts:
                self._add(name, ruling.shifted(self._scene.world, shifts, self._scene.users, self._slots))

    def _calibrate(self, temperature: Floats) -> None:
        categories, recent = self._scene.world.categories, self._scene.recent.slots[:, :HISTORY]
        here, past = (categories.of(slots)[:, :, :CATEGORIES] for slots in (self._slots, recent))
        weights = FADING[: recent.shape[1]]
        strength = self._arrangement.calibration
        self._add("calibration", calibration.term(self._logits, temperature, here, past, weights, strength))

    def _vary(self) -> None:
        inputs, weight = self._scene.world.inputs, self._arrangement.diversity
        if len(inputs):
            vectors, length = inputs[np.maximum(self._slots, 0)], math.sqrt(inputs.shape[1])
            self._add("diversity", diversity.deductions(self._logits, vectors, self._scene.policy.k, weight, length))

    def _cap_categories(self) -> None:
        if not self._rules.caps:
            return
        pinned = np.zeros(self._slots.shape, np.bool_)
        if (columns := self._columns_of_pins()) is not None:
            row, place = np.nonzero(columns >= 0)
            pinned[row, columns[row, place]] = True
        self._slots = ruling.capped(self._scene.world, self._rules, self._slots, self._logits, pinned)
        self._logits = np.where(self._slots >= 0, self._logits, np.float32(-np.inf))

    def _favour_new(self, temperature: Floats) -> None:
        wanted, counted = self._arrangement, self._scene.world.exposures
        known = counted[np.maximum(self._slots, 0)] if len(counted) else np.full(self._slots.shape, wanted.new_slates)
        newness = np.maximum(1 - np.minimum(known, wanted.new_slates) / wanted.new_slates, 0).astype(np.float32)
        k, share = self._scene.policy.k, wanted.new_share
        self._add("new", exploration.bonus(self._logits, newness, k, temperature, wanted.new_bonus, share))

    def _columns_of_pins(self) -> Ints | None:
        """Where the pinned slots stand among the candidates; what is barred or not there is not pinned."""
        pins = self._scene.pins
        if pins is None:
            return None
        same = (pins[:, :, None] == self._slots[:, None, :]) & (pins >= 0)[:, :, None]
        return np.where(same.any(axis=2), same.argmax(axis=2), -1)
