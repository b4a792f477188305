"""The pipeline on one core, without Kafka: microseconds per event by stage, on fresh data for every batch.

Nobody appears twice in a batch, so each event is answered by a slate of its own; every user has a history and a warm
attention cache, as in steady state. Figures are CPU time of this process, so that other load disturbs them little.
Run again on the same batch a stage looks 2 to 7 times faster than it is: nothing here is run twice.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.synthetic import MINUTE_MS, Ints, Synthetic, distinct_zipf_users
from models.release import Release
from models.serving import ServingModel
from policy.arrangement import OFF, Arrangement
from policy.slate import PolicyConfig
from streams.contracts import Interaction, encode
from streams.names import Topics
from streams.pipeline import Pipeline, PipelineConfig, Timings
from streams.state import StateLimits, encode_state
from streams.validation import EventRules
from streams.world import Known, World

NOW = 1_700_000_000_000
BATCHES = (16, 64, 256)
WARM_UP = 512
STEP_BATCH = 64
ARRANGED = Arrangement(unsure=1.5, loss=1.0, new_bonus=1.0, new_share=0.05, diversity=0.2, calibration=0.2, fatigue=0.1)
"""Everything on that needs no rules file: the defaults of the settings."""
NAMES = ("top-k", "plain", "arranged", "plain, no marginals", "arranged, no marginals")


@dataclass(frozen=True)
class Record:
    """A record as the engine would deliver it."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()


