"""Drift: whether what is observed has left what is expected, signal by signal, told so that something can be done.

A signal is a stream of residuals, observed − expected, of one position, one segment of users or one estimator: a
change that cancels in a total, or that leaves the log loss as it was, shows in one of them. Two detectors watch each.
Page's test (1954) adds up what exceeds an allowance, up and down: quick on a lasting shift. (Page-Hinkley estimates the
mean from which it shifts; that of a residual is 0.) ADWIN (Bifet and Gavaldà 2007) compares any two parts of a
window: for a change of a residual that was not 0 before. Knows nothing of what the signals mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MAX_SIGNALS = 64
ADWIN_SETTINGS = (1e-5, 32, 5, 5, 10)
"""delta (chance of a false alarm at a look), clock, buckets, least window, grace period."""


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """When to be alarmed. Residuals come in units of their standard deviation.

    Attributes:
        allowance: of a residual's mean; a shift of twice as much is found soonest.
        threshold: of the sum of what exceeds it; more: fewer false alarms, later true ones. With the allowance's
            default a false one about every e^(2 · .1 · 80) / (2 · .1²) = 400 million residuals, were they normal.
        warm_up: updates before the first alarm, and after each one: what was just set right must settle.
        largest: residuals beyond it count as that: one rare click is no drift.
    """

    allowance: float = 0.1
    threshold: float = 80.0
    warm_up: int = 1000
    largest: float = 5.0

    def __post_init__(self) -> None:
        for name in ("allowance", "threshold", "warm_up", "largest"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"DriftConfig.{name} is {getattr(self, name)}, expected at least 0")


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal has left what is expected: `up`: more is observed than expected; `by`: the detector that says so."""

    signal: str
    up: bool
    by: Literal["page", "adwin"]


class DriftWatch:
    """Watches signals by name, at most MAX_SIGNALS. Not safe for concurrent mutation."""

    def __init__(self, config: DriftConfig | None = None) -> None:
        self.config = config or DriftConfig()
        self.updates = 0
        self.alarms: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self._quiet = self.config.warm_up
        self._signals: dict[str, _Signal] = {}

    def update(self, residuals: Mapping[str, float]) -> list[Alarm]:
        """Take the residuals of one observation, by signal; what is alarming in them.

        After an alarm everything is watched anew: whoever is told is expected to act.
        """
        self.updates += 1
        self._quiet = max(0, self._quiet - 1)
        found = []
        for name, residual in residuals.items():
            if name not in self._signals and len(self._signals) >= MAX_SIGNALS:
                continue
            signal = self._signals.setdefault(name, _Signal())
            bounded = min(max(residual, -self.config.largest), self.config.largest)
            alarm = signal.update(name, bounded, self.config)
            if alarm is not None and not self._quiet:
                found.append(alarm)
        if found:
            self._signals.clear()
            self._quiet = self.config.warm_up
            for alarm in found:
                self.alarms[alarm.signal] = self.alarms.get(alarm.signal, 0) + 1
                self.last[alarm.signal] = self.updates
        elif self._quiet == 1:  # what was learned on the way says nothing of what comes
            self._signals.clear()
        return found

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, but for the settings: numbers, `alarms` and `last` (the update of the last one)
        by signal, and `signals`: name, Page's sums up and down, whether ADWIN saw a change, its state, hex."""
        signals = [[name, *signal.state()] for name, signal in self._signals.items()]
        counts = {"alarms": dict(self.alarms), "last": dict(self.last)}
        return {"updates": self.updates, "quiet": self._quiet, "signals": signals, **counts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], config: DriftConfig | None = None) -> DriftWatch:
        """The watch that gave `state`. Raises ValueError when a detector's state cannot be read."""
        restored = cls(config)
        restored.updates, restored._quiet = int(state["updates"]), int(state["quiet"])
        restored.alarms = {str(name): int(count) for name, count in state["alarms"].items()}
        restored.last = {str(name): int(update) for name, update in state["last"].items()}
        restored._signals = {str(name): _Signal.of(*rest) for name, *rest in state["signals"]}
        return restored


class _Signal:
    """Page's two sums, and river's ADWIN."""

    def __init__(self) -> None:
        # Here, not above: river takes two seconds to import.
        from river import drift

        delta, clock, buckets, window, grace = ADWIN_SETTINGS
        self._adwin = drift.ADWIN(delta, clock, buckets, window, grace)
        self._up = self._down = 0.0
        self._changed = False

    def update(self, name: str, residual: float, config: DriftConfig) -> Alarm | None:
        self._up = max(0.0, self._up + residual - config.allowance)
        self._down = max(0.0, self._down - residual - config.allowance)
        self._adwin.update(residual)
        if max(self._up, self._down) > config.threshold:
            alarm = Alarm(name, self._up > self._down, "page")
            self._up = self._down = 0.0
            return alarm
        self._changed = self._changed or bool(self._adwin.drift_detected)
        mean = float(self._adwin.estimation)  # of what it has kept: more and more the part after the change
        if self._changed and abs(mean) > config.allowance:
            return Alarm(name, mean > 0, "adwin")
        return None

    def state(self) -> tuple[float, float, bool, str]:
        return self._up, self._down, self._changed, self._adwin._helper.__getstate__().hex()

    @classmethod
    def of(cls, up: float, down: float, changed: bool, adwin: str) -> _Signal:
        restored = cls()
        restored._up, restored._down, restored._changed = float(up), float(down), bool(changed)
        try:
            restored._adwin._helper.__setstate__(bytes.fromhex(adwin))
        except BaseException as error:  # what Rust raises on bytes that it cannot read is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"adwin holds {len(adwin) // 2} bytes that are no state of ADWIN: {error}") from error
        return restored
