"""What is shown: stages, figures and story, on a terminal and as plain lines."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from evaluation.scoreboard import RANKERS, Score
from ops.demo import screen
from ops.demo.screen import Figures, LiveScreen, PlainLines, Progress
from ops.demo.story import Change, Story, Terms
from ops.demo.traffic import Latency, TrafficStatus

SCORE = Score(1000, dict.fromkeys(RANKERS, 0.125), dict.fromkeys(RANKERS, 0.0625))
OLD = [Change(f"Old {n}", None, Terms(0.5, 0.25, n, False), None, "just seen") for n in range(5)]
STORY = Story(
    "405",
    "Fargo (1996)",
    4,
    3,
    False,
    [Change("Heat (1995)", 2, None, Terms(1.25, -0.5, 4, False, 0.25), "new among the candidates")],
    OLD,
)
FIGURES = Figures(
    TrafficStatus(sent=1200, answered=1190, events_per_s=199.5, recent=Latency(5.25, 12.5)),
    to_send=5000,
    lag=7,
    recent=SCORE,
    overall=SCORE,
    unscored=321,
    calibration=0.0123,
    dead_letters=2,
    story=STORY,
)


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=140, height=60, force_terminal=terminal, color_system=None)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_screen_shows_stages_then_figures() -> None:
    shown, progress = console(terminal=True), Progress(time.time() - 65)
    stage = progress.begin("Kafka", "waiting for an answer")
    live = LiveScreen(shown, progress)
    shown.print(live)
    assert "1:05" in said(shown) and "waiting for an answer" in said(shown)
    progress.end(stage, "at 127.0.0.1:9092")
    progress.figures = FIGURES
    shown.print(live)
    for words in ("1,200 of 5,000", "5.2 / 12.5 ms", "7 events", "0.0123", "0.125 (0.062)", "321"):
        assert words in said(shown), words
    head = "User 405 rated Fargo (1996) (number 3 of the slate), after 4 more"
    for words in (head, "taste –→+1.00", "company –→+0.25", "rank –→4", "and 2 more"):
        assert words in said(shown), words


def test_plain_lines_say_each_thing_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_PLAIN_EVERY_S", 3600.0)
    shown, progress = console(terminal=False), Progress(time.time())
    lines = PlainLines(shown, progress)
    stage = progress.begin("Kafka", "waiting")
    lines.tick()
    lines.tick()
    stage.say("still waiting")  # too soon for another line
    lines.tick()
    progress.end(stage, "at 127.0.0.1:9092")
    lines.tick()
    lines.tick()
    told = [line.split("] ", 1)[1] for line in said(shown).splitlines()]
    assert [line.split(" (")[0] for line in told] == ["Kafka: waiting", "Kafka: at 127.0.0.1:9092"]


def test_plain_lines_tell_the_figures_now_and_then() -> None:
    shown, progress = console(terminal=False), Progress(time.time())
    progress.figures = FIGURES
    with (lines := PlainLines(shown, progress)):
        lines.tick()
    assert "1,190 of 5,000 answered, 200/s, p50/p99 5.2/12.5 ms, lag 7" in said(shown)
    assert "co_occurrence 0.125" in said(shown)


def test_before_the_first_answer_there_are_dashes() -> None:
    shown, progress = console(terminal=True), Progress(time.time())
    empty = Score(0, dict.fromkeys(RANKERS, 0.0), dict.fromkeys(RANKERS, 0.0))
    progress.figures = Figures(TrafficStatus(sent=1), 10, 0, empty, empty, 0, None, 0, None)
    shown.print(LiveScreen(shown, progress))
    assert "–" in said(shown)