class Bench:
    """A pipeline on a world, driven batch by batch as the engine would."""

    def __init__(self, synthetic: Synthetic, world: World, users: int, policy: PolicyConfig, arranged: bool) -> None:
        self._synthetic = synthetic
        self._users = users
        config = PipelineConfig(
            topics=Topics(),
            rules=EventRules(actions=("view",)),
            policy=policy,
            limits=StateLimits(events=world.model.config.history),
            cached_users=users,
            arrangement=ARRANGED if arranged else OFF,
        )
        self._pipeline = Pipeline(config, lambda: world, lambda: NOW)
        histories = synthetic.histories(users, config.limits.events, NOW)
        self._states = {f"user-{at}".encode(): encode_state(state) for at, state in enumerate(histories)}
        self._pipeline.assigned(0, self._states)
        self._offset = 0
        for start in range(0, users, WARM_UP):
            self._apply(np.arange(start, min(start + WARM_UP, users)))

    def stages(self, batch: int, events: int) -> dict[str, float]:
        """µs of CPU time per event by stage, over about `events` events in batches of `batch`."""
        random = np.random.default_rng(batch)
        self._pipeline.timings = timings = Timings(time.process_time)
        gc.collect()
        gc.freeze()  # as the worker does
        for _ in range(max(1, events // batch)):
            self._apply(distinct_zipf_users(self._users, batch, random))
        gc.unfreeze()
        return {stage: 1e6 * seconds / (timings.batches * batch) for stage, seconds in timings.seconds.items()}

    def _apply(self, users: Ints) -> None:
        records = list(self._records(users))
        effects = self._pipeline.apply(0, records, self._states)
        for key, value in effects.states.items():  # as the engine does after the commit
            if value is not None:
                self._states[key] = value

    def _records(self, users: Ints) -> Iterator[Record]:
        for user, item in zip(users.tolist(), self._synthetic.events(users, self._offset), strict=True):
            self._offset += 1
            time_ms = NOW + self._offset * MINUTE_MS // 1000
            event = encode(Interaction(f"user-{user}", item, time_ms))
            yield Record(self._offset, f"user-{user}".encode(), event, time_ms)


def step_alone(model: ServingModel, users: int, batches: int = 200) -> float:
    """Users per CPU second through the ring-cache step alone, each batch of other users."""
    random = np.random.default_rng(0)
    cache = model.new_cache(users)
    inputs = random.standard_normal((STEP_BATCH, model.dim), np.float32)
    weights, actions = np.ones(STEP_BATCH, np.float32), np.zeros(STEP_BATCH, np.uint8)
    rows = [random.choice(users, STEP_BATCH, replace=False) for _ in range(batches)]
    spent = 0.0
    for at, row in enumerate(rows):
        times = np.full(STEP_BATCH, NOW + at * MINUTE_MS)
        started = time.process_time()
        model.step(cache, row, inputs, times, actions, weights)
        spent += time.process_time() - started
    return batches * STEP_BATCH / spent


class Line(Struct, frozen=True):
    """One line of the table. Stages in µs of CPU time per event; `blend`: the release has counts."""

    items: int
    blend: bool
    marginals: bool
    batch: int
    stages: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.stages.values())


def lines_of(synthetic: Synthetic, release: Release, users: int, events: int) -> list[Line]:
    """Every batch size on one catalogue: a release of the model alone beside one with counts, with and without
    marginals. The two releases take turns, so that what else the machine does concerns both."""
    count = len(synthetic.items)
    known = Known({item.item: item for item in synthetic.items}, (count,))
    worlds = {False: release, True: synthetic.counted(release)}
    lines = []
    for marginals in (True, False):
        benches = {
            blend: Bench(
                synthetic, World(ServingModel(made), NOW, known), users, PolicyConfig(marginals=marginals), False
            )
            for blend, made in worlds.items()
        }
        for batch in BATCHES:
            stages = {blend: bench.stages(batch, events) for blend, bench in benches.items()}
            lines += [Line(count, blend, marginals, batch, found) for blend, found in stages.items()]
    return sorted(lines, key=lambda line: (line.blend, not line.marginals, line.batch))


def arranged_beside_plain(synthetic: Synthetic, release: Release, users: int, events: int) -> list[dict[str, float]]:
    """Stages of a plain top-k (no marginals, no arrangement, hardly any chance), of what is served without an
    arrangement, and with all of it, with marginals and without; batches of 64 that take turns, so that what else the
    machine does concerns all."""
    known = Known({item.item: item for item in synthetic.items}, (len(synthetic.items),))
    greedy = PolicyConfig(marginals=False, temperature=1e-3, epsilon=0.0, beta=0.0)
    drawn = PolicyConfig(), PolicyConfig(marginals=False)
    ways = ((greedy, False), (drawn[0], False), (drawn[0], True), (drawn[1], False), (drawn[1], True))
    world = World(ServingModel(synthetic.counted(release)), NOW, known)
    benches = [Bench(synthetic, world, users, policy, arranged) for policy, arranged in ways]
    parts = [[bench.stages(STEP_BATCH, events // 8) for bench in benches] for _ in range(8)]
    return [
        {stage: float(np.median([part[way][stage] for part in parts])) for stage in parts[0][way]}
        for way in range(len(ways))
    ]


def main(
    items: Annotated[list[int] | None, typer.Option(help="Sizes of the catalogue.")] = None,
    users: Annotated[int, typer.Option(help="Users with a history.")] = 5_000,
    events: Annotated[int, typer.Option(help="Events for each line of the table.")] = 8_192,
    arranged: Annotated[bool, typer.Option(help="Only what an arrangement costs beside a plain top-k.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here, too.")] = None,
) -> None:
    """Print µs of CPU time per event of each stage, and of the ring-cache step alone."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    lines: list[Line] = []
    per_second = 0.0
    for count in items or [10_000, 100_000]:
        with console.status(f"{count:,} items: training a release, then running"):
            synthetic = Synthetic.of(count)
            release = synthetic.release()
            if arranged:
                ways = arranged_beside_plain(synthetic, release, users, events)
                totals = [sum(way.values()) for way in ways]
                for name, way, total in zip(NAMES, ways, totals, strict=True):
                    stages = "  ".join(f"{stage} {spent:.1f}" for stage, spent in way.items())
                    console.print(
                        f"{count:,} items, {name}: {total:.1f} µs ({stages}), {totals[0] / total:.2f} of top-k"
                    )
                continue
            lines += lines_of(synthetic, release, users, events)
            per_second = step_alone(ServingModel(release), users)
    if arranged:
        return
    console.print(table(lines))
    console.print(f"ring-cache step alone, batch {STEP_BATCH}: {per_second:,.0f} users/s")
    if json_file is not None:
        figures = {"pipeline": lines, "step_users_per_s": per_second}
        json_file.write_text(msgspec.json.format(msgspec.json.encode(figures), indent=1).decode())


def table(lines: list[Line]) -> Table:
    """The lines, with their totals and what these come to."""
    made = Table(title="µs of CPU time per event, one core")
    stages = list(lines[0].stages)
    for column in ("items", "blend", "marg.", "batch", *stages, "total", "events/s"):
        made.add_column(column, justify="right", no_wrap=True)
    for line in lines:
        made.add_row(
            f"{line.items // 1000}k" if line.items >= 1000 else str(line.items),
            "on" if line.blend else "off",
            "on" if line.marginals else "off",
            str(line.batch),
            *(f"{line.stages[stage]:.1f}" for stage in stages),
            f"{line.total:.1f}",
            f"{1e6 / line.total:,.0f}",
        )
    return made


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":  # read when NumPy is loaded, and it is
        command = [sys.executable, "-m", "bench.hotpath", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"OMP_NUM_THREADS": "1"})
    typer.run(main)
