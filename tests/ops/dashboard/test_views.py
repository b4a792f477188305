"""What pages show, from what was remembered: no markup, no broker."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from ops.dashboard.seen import MOST_SHOWN, Seen
from ops.dashboard.views import Views
from ops.health.processes import Processes
from ops.metrics.definitions import DEFINITIONS
from streams.contracts import Outcome, encode
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
