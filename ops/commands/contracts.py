"""`driftline contracts export`: writes the messages' JSON Schemas and the page that explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.errors import CliError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `export` a command of its own although it is the only one."""


@app.command()
def export(
    folder: Annotated[
        Path, typer.Argument(help="Gets contracts.md and schemas/; created if missing.", file_okay=False)
    ],
) -> None:
    """Write the JSON Schemas of all messages, and a page with their fields and examples."""
    from ops.contracts_docs import SCHEMAS, documents

    wanted = {folder / path: text for path, text in documents().items()}
    try:
        (folder / SCHEMAS).mkdir(parents=True, exist_ok=True)
        for old in set((folder / SCHEMAS).glob("*.json")) - wanted.keys():
            old.unlink()  # a message that is no more
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = f"{error.filename or folder} cannot be written: {error.strerror}"
        raise CliError(problem, "Name another folder.") from error
    typer.echo(f"{len(wanted)} files written to {folder}")
