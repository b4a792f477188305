"""The processes of the demo: started with their settings, logged to files, watched, and ended together.

Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import CliError
from ops.kafka.process import release, tie_to_this_process

_LOOK_EVERY_S = 0.1
# Several processes with a thread for each core wait for each other's threads: training took six times as long.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class ChildDied(CliError):
    """A process of the demo ended that should not have, or failed; shows the end of its log."""


@dataclass(frozen=True)
class Child:
    """One process. `guard` kills it should this process be killed."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    guard: subprocess.Popen[bytes]

    def log_tail(self, lines: int = 12) -> str:
        """The end of what it wrote."""
        said = self.log.read_text(errors="replace").splitlines()
        return "\n".join(line[:400] for line in said[-lines:]) or "(it wrote nothing)"

    def died(self) -> ChildDied:
        problem = f"the demo's {self.name} ended with status {self.process.returncode}. The end of its log:"
        return ChildDied(f"{problem}\n{self.log_tail()}", f"Its whole log is {self.log}.")


class Children:
    """Processes whose logs are in `folder`, with `environment` on top of this process's own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**_ONE_THREAD, **os.environ, **environment}
        self._children: list[Child] = []

    def start(self, name: str, module: str, *arguments: str) -> Child:
        """Start `python -m module arguments`; its log is `<name>.log`."""
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", module, *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which ends them in order
            )
        child = Child(name, log, process, tie_to_this_process(process.pid))
        self._children.append(child)
        return child

    async def finish(self, child: Child) -> None:
        """Wait for a child that ends by itself; raises ChildDied unless its status is 0."""
        self._children.remove(child)
        try:
            while child.process.poll() is None:  # noqa: ASYNC110 (another process: nothing to await)
                await asyncio.sleep(_LOOK_EVERY_S)
        finally:
            release(child.guard)
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
        if child.process.returncode != 0:
            raise child.died()

    async def watch(self) -> None:
        """Raise ChildDied as soon as one of those that should be running has ended; never returns."""
        while True:
            for child in self._children:
                if child.process.poll() is not None:
                    raise child.died()
            await asyncio.sleep(_LOOK_EVERY_S)

    def stop(self, timeout_s: float = 15) -> None:
        """End all in order, at the same time; by force those that are still there after `timeout_s`."""
        for child in self._children:
            release(child.guard)
            child.process.terminate()
        until = time.monotonic() + timeout_s
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - time.monotonic()))
            child.process.kill()
            child.process.wait()
        self._children.clear()
