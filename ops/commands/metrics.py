"""`driftline metrics`: every metric and what it means, as the page in docs/."""

from __future__ import annotations

import typer

from ops.commands.options import AsJson, print_json


def metrics(as_json: AsJson = False) -> None:
    """Print what each metric on /metrics means, as Markdown."""
    from dataclasses import asdict

    from ops.metrics.definitions import SECTIONS
    from ops.metrics.page import page

    if as_json:
        print_json([asdict(one) | {"name": one.full_name} for metrics in SECTIONS.values() for one in metrics])
    else:
        typer.echo(page(), nl=False)
