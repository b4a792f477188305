"""`driftline encoder tune`: a text encoder that has learned from a stream which items go together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from models.encoder_tuning import Tuned

_FILE: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `tune` a command of its own although it is the only one."""


@app.command()
def tune(
    events: Annotated[Path, typer.Option(help="What users did, a file as for `driftline evaluate`.", **_FILE)],
    out: Annotated[Path, typer.Option(help="The folder to write the encoder to; it must not be there yet.")],
    items: Annotated[
        Path | None, typer.Option(help="The catalogue with its texts, as for `driftline evaluate`.", **_FILE)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first events, in order of time: leave out those to test on.", min=2)
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the numbers in the time column: s or ms.")] = None,
    window: Annotated[int, typer.Option(help="Two items within so many events of a user are a pair.", min=1)] = 10,
    steps: Annotated[int, typer.Option(help="Training steps at most.", min=1)] = 1000,
    minutes: Annotated[float, typer.Option(help="Minutes of training at most.", min=0.01)] = 10.0,
    batch: Annotated[int, typer.Option(help="Pairs a step.", min=2)] = 256,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.", min=1e-8)] = 1e-3,
    held_out: Annotated[
        float, typer.Option(help="Share of the items that take no part, and say whether it helps.", min=0.01, max=0.9)
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Of the draws.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="Of torch.", min=1)] = 1,
) -> None:
    """Put a linear layer on the configured encoder that brings together what the same people take.

    Learned from pairs of items in users' histories, checked on items that take no part; nothing is written unless it
    helps them. Use what is written with DRIFTLINE_ENCODER_PATH; docs/language.md says how to change over.
    """
    import torch

    from models.encoder_files import with_layer
    from models.encoder_tuning import TuneConfig
    from ops.commands.embed import encoder_folder
    from ops.settings import load

    if out.exists():
        raise CliError(f"--out {out} is there already", "Name a folder that does not exist yet.")
    if unit not in (None, "s", "ms"):
        raise CliError(f"--unit is {unit!r}", "Expected s or ms.")
    torch.set_num_threads(threads)
    config = TuneConfig(
        steps=steps, minutes=minutes, batch=batch, learning_rate=learning_rate, held_out=held_out, seed=seed
    )
    source, fingerprint = encoder_folder(load())
    made = _tuned(events, items, limit, unit, window, config)
    said = f"{made.before:.3f} → {made.after:.3f} of {made.checked:,} pairs with items that took no part"
    if not made.steps:
        raise CliError(
            f"no step found more partners of held-out items than the encoder as it is: {made.before:.3f}",
            "Keep it, or give more events. Nothing was written.",
        )
    facts = {"encoder": fingerprint, "events": events.name, "window": window, "pairs": made.pairs, "steps": made.steps}
    try:
        written = with_layer(source, made.weight, out, facts | {"before": made.before, "after": made.after})
    except OSError as error:
        raise CliError(f"--out {out} cannot be written: {error.strerror or error}", "Name another folder.") from error
    typer.echo(f"found among the ten nearest: {said} (step {made.steps} of {steps})")
    typer.echo(f"{out}: encoder {written.fingerprint()}; use it with DRIFTLINE_ENCODER_PATH={out}")


def _tuned(events: Path, items: Path | None, limit: int | None, unit: str | None, window: int, config: Any) -> Tuned:
    """Read, encode, learn."""
    import numpy as np
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from models.encoder_tuning import pairs_of
    from models.encoder_tuning import tune as learn
    from ops.commands.embed import text_encoder
    from ops.event_files import read_stream
    from ops.settings import load
    from streams.contracts import item_text

    stream, told = read_stream(events, items, unit=unit, limit=limit)  # type: ignore[arg-type]
    texts = {row: item_text(item) for row, item in enumerate(told) if item is not None}
    if not texts:
        raise CliError("there is no text to encode", "Give --items, or columns title and text in the events.")
    place = np.full(len(told), -1, np.int64)
    place[list(texts)] = np.arange(len(texts))
    pairs = pairs_of(stream.users, place[stream.items], window)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as screen:
        encoding = screen.add_task("texts", total=len(texts))
        encoder, given, vectors = text_encoder(load()), list(texts.values()), []
        for begin in range(0, len(given), 256):
            vectors.append(encoder.encode(given[begin : begin + 256]))
            screen.update(encoding, completed=min(begin + 256, len(given)))
        learning = screen.add_task("steps", total=config.steps)

        def follow(step: int, many: int, found: float) -> None:
            screen.update(learning, completed=step, description=f"steps, {found:.3f} found")

        try:
            return learn(np.concatenate(vectors), pairs, config, follow)
        except ValueError as error:
            raise CliError(str(error), "Give more events, or a smaller --batch.") from error
