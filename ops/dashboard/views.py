"""What each page shows, by its name, as plain values: nothing here is markup, and what is not known is no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops.dashboard.facts import Facts
from ops.dashboard.seen import Seen
from ops.dashboard.view_overview import Overview
from ops.dashboard.view_propensity import Propensity
from ops.dashboard.view_quality import Quality
from ops.dashboard.view_user import UserView
from ops.health.processes import Processes


class Views:
    """All pages. `pages`: those that need no id."""

    def __init__(self, seen: Seen, processes: Processes) -> None:
        facts = Facts(seen, processes)
        quality = Quality(facts)
        users = UserView(facts)
        self.user, self.item = users.user, users.item
        self.pages: dict[str, Callable[[], dict[str, Any]]] = {
            "overview": Overview(facts).overview,
            "propensity": Propensity(facts).propensity,
            "fairness": quality.fairness,
            "index": quality.index,
            "models": quality.models,
            "events": quality.events,
        }
