"""`driftline settings`: every setting, its value, where the value came from, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ops.settings import Explained


def settings(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show every setting with its value, where that came from, and what it means."""
    from ops.settings import explain, load

    explained = explain(load())
    if as_json:
        _print_json(explained)
    else:
        _print_table(explained)


def _print_json(explained: list[Explained]) -> None:
    import json

    rows = {
        one.name: {
            "value": one.value if isinstance(one.value, bool | int | float | tuple) else _text(one.value),
            "origin": one.origin,
            "variable": one.variable,
            "unit": one.unit,
            "meaning": one.meaning,
        }
        for one in explained
    }
    typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def _print_table(explained: list[Explained]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=30)
    table.add_column("from")
    table.add_column("meaning")
    for one in explained:
        unit = f" [dim]({escape(one.unit)})[/]" if one.unit else ""
        style = "" if one.origin == "default" else "bold"
        table.add_row(one.name, escape(_text(one.value)), one.origin, escape(one.meaning) + unit, style=style)
    Console().print(table)
    Console().print("\nTo change one: DRIFTLINE_<SETTING> in the environment, or its name in driftline.toml.")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
