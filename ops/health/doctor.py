"""What is checked before anything runs, in order, and what each check found. A new check is one entry of `CHECKS`.

Knows which checks there are and what each needs first; knows nothing of how they look, or of how findings are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ops.errors import CliError
from ops.health import checks_kafka, checks_machine
from ops.health.checking import FAILED, SKIPPED, Finding, Patient


@dataclass(frozen=True, slots=True)
class Check:
    """One question to a deployment; asked when everything in `needs` was answered without failing."""

    name: str
    ask: Callable[[Patient], Finding]
    needs: tuple[str, ...] = ()


_SETTINGS = ("settings",)
_KAFKA = ("kafka",)

CHECKS: tuple[Check, ...] = (
    Check("settings", checks_machine.settings),
    Check("python", checks_machine.python),
    Check("java", checks_machine.java, _SETTINGS),
    Check("folders", checks_machine.folders, _SETTINGS),
    Check("open files", checks_machine.open_files, _SETTINGS),
    Check("encoder", checks_machine.encoder, _SETTINGS),
    Check("tracing", checks_machine.tracing, _SETTINGS),
    Check("schemas", checks_machine.schemas, _SETTINGS),
    Check("dashboard", checks_machine.dashboard, _SETTINGS),
    Check("kafka", checks_kafka.kafka, _SETTINGS),
    Check("version", checks_kafka.version, _KAFKA),
    Check("clock", checks_kafka.clock, _KAFKA),
    Check("permissions", checks_kafka.permissions, _KAFKA),
    Check("topics", checks_kafka.topics, _KAFKA),
    Check("retention", checks_kafka.retention, _KAFKA),
    Check("copies", checks_kafka.copies, _KAFKA),
    Check("transactions", checks_kafka.transactions, _KAFKA),
    Check("release", checks_kafka.release, _KAFKA),
)


def examine(patient: Patient, checks: tuple[Check, ...] = CHECKS) -> Iterator[tuple[str, Finding]]:
    """The findings, one after the other; a check that breaks is a finding too."""
    failed: set[str] = set()
    for check in checks:
        if missing := [name for name in check.needs if name in failed]:
            finding = Finding(SKIPPED, f"not asked: {missing[0]} comes first")
        else:
            finding = _asked(check, patient)
        if missing or finding.state == FAILED:
            failed.add(check.name)
        yield check.name, finding


def _asked(check: Check, patient: Patient) -> Finding:
    try:
        return check.ask(patient)
    except CliError as error:
        return Finding(FAILED, error.problem, error.next_step)
    except Exception as error:  # what one check does not expect must not hide what the others find
        return Finding(FAILED, f"the check itself failed: {type(error).__name__}: {error}", "Please report it.")


def sound(findings: list[Finding]) -> bool:
    """Whether nothing failed; warnings may be meant."""
    return all(finding.state != FAILED for finding in findings)
