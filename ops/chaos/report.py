"""What a chaos run found: as JSON, as lines for the terminal, and many of them as one Markdown table.

Knows nothing of how anything was found.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.errors import CliError

MUST_BE_ZERO = (
    "lost",
    "duplicate_slates",
    "duplicate_outcomes",
    "missing_outcomes",
    "invented_outcomes",
    "out_of_order",
    "invented",
    "wrong_decisions",
    "wrong_slates",
    "wrong_dead_letters",
    "wrong_estimator",
    "wrong_states",
)
"""The figures that say whether all is well."""

FAULTS = (
    "kills",
    "zombies",
    "broker_restarts",
    "rebalances",
    "partitions_cut",
    "terminations",
    "learner_kills",
    "releases_published",
)

_SUMMED = (*FAULTS, "events", "slates", *MUST_BE_ZERO, "near_ties", "dead_letters_expected", "dead_letters")
_SHOWN_FINDINGS = 5

Report = Mapping[str, Any]


def versions() -> dict[str, str]:
    """Of driftline, Kafka and Python."""
    from importlib.metadata import PackageNotFoundError, version

    from ops.kafka import KAFKA_VERSION

    try:
        own = version("driftline")
    except PackageNotFoundError:
        own = "not installed"
    return {"driftline": own, "kafka": KAFKA_VERSION, "python": platform.python_version(), "cores": str(os.cpu_count())}


def well(report: Report) -> bool:
    """Whether nothing is wrong."""
    return not any(report[name] for name in MUST_BE_ZERO)


def lines(report: Report) -> list[str]:
    """A readable summary; the first findings of each kind, where there are any."""
    done = ", ".join(f"{report[name]} {name.replace('_', ' ')}" for name in FAULTS)
    recovery, alone = report["recovery_seconds"], report["recovery_seconds_alone"]
    said = [
        f"done:      {done}",
        f"account:   {report['events']:,} events, {report['slates']:,} slates, {report['coalesced']:,} coalesced, "
        f"{report['erased']:,} erased, {report['dead_letters']} of {report['dead_letters_expected']} dead letters, "
        f"{report['outcomes']:,} outcomes, {report['states']:,} states, {report['near_ties']} near ties",
        "wrong:     " + ", ".join(f"{report[name]} {name.replace('_', ' ')}" for name in MUST_BE_ZERO),
        f"recovery:  p50 {_seconds(recovery['p50'])}, p90 {_seconds(recovery['p90'])}, max {_seconds(recovery['max'])} "
        f"over {report['recoveries']} kills" + _without_figure(report["kills"] - report["recoveries"]),
        f"           of {len(report['recoveries_alone_s'])} that no other fault fell into "
        f"p50 {_seconds(alone['p50'])}, max {_seconds(alone['max'])}, " + _shares(report["recovery_shares"]),
        *_deaths(report["deaths"]),
    ]
    for name, found in report["findings"].items():
        said += [f"  {name}: {text}" for text in found[:_SHOWN_FINDINGS]]
        if len(found) > _SHOWN_FINDINGS:
            said.append(f"  {name}: … {len(found)} in all")
    return said


def _without_figure(kills: int) -> str:
    """Why some kills have no time of recovery: it is from a partition's last slate before to its first after."""
    why = "the worker owned no partition yet, or one that had no slate before or after"
    return f"; {kills} have no figure: {why}" if kills else ""


def _deaths(deaths: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which processes ended although nobody had told them to, and what they said last."""
    if not deaths:
        return []
    said = [
        f"deaths:    {len(deaths)} processes ended by themselves and were replaced, as a supervisor would; expected of "
        "those that start while the broker is away, or wake up to find that others have taken over"
    ]
    for one in deaths[:_SHOWN_FINDINGS]:
        zombie = ", had been stopped and woken up" if one["zombie"] else ""
        said.append(f"  {one['name']}, status {one['status']}{zombie}: {_cut(one['last_words'])}")
    if len(deaths) > _SHOWN_FINDINGS:
        said.append(f"  … {len(deaths)} in all, in the report that --report writes")
    return said


def _cut(words: str, width: int = 200) -> str:
    line = " ".join(words.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"


def _shares(shares: Mapping[str, float]) -> str:
    if not shares:
        return "its parts are unknown"
    return "of which (median) " + ", ".join(f"{name.replace('_', ' ')} {value:.2f} s" for name, value in shares.items())


def write(path: Path, report: Report) -> None:
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Any]:
    """A report that `write` wrote. Raises CliError when it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read: {error}", "Name reports that --report wrote.") from error
    if not isinstance(found, dict) or "kills" not in found:
        raise CliError(f"{path} is no report of a chaos run", "Name reports that --report wrote.")
    return found


# Many reports as one table

_COLUMNS = {
    "job": "job",
    "seed": "seed",
    "kills": "SIGKILLs",
    "zombies": "zombies",
    "broker_restarts": "broker restarts",
    "rebalances": "added or removed",
    "partitions_cut": "connections hurt",
    "events": "events",
    "lost": "lost",
    "duplicate_slates": "doubled answers",
    "duplicate_outcomes": "doubled outcomes",
    "missing_outcomes": "missing outcomes",
    "out_of_order": "out of order",
    "wrong_states": "wrong states",
    "near_ties": "near ties",
    "recovery": "recovery p50 / max, s",
    "alone": "of a kill alone, s",
}


def table(reports: Sequence[Report]) -> str:
    """The reports as a Markdown table, a row each and one for the sum of each job with several."""
    rows = [_row(report) for report in reports]
    for job in dict.fromkeys(report["job"] for report in reports):
        mine = [report for report in reports if report["job"] == job]
        if len(mine) > 1:
            rows.append({name: f"**{text}**" if text else "" for name, text in _row(_total(mine)).items()})
    head = [f"| {' | '.join(_COLUMNS.values())} |", f"|{'---|' * len(_COLUMNS)}"]
    return "\n".join([*head, *(f"| {' | '.join(row[name] for name in _COLUMNS)} |" for row in rows)])


def _row(report: Report) -> dict[str, str]:
    shown = {name: _number(report.get(name)) for name in _COLUMNS}
    shown["job"] = str(report["job"])
    shown["seed"] = str(report["seed"])
    shown["recovery"] = _p50_max(report.get("recovery_seconds") or {})
    shown["alone"] = _p50_max(report.get("recovery_seconds_alone") or {})
    return shown


def _p50_max(recovery: Mapping[str, float | None]) -> str:
    return " / ".join("–" if (value := recovery.get(one)) is None else f"{value:.1f}" for one in ("p50", "max"))


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _total(reports: Sequence[Report]) -> dict[str, Any]:
    from statistics import median

    total: dict[str, Any] = {"job": reports[0]["job"], "seed": "all"}
    for name in _SUMMED:
        values = [report.get(name) for report in reports]
        total[name] = None if None in values else sum(value for value in values if value is not None)
    for figure, values_of in (("recovery_seconds", "recoveries_s"), ("recovery_seconds_alone", "recoveries_alone_s")):
        recovered = [one for report in reports for one in report.get(values_of, ())]
        total[figure] = {"p50": median(recovered), "max": max(recovered)} if recovered else {}
    return total
