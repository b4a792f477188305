"""Options that many commands have, so that they read and behave alike."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def print_json(value: Any) -> None:
    """Write a value for programs to standard output: in ASCII, since what letters hold may do harm to a terminal."""
    typer.echo(json.dumps(value, indent=2, default=str))
