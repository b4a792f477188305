"""What pages show, from what was remembered: no markup, no broker."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from ops.dashboard.seen import MOST_SHOWN, Seen
from ops.dashboard.views import Views
from ops.health.processes import Process, Processes
from ops.metrics.definitions import DEFINITIONS
from streams.contracts import Outcome, encode
from streams.estimator_clicks import ClicksPart
from tests import small
from tests.ops.dashboard import hostile


def test_pages_ask_processes_only_for_what_processes_of_their_kind_say(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[tuple[str, str]] = set()

    def asking(method: str) -> None:
        plain = getattr(Processes, method)

        def ask(self: Processes, kind: str, name: str, *labels: str) -> object:
            asked.add((kind, name.removesuffix("_sum").removesuffix("_count")))
            return plain(self, kind, name, *labels)

        monkeypatch.setattr(Processes, method, ask)

    for method in ("total", "whole", "worst", "rate"):
        asking(method)
    processes = Processes(["w:1"])
    processes._remember()
    views = Views(Seen(), processes)
    for page in views.pages.values():
        page()
    assert len(asked) > 15
    wrong = {(kind, name) for kind, name in asked if name not in DEFINITIONS or kind not in DEFINITIONS[name].processes}
    assert not wrong


def outcome(item: str) -> bytes:
    assert isinstance(hostile.OUTCOME, Outcome)
    one = replace(hostile.OUTCOME, items=[item], rewards=[1.0], inclusion=[0.5], item_groups=[])
    return encode(one)


def test_the_items_shown_most_are_those_that_counting_all_finds_and_one_withdrawn_is_not_among_them() -> None:
    random, seen = np.random.default_rng(0), Seen()
    for number in random.zipf(1.5, 3000).tolist():
        seen.take("outcomes", hostile.record(outcome(f"i{number}")))
    counts = sorted((known.shown for known in seen.items.values()), reverse=True)
    assert sorted((known.shown for known in seen.most_shown.values()), reverse=True) == counts[:MOST_SHOWN]
    rates = Views(seen, Processes([])).pages["propensity"]()["rates"]
    assert [one["shown"] for one in rates] == counts[:MOST_SHOWN]
    seen.take("items", hostile.record(None, b"i1"))
    assert "i1" not in seen.most_shown and "i1" not in seen.items


def estimates() -> tuple[bytes, ClicksPart]:
    """A learner's snapshot: the second of three positions is looked at half as much."""
    random, part = np.random.default_rng(0), ClicksPart()
    for _ in range(400):
        clicks = random.random(3) < (0.8, 0.4, 0.8)
        part.examination.learn("", clicks, np.full(3, 0.8))
        part.outcomes += 1
    part.disagree = [1]
    return encode({"kind": "estimator", "created": small.START, "clicks": part.pack()}), part


def test_the_propensity_page_draws_how_positions_are_looked_at_and_corrects_clicks_by_it() -> None:
    seen = Seen(clock=lambda: small.START / 1000 + 90)
    snapshot, part = estimates()
    seen.take("models", hostile.record(snapshot, b"estimator"))
    for at in range(4):
        one = replace(
            hostile.OUTCOME, items=["a", "b", "c"], rewards=[1.0, at % 2, 1.0], inclusion=None, item_groups=[]
        )
        seen.take("outcomes", hostile.record(encode(one)))
    page = Views(seen, Processes([])).pages["propensity"]()
    eta = part.examination.predict()[:3]
    assert 0.3 < eta[1] < 0.7
    assert page["charts"]["examination"][1] == pytest.approx(eta.tolist())
    assert page["looked_at"]["age"] == pytest.approx(90) and page["looked_at"]["contradicted"] == [2]
    first, second, _ = page["positions"]
    assert (first["rate"], first["corrected"]) == ("100.0 %", "100.0 %")
    assert (second["rate"], second["learned"]) == ("50.0 %", f"{eta[1]:.3g}")
    assert second["corrected"] == f"{100 * 0.5 / eta[1]:.1f} %"
    assert second["exchanged"] is None  # nothing was exchanged: not known, not 1


@pytest.mark.parametrize("value", [b"", b"{", b'{"created": 1, "clicks": {}}', b'{"created": 1}', b"\xff"])
def test_estimates_that_cannot_be_read_are_said_to_be_missing(value: bytes) -> None:
    seen = Seen()
    seen.take("models", hostile.record(value, b"estimator"))
    page = Views(seen, Processes([])).pages["propensity"]()
    assert "says none" in page["looked_at"]["why"] and page["charts"]["examination"][1] == []


def test_the_user_page_says_how_fast_interest_moves_and_where_to() -> None:
    found = hostile.user()
    found.turns.clear()
    found.turns.extend([(2000, 12.0), (1000, None)])  # the newest first
    shown = Views(Seen(clock=lambda: small.START / 1000 + 60), Processes([])).user(found)
    assert (shown["turning"]["figure"].text, shown["turning"]["figure"].age) == ("4.0° a day", pytest.approx(60))
    assert shown["turning"]["topics"] == [{"name": hostile.ATTACKS["category"], "change": "+10.0 points a day"}]
    assert shown["charts"]["turning"] == [[1.0, 2.0], [None, 12.0]]
    found.decisions[0] = (small.START, replace(found.decisions[0][1], drift=None, drift_topics={}))
    figure = Views(Seen(), Processes([])).user(found)["turning"]["figure"]
    assert figure.text is None and "too few" in figure.why


def test_a_release_that_is_served_is_listed_though_the_topic_has_gone_on() -> None:
    processes = Processes(["w:1"])
    said = 'driftline_build_info{process="worker",version="1"} 1\ndriftline_age_seconds{of="release"} 90\n'
    processes.take(processes.known.setdefault("w:1", Process("w:1")), said, {"release": "r1", "ready": True})
    seen = Seen()
    models = Views(seen, processes).pages["models"]
    assert models()["releases"] == [{"release": "r1", "age": 90.0, "serving": True}]
    pointer = {"kind": "release", "release": "r2", "created": 1}
    seen.take("models", hostile.record(encode(pointer), b"release"))
    assert [(one["release"], one["serving"]) for one in models()["releases"]] == [("r2", False), ("r1", True)]
