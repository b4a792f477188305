"""`driftline rules check`: whether a rules file can be followed, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.commands.options import AsJson, print_json
from ops.errors import CliError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `check` a command of its own although it is the only one."""


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(help="The rules, TOML; see docs/arrangement.md.", exists=True, dir_okay=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Check a file of business rules before workers are given it."""
    from policy.rules import RuleError
    from streams.rules_file import parsed

    try:
        rules = parsed(file.read_bytes())
    except RuleError as error:
        raise CliError(f"{file}: {error}", "Correct it; workers keep the last good rules meanwhile.") from error
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", "Name another file.") from error
    told = {
        "boost": len(rules.boosts),
        "bury": len(rules.buries),
        "pin": len(rules.pins),
        "filter": len(rules.filters),
        "cap": len(rules.caps),
        "fairness": int(rules.fairness is not None),
    }
    if as_json:
        print_json({"file": str(file), "good": True, "rules": told})
        return
    found = ", ".join(f"{count} {name}" for name, count in told.items() if count) or "no rules"
    typer.echo(f"{file} is good: {found}")
