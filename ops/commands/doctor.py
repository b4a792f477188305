"""`driftline doctor`: checks everything that must be right before anything runs, and says how to mend what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.commands.completing import roles
from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from ops.health.checking import Finding

_MARKS = {
    "ok": ("green", "ok     "),
    "warning": ("yellow", "warning"),
    "failed": ("red", "FAILED "),
    "skipped": ("bright_black", "skipped"),
}


def doctor(
    only: Annotated[
        list[str] | None,
        typer.Option("--role", help="Check what this part may do, by default a worker.", autocompletion=roles),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show details of what is in order too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, this machine, Kafka, topics, permissions and the release; say how to mend what is wrong.

    The exit status is 0 when nothing failed (warnings may be meant), 1 otherwise. No record is written.
    """
    from ops.health.checking import Patient
    from ops.health.doctor import examine, sound
    from streams.acls import ROLES

    chosen = tuple(role for role in ROLES if role in (only or ["worker"]))
    if unknown := set(only or ()) - set(ROLES):
        raise CliError(f"--role is {sorted(unknown)[0]!r}", f"Expected one of {', '.join(ROLES)}.")
    findings: dict[str, Finding] = {}
    for name, finding in examine(Patient(chosen)):
        findings[name] = finding
        if not as_json:
            _print(name, finding, verbose)
    healthy = sound(list(findings.values()))
    if as_json:
        told = {
            name: {"state": one.state, "said": one.said, "mend": one.mend, "details": list(one.details)}
            for name, one in findings.items()
        }
        print_json({"sound": healthy, "checks": told})
    raise typer.Exit(0 if healthy else 1)


def _print(name: str, finding: Finding, verbose: bool) -> None:
    colour, mark = _MARKS[finding.state]
    typer.echo(f"{typer.style(mark, fg=colour)}  {name:<12}  {finding.said}")
    if finding.mend and (finding.state != "ok" or verbose):
        typer.echo(f"{'':23}{finding.mend}")
    if verbose or (finding.state != "ok" and len(finding.details) > 1):
        for detail in finding.details:
            typer.echo(f"{'':23}- {detail}")
