"""How each fault is done: from the plan to signals, proxies, the broker and the sender.

Knows every part of a chaos run; decides nothing, since the plan has decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.chaos.fleet import Fleet, Process
from ops.chaos.schedule import Fault, Kind
from ops.chaos.sender import Sender
from ops.kafka import EmbeddedKafka
from streams.cluster import Cluster
from streams.names import Topics
from streams.releases import pointer_to, publish_release

_VICTIM_WITHIN_S = 20.0
DELAY_S, BYTES_PER_S = 0.15, 30_000.0


@dataclass(frozen=True, slots=True)
class Kill:
    """A SIGKILL of a worker, in seconds since the epoch."""

    at: float
    worker: str


@dataclass
class Actions:
    """Does the faults. `done` counts them by kind; `note` hears of each as it happens."""

    fleet: Fleet
    kafka: EmbeddedKafka
    cluster: Cluster
    topics: Topics
    sender: Sender
    releases: Sequence[Path]
    note: Callable[[str], None]
    done: Counter[Kind] = field(default_factory=Counter)
    kills: list[Kill] = field(default_factory=list)
    disturbances: list[tuple[float, float]] = field(default_factory=list)  # begin and end of every fault that hurts
    _logs_kept: int = 0
    _broker: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, faults: Sequence[Fault]) -> None:
        """Do every fault at its time, and return when all are over. Raises what went wrong with the doing."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, begun + fault.at - time.monotonic()))
                group.create_task(self._do(fault))

    async def heal(self) -> None:
        """Nothing is in the way any more."""
        for proxy in self.fleet.proxies:
            proxy.heal()
        async with self._broker:
            await asyncio.to_thread(self.kafka.start)

    async def _do(self, fault: Fault) -> None:
        actions: dict[Kind, Callable[[Fault], Coroutine[Any, Any, None]]] = {
            Kind.KILL: self._kill,
            Kind.ZOMBIE: self._zombie,
            Kind.TERMINATE: self._terminate,
            Kind.ADD: self._add,
            Kind.REMOVE: self._remove,
            Kind.LEARNER: self._learner,
            Kind.BROKER: self._restart_broker,
            Kind.CUT: self._disturb,
            Kind.DELAY: self._disturb,
            Kind.THROTTLE: self._disturb,
            Kind.RELEASE: self._release,
            Kind.POISON: self._poison,
        }
        await actions[fault.kind](fault)
        self.done[fault.kind] += 1

    @contextlib.contextmanager
    def _hurting(self) -> Iterator[None]:
        """Note from when to when something is hurt."""
        begun = time.time()
        try:
            yield
        finally:
            self.disturbances.append((begun, time.time()))

    async def _victim(self, fault: Fault) -> Process:
        """A worker to hurt; waits for one that serves, for a while."""
        until = time.monotonic() + _VICTIM_WITHIN_S
        while True:
            found = self.fleet.pick(fault.pick)
            if found is not None and (found.serving or time.monotonic() > until):
                return found
            await asyncio.sleep(0.1)

    async def _kill(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        self.note(f"SIGKILL {victim.name}")
        self.kills.append(Kill(time.time(), victim.name))
        with self._hurting():
            await self.fleet.kill(victim)

    async def _zombie(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        self.note(f"SIGSTOP {victim.name} for {fault.seconds:.1f} s")
        with self._hurting():
            await self.fleet.freeze(victim, fault.seconds)
        self.note(f"SIGCONT {victim.name}")

    async def _terminate(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        self.note(f"SIGTERM {victim.name}")
        with self._hurting():
            await self.fleet.terminate(victim, replace=True)

    async def _add(self, fault: Fault) -> None:
        while not self.fleet.free:  # noqa: ASYNC110 (one that is to be removed is still at it: another process)
            await asyncio.sleep(0.1)
        with self._hurting():
            added = self.fleet.start_worker()
        self.note(f"one more: {added.name}")

    async def _remove(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        self.note(f"one fewer: {victim.name}")
        with self._hurting():
            await self.fleet.terminate(victim, replace=False)

    async def _learner(self, fault: Fault) -> None:
        learner = self.fleet.learner
        if learner is not None:
            self.note(f"SIGKILL {learner.name}")
            await self.fleet.kill(learner)

    async def _restart_broker(self, fault: Fault) -> None:
        async with self._broker:
            self.note(f"SIGKILL the broker, start it again in {fault.seconds:.1f} s")
            with self._hurting():
                await asyncio.to_thread(self.kafka.kill)
                self._keep_log()
                await asyncio.sleep(fault.seconds)
                await asyncio.to_thread(self.kafka.start)
            down, up = self.disturbances[-1]
            self.note(f"the broker answers again after {up - down:.1f} s")

    def _keep_log(self) -> None:
        """The broker keeps its last log only; recovery is told from all of them."""
        self._logs_kept += 1
        shutil.copy(self.kafka.folder / "logs" / "broker.log", self.fleet.folder / f"broker-{self._logs_kept}.log")

    async def _disturb(self, fault: Fault) -> None:
        victim = await self._victim(fault)
        proxy = self.fleet.proxies[victim.slot]
        self.note(f"{fault.kind} the connection of {victim.name} for {fault.seconds:.1f} s")
        if fault.kind is Kind.CUT:
            await proxy.cut()
        elif fault.kind is Kind.DELAY:
            proxy.delay(DELAY_S)
        else:
            proxy.throttle(BYTES_PER_S)
        try:
            with self._hurting():
                await asyncio.sleep(fault.seconds)
        finally:
            proxy.heal()

    async def _release(self, fault: Fault) -> None:
        async with self._broker:  # not while it is down: an operator would wait for it, too
            folder = self.releases[(self.done[Kind.RELEASE] + 1) % len(self.releases)]
            self.note(f"publish release {folder.name}")
            created = time.time_ns() // 1_000_000
            await publish_release(self.cluster, self.topics.models, pointer_to(folder, created))

    async def _poison(self, fault: Fault) -> None:
        self.sender.poison(fault.poison)
