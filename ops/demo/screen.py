"""What the demo shows: the stages of its start, then the live figures and a user's story; or plain lines.

On a terminal a screen that is drawn anew four times a second; elsewhere a line when something changes, at most one
every five seconds. Knows nothing of where the figures come from.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from evaluation.scoreboard import RANKERS, Score
from ops.demo.story import Change, Story
from ops.demo.traffic import TrafficStatus

RANKER_NAMES = {
    "driftline": "driftline, as published",
    "greedy": "driftline, greedy order",
    "recent_popularity": "recent popularity",
    "last_item": "last-item transitions",
    "co_occurrence": "windowed co-occurrence",
}
_PLAIN_EVERY_S = 5.0
_CHANGES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """The live figures. `to_send`: how many live events there are in all; `lag`: events not committed yet."""

    traffic: TrafficStatus
    to_send: int
    lag: int
    recent: Score
    overall: Score
    unscored: int
    calibration: float | None
    dead_letters: int
    story: Story | None


@dataclass(slots=True)
class Stage:
    name: str
    started: float
    says: str = ""
    seconds: float | None = None  # when done

    def say(self, message: str) -> None:
        self.says = message


@dataclass(slots=True)
class Progress:
    """What there is to show; written by the demo, drawn by a screen. `begun`: seconds since the epoch."""

    begun: float
    stages: list[Stage] = field(default_factory=list)
    figures: Figures | None = None

    def begin(self, name: str, says: str = "") -> Stage:
        """Add a stage; it runs until `end`."""
        stage = Stage(name, time.monotonic(), says)
        self.stages.append(stage)
        return stage

    def end(self, stage: Stage, says: str) -> None:
        stage.says, stage.seconds = says, time.monotonic() - stage.started


class LiveScreen:
    """Draws the progress on a terminal while it is open (a context manager)."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._progress = progress
        self._live = Live(self, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> None:
        self._live.start(refresh=True)

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        elapsed = time.time() - self._progress.begun
        head = Text(f"driftline demo   {elapsed // 60:.0f}:{elapsed % 60:02.0f}", style="bold")
        figures = self._progress.figures
        yield Group(head, stages_table(self._progress.stages) if figures is None else figures_panel(figures))

    def tick(self) -> None:
        """Nothing to do: the screen draws itself."""


class PlainLines:
    """Prints the progress as lines, for logs."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._said: dict[str, str] = {}
        self._last = 0.0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.tick(final=True)

    def tick(self, *, final: bool = False) -> None:
        """Print what is new, if it is time to."""
        due = final or time.monotonic() > self._last + _PLAIN_EVERY_S
        lines = list(self._lines(due))
        for line in lines:
            elapsed = time.time() - self._progress.begun
            self._console.print(f"[{elapsed:5.1f} s] {line}", markup=False, highlight=False, soft_wrap=True)
        if due and lines:
            self._last = time.monotonic()

    def _lines(self, due: bool) -> Iterator[str]:
        for stage in self._progress.stages:
            done = stage.seconds is not None
            says = f"{stage.name}: {stage.says}" + (f" ({stage.seconds:.1f} s)" if done else "")
            new = self._said.get(stage.name) != says
            if new and (due or done or stage.name not in self._said):
                self._said[stage.name] = says
                yield says
        if due and self._progress.figures is not None:
            yield figures_line(self._progress.figures)


def stages_table(stages: list[Stage]) -> Table:
    """One line a stage."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    for stage in stages:
        if stage.seconds is None:
            table.add_row("…", f"[bold]{stage.name}[/]", f"{time.monotonic() - stage.started:.0f} s", Text(stage.says))
        else:
            table.add_row("[green]✓[/]", stage.name, f"{stage.seconds:.1f} s", Text(stage.says, style="dim"))
    return table


def figures_panel(figures: Figures) -> Group:
    """The live screen below its head."""
    beside = Table.grid(padding=(0, 2))
    beside.add_row(traffic_table(figures), score_table(figures.recent, figures.overall))
    unscored = Text(f"not scored, for want of a slate of the event before: {figures.unscored:,}", style="dim")
    parts: list[RenderableType] = [beside, unscored]
    if figures.story is not None:
        parts.append(story_panel(figures.story))
    return Group(*parts)


def traffic_table(figures: Figures) -> Table:
    """Counts, speed, latency."""
    traffic = figures.traffic
    table = Table(box=box.SIMPLE, show_header=False)
    latency = f"{traffic.recent.p50:.1f} / {traffic.recent.p99:.1f} ms" if traffic.recent else "–"
    calibration = "–" if figures.calibration is None else f"{figures.calibration:.4f}"
    for name, value in (
        ("events sent", f"{traffic.sent:,} of {figures.to_send:,}"),
        ("answered", f"{traffic.answered:,}"),
        ("events/s", f"{traffic.events_per_s:.0f}"),
        ("event → slate, p50 / p99", latency),
        ("consumer lag", f"{figures.lag:,} events"),
        ("dead letters", f"{figures.dead_letters:,}"),
        ("estimator, calibration error", calibration),
    ):
        table.add_row(name, value)
    return table


def score_table(recent: Score, overall: Score) -> Table:
    """Hit rate and NDCG at 10 by ranker."""
    table = Table(box=box.SIMPLE, title_justify="left")
    table.add_column("HR@10 (NDCG@10)")
    table.add_column(f"last {recent.events:,}", justify="right")
    table.add_column(f"all {overall.events:,}", justify="right")
    for ranker in RANKERS:
        cells = (f"{score.hit_rate[ranker]:.3f} ({score.ndcg[ranker]:.3f})" for score in (recent, overall))
        table.add_row(RANKER_NAMES[ranker], *cells, style="bold" if ranker == "driftline" else "")
    return table


def story_panel(story: Story) -> Panel:
    """What was done, what came and went, why."""
    where = f"number {story.place} of the slate" if story.place else "not in the slate"
    others = f", after {story.others} more" if story.others else ""
    table = Table(box=None, show_header=False, padding=(0, 1))
    for sign, changes in (("+", story.came), ("−", story.went)):
        for change in changes[:_CHANGES_SHOWN]:
            table.add_row(sign, Text(change.title), Text(_terms(change)), Text(change.why, style="italic"))
        if len(changes) > _CHANGES_SHOWN:
            table.add_row(sign, Text(f"and {len(changes) - _CHANGES_SHOWN} more", style="dim"))
    head = Text(f"User {story.user} rated {story.title} ({where}){others}")
    return Panel(Group(head, table), title="one user's story")


def figures_line(figures: Figures) -> str:
    """The live figures in one line."""
    traffic = figures.traffic
    latency = f"{traffic.recent.p50:.1f}/{traffic.recent.p99:.1f} ms" if traffic.recent else "–"
    rates = ", ".join(f"{ranker} {figures.recent.hit_rate[ranker]:.3f}" for ranker in RANKERS)
    return (
        f"{traffic.answered:,} of {figures.to_send:,} answered, {traffic.events_per_s:.0f}/s, p50/p99 {latency}, "
        f"lag {figures.lag}, HR@10 of the last {figures.recent.events:,}: {rates}"
    )


def _terms(change: Change) -> str:
    """The score's terms before and after; – where the item was no candidate."""
    pairs = {
        name: [form.format(getattr(terms, name)) if terms else "–" for terms in (change.before, change.after)]
        for name, form in (
            ("taste", "{:+.2f}"),
            ("company", "{:+.2f}"),
            ("correction", "{:+.2f}"),
            ("arranged", "{:+.2f}"),
            ("rank", "{}"),
        )
    }
    return ", ".join(f"{name} {before}→{after}" for name, (before, after) in pairs.items())
