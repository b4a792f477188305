"""The processes of a chaos run: workers, each behind a proxy of its own, and a learner; started, hurt, replaced, ended.

Knows how to start `driftline worker` and `driftline learn`, and signals; nothing of what they do, nor of when they are
hurt.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.chaos.proxy import Proxy
from ops.demo.children import Child, Children
from ops.kafka.ports import HOST
from ops.kafka.process import release
from ops.settings import variable

LOOK_EVERY_S = 0.1
_STOP_WITHIN_S = 30.0
SERVING = b'"partition taken over"'


@dataclass
class Process:
    """One process from its start to its end; times are seconds since the epoch."""

    child: Child
    command: str
    slot: int
    started: float
    wanted: bool = True  # nobody has told it to end
    frozen: bool = False
    was_frozen: bool = False
    ended: float | None = None

    @property
    def name(self) -> str:
        return self.child.name

    @property
    def alive(self) -> bool:
        return self.child.process.poll() is None

    @property
    def serving(self) -> bool:
        """It has taken over a partition since its start."""
        return SERVING in self.child.log.read_bytes()

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.child.process.send_signal(number)

    async def gone(self, within_s: float = _STOP_WITHIN_S) -> None:
        """Wait for its end; SIGKILL after `within_s`."""
        until = time.monotonic() + within_s
        while self.alive and time.monotonic() < until:  # noqa: ASYNC110 (another process: nothing to await)
            await asyncio.sleep(LOOK_EVERY_S / 4)
        self.child.process.kill()
        self.child.process.wait()
        release(self.child.guard)
        self.ended = time.time()


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended though nobody had told it to."""

    name: str
    at: float
    status: int
    zombie: bool  # it had been stopped and woken up
    last_words: str


@dataclass
class Fleet:
    """All processes: `python -m module worker`, and `learn` where the job has a learner.

    `proxies`: one for each worker that there can be.
    """

    folder: Path
    environment: Mapping[str, str]
    address: str  # the learner's
    proxies: Sequence[Proxy]
    module: str = "ops.cli"
    has_learner: bool = True
    workers: dict[int, Process] = field(default_factory=dict)  # by slot
    learner: Process | None = None
    deaths: list[Death] = field(default_factory=list)
    history: list[Process] = field(default_factory=list)
    _children: list[Children] = field(default_factory=list)
    _closing: bool = False

    def start_worker(self, slot: int | None = None) -> Process:
        """Start a worker in a slot, by default the first free one."""
        if slot is None:
            slot = next(at for at in range(len(self.proxies)) if at not in self.workers)
        process = self._start("worker", slot, f"{HOST}:{self.proxies[slot].port}")
        self.workers[slot] = process
        return process

    def start_learner(self) -> None:
        if self.has_learner:
            self.learner = self._start("learn", 0, self.address)

    def _start(self, command: str, slot: int, address: str) -> Process:
        number = 1 + sum((one.command, one.slot) == (command, slot) for one in self.history)
        children = Children(self.folder, {**self.environment, variable("bootstrap_servers"): address})
        child = children.start(f"{command}-{slot + 1}.{number}", self.module, command)
        process = Process(child, command, slot, time.time())
        self._children.append(children)
        self.history.append(process)
        return process

    def pick(self, chance: float) -> Process | None:
        """One of the workers at large, rather one that serves; `chance` from 0 to 1 says which."""
        awake = [one for _, one in sorted(self.workers.items()) if one.wanted and not one.frozen and one.alive]
        serving = [one for one in awake if one.serving] or awake
        return serving[min(int(chance * len(serving)), len(serving) - 1)] if serving else None

    @property
    def free(self) -> bool:
        """Whether a worker could be added."""
        return len(self.workers) < len(self.proxies)

    # What can be done to them

    async def kill(self, process: Process) -> None:
        """SIGKILL, and a new one in its place."""
        await self._end(process, signal.SIGKILL)
        self._replace(process)

    async def terminate(self, process: Process, *, replace: bool) -> None:
        """SIGTERM; and a new one in its place, or none."""
        await self._end(process, signal.SIGTERM)
        if replace:
            self._replace(process)
        else:
            self.workers.pop(process.slot, None)

    async def freeze(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT so much later. What it does then is its own affair."""
        process.frozen = process.was_frozen = True
        try:
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
        finally:
            process.signal(signal.SIGCONT)
            process.frozen = False

    async def _end(self, process: Process, number: signal.Signals) -> None:
        process.wanted = False
        process.signal(number)
        await process.gone()

    def _replace(self, process: Process) -> None:
        if self._closing:
            return
        if process.command == "learn":
            self.start_learner()
        else:
            self.start_worker(process.slot)

    async def supervise(self) -> None:
        """Replace those that die by themselves; never returns."""
        while True:
            for process in [*self.workers.values(), *([self.learner] if self.learner else [])]:
                if process.wanted and not process.alive:
                    await self._bury(process)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _bury(self, process: Process) -> None:
        process.wanted = False
        await process.gone()
        words = process.child.log_tail(1)
        status = process.child.process.returncode
        self.deaths.append(Death(process.name, time.time(), status, process.was_frozen, words))
        await asyncio.sleep(1)  # as a supervisor would, rather than in a busy loop
        self._replace(process)

    async def stop(self) -> list[str]:
        """End all in order; returns the names of those that did not end well (status 0)."""
        self._closing = True
        running = [*self.workers.values(), *([self.learner] if self.learner else [])]
        for process in running:
            process.wanted = False
            process.signal(signal.SIGTERM)
        await asyncio.gather(*(process.gone() for process in running))
        return [one.name for one in running if one.child.process.returncode != 0]

    def abandon(self) -> None:
        """End all at once, whatever state they are in; may be called again."""
        self._closing = True
        for process in self.history:
            if process.alive:
                process.signal(signal.SIGKILL)
        for children in self._children:
            children.stop()
