"""Files of deploy/ that follow from the code: Grafana's dashboard, the chart's topics and access rules, and its
copies of what Grafana and Prometheus get.

`python -m ops.deployment deploy` writes them; a test tells when they have drifted.

Knows nothing of Helm: these are plain JSON, and copies.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ops.grafana import dashboard
from streams.acls import ROLES, Acl, Role, acls
from streams.names import Topics
from streams.topics import SPECS

CHART_FILES = Path("helm/driftline/files")
RULES = Path("prometheus/driftline.rules.yaml")
DASHBOARD = Path("grafana/driftline.json")

_APP, _PREFIX = "<app>", "<prefix>"
_RUNNING = ("worker", "learner", "embedder", "trainer", "dashboard", "admin")


def documents(deploy: Path) -> dict[Path, str]:
    """Return the files' texts by their paths relative to `deploy`, the folder where the alert rules lie."""
    return {
        DASHBOARD: dashboard(),
        CHART_FILES / "topics.json": _pretty({"topics": topics()}),
        CHART_FILES / "acls.json": _pretty({"acls": rules()}),
        # A chart can hold only what lies in its own folder.
        CHART_FILES / DASHBOARD.name: dashboard(),
        CHART_FILES / RULES.name: (deploy / RULES).read_text(encoding="utf-8"),
    }


def topics() -> list[dict[str, Any]]:
    """Every topic without the prefix; `partitions` null: as many as `events` has."""
    return [{"name": spec.name, "partitions": spec.partitions, "config": spec.config()} for spec in SPECS]


def rules() -> list[dict[str, Any]]:
    """What the processes that run all the time must be allowed to do, together, an entry a resource.

    Topics are without the prefix; other names hold `<app>` and `<prefix>` where app id and topic prefix go.
    """
    roles: Iterable[Role] = [role for role in ROLES if role in _RUNNING]
    found: dict[Acl, list[str]] = {}
    for role in roles:
        for acl in acls(role, Topics(_PREFIX), _APP):
            operations = found.setdefault(acl._replace(operation="Read"), [])
            if acl.operation not in operations:
                operations.append(acl.operation)
    return [
        {
            "resource": acl.resource,
            "name": acl.name.removeprefix(_PREFIX) if acl.resource == "topic" else acl.name,
            "pattern": acl.pattern,
            "operations": sorted(operations),
        }
        for acl, operations in sorted(found.items())
    ]


def write(deploy: Path) -> list[Path]:
    """Write them all; return their paths."""
    written = []
    for path, text in documents(deploy).items():
        (deploy / path).parent.mkdir(parents=True, exist_ok=True)
        (deploy / path).write_text(text, encoding="utf-8")
        written.append(deploy / path)
    return written


def _pretty(content: Any) -> str:
    return json.dumps(content, indent=1) + "\n"


if __name__ == "__main__":
    for path in write(Path(sys.argv[1])):
        print(path)
