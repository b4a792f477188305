"""`driftline metrics`: every metric and what it means, as the page in docs/."""

from __future__ import annotations

import typer


def metrics() -> None:
    """Print what each metric on /metrics means, as Markdown."""
    from ops.metrics.page import page

    typer.echo(page(), nl=False)
