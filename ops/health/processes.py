"""The pages of workers and learners, asked every few seconds: their metrics and status, with a short history.

An endpoint is `host:port`; a name with several addresses stands for all of them. Knows nothing of pages.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from ops.errors import CliError

PERIOD_S = 2.0
TIMEOUT_S = 3.0
MOST = 200
MAX_BYTES = 2_000_000
POINTS = 300
FORGET_S = 600.0

Series = dict[tuple[str, ...], float]


@dataclass(slots=True)
class Process:
    """One process: what it said last, when, and what is wrong with it now (empty: nothing)."""

    address: str
    at: float | None = None
    asked: float | None = None
    problem: str = ""
    status: dict[str, Any] = field(default_factory=dict)
    metrics: Series = field(default_factory=dict)
    before: Series = field(default_factory=dict)
    before_at: float = 0.0

    @property
    def kind(self) -> str:
        return next((key[1] for key in self.metrics if key[0] == "driftline_build_info"), "")

    def value(self, name: str, *labels: str) -> float | None:
        return self.metrics.get((f"driftline_{name}", *labels))

    def rate(self, name: str, *labels: str) -> float | None:
        """A counter's growth a second between its last two readings; None where there were not two."""
        key = (f"driftline_{name}", *labels)
        if self.at is None or key not in self.metrics or key not in self.before or self.at <= self.before_at:
            return None
        return max(0.0, self.metrics[key] - self.before[key]) / (self.at - self.before_at)


def endpoints(text: str) -> tuple[str, ...]:
    """The endpoints in a setting. Raises CliError for one that is not `host:port`."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for one in found:
        host, _, port = one.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= 65_535 or "/" in one or "@" in one:
            raise CliError(f"DRIFTLINE_DASHBOARD_ENDPOINTS names {one!r}", "Expected host:port, without http://.")
    return found


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))


class Processes:
    """All endpoints, and histories of figures over all of them."""

    def __init__(self, endpoints: Iterable[str], clock: Callable[[], float] = time.time) -> None:
        self.endpoints = tuple(endpoints)
        self.clock = clock
        self.known: OrderedDict[str, Process] = OrderedDict()
        self.history: dict[str, deque[tuple[float, float | None]]] = {}

    async def run(self) -> None:
        """Ask until cancelled."""
        async with _session() as session:
            while True:
                await self._ask_all(session)
                self._forget()
                self._remember()
                await asyncio.sleep(PERIOD_S)

    async def ask_once(self) -> None:
        """Ask all of them once."""
        async with _session() as session:
            await self._ask_all(session)

    async def _ask_all(self, session: aiohttp.ClientSession) -> None:
        addresses = [found for one in self.endpoints for found in await self._resolve(one)]
        await asyncio.gather(*(self._ask(session, address) for address in addresses[:MOST]))

    async def _resolve(self, endpoint: str) -> list[str]:
        host, _, port = endpoint.rpartition(":")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=1)
        except (OSError, ValueError) as error:
            process = self.known.setdefault(endpoint, Process(endpoint))
            process.asked, process.problem = self.clock(), f"its name is not known: {error}"
            return []
        self.known.pop(endpoint, None) if endpoint in self.known and not self.known[endpoint].at else None
        hosts = sorted({str(address[4][0]) for address in found})
        return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> None:
        process = self.known.setdefault(address, Process(address))
        process.asked = self.clock()
        try:
            metrics = await _text(session, f"http://{address}/metrics")
            status = json.loads(await _text(session, f"http://{address}/status"))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            process.problem = f"it does not answer: {type(error).__name__}"
            return
        self.take(process, metrics, status)

    def take(self, process: Process, metrics: str, status: dict[str, Any]) -> None:
        """What a process has said."""
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(metrics)
            if family.name.startswith("driftline_") or family.name == "process_resident_memory_bytes"
            for sample in family.samples
        }
        process.before, process.before_at = process.metrics, process.at or 0.0
        process.metrics, process.status = found, status if isinstance(status, dict) else {}
        process.at, process.problem = self.clock(), ""

    def _forget(self) -> None:
        now = self.clock()
        for address, process in list(self.known.items()):
            if process.at is not None and now - process.at > FORGET_S:
                del self.known[address]
        while len(self.known) > MOST:
            self.known.popitem(last=False)

    def live(self, kind: str) -> list[Process]:
        """Processes of a kind that answered lately."""
        now = self.clock()
        return [
            one
            for one in self.known.values()
            if one.kind == kind and one.at is not None and now - one.at < 5 * PERIOD_S
        ]

    def total(self, kind: str, name: str, *labels: str) -> float | None:
        """The sum over the live processes of a kind; None where none says it."""
        values = [value for one in self.live(kind) if (value := one.value(name, *labels)) is not None]
        return sum(values) if values else None

    def whole(self, kind: str, name: str) -> float | None:
        """The sum over all labels and all live processes of a kind; None where none says it."""
        key = f"driftline_{name}"
        values = [value for one in self.live(kind) for series, value in one.metrics.items() if series[0] == key]
        return sum(values) if values else None

    def worst(self, kind: str, name: str, *labels: str) -> float | None:
        values = [value for one in self.live(kind) if (value := one.value(name, *labels)) is not None]
        return max(values) if values else None

    def rate(self, kind: str, name: str, *labels: str) -> float | None:
        values = [value for one in self.live(kind) if (value := one.rate(name, *labels)) is not None]
        return sum(values) if values else None

    def quantile(self, name: str, share: float, *labels: str, kind: str = "worker") -> float | None:
        """A quantile of what a histogram counted between the last two readings of all: the bound it lies below."""
        grown: dict[float, float] = {}
        key = f"driftline_{name}_bucket"
        for one in self.live(kind):
            for series, value in one.metrics.items():
                if series[0] == key and series[1:-1] == labels and series in one.before:
                    bound = float(series[-1])
                    grown[bound] = grown.get(bound, 0.0) + value - one.before[series]
        return _within(sorted(grown.items()), share)

    def _remember(self) -> None:
        now = self.clock()
        figures = {
            "p50": self.quantile("event_latency_seconds", 0.5),
            "p99": self.quantile("event_latency_seconds", 0.99),
            "rate": self.rate("worker", "events_total"),
            "lag": self.whole("worker", "lag_events"),
            "loss": self.worst("learner", "trainer_loss"),
            "hits": self.worst("learner", "hit_ratio"),
            "calibration": self.worst("learner", "propensity_calibration_error_ratio"),
            "ess": self.worst("learner", "propensity_effective_sample_ratio"),
            "recall": self.worst("worker", "index_recall_ratio", "mean"),
            "gap": self.worst("worker", "fairness_gap_ratio"),
        }
        for name, value in figures.items():
            self.history.setdefault(name, deque(maxlen=POINTS)).append((now, value))


def _within(cumulative: list[tuple[float, float]], share: float) -> float | None:
    """The quantile in a cumulative histogram, interpolated within its bucket; None where nothing was counted."""
    if not cumulative or cumulative[-1][1] <= 0:
        return None
    wanted, below, counted = share * cumulative[-1][1], 0.0, 0.0
    for bound, count in cumulative:
        if count >= wanted:
            if bound == float("inf"):
                return below
            inside = (wanted - counted) / (count - counted) if count > counted else 1.0
            return below + (bound - below) * inside
        below, counted = bound, count
    return below


async def _text(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url, allow_redirects=False) as answer:
        data = await answer.content.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES or answer.status != 200:
            raise ValueError(f"{url} answered {answer.status}")
        return data.decode(errors="replace")
