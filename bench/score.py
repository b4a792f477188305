"""Scores files of predictions for the events of a file, all alike, and compares them: a paired bootstrap by user.

    python -m bench.score --events ml100k.csv --json found.json online=p.jsonl sasrec=run/sasrec/predictions.jsonl

A file has a line for each test event in order, `{"event": row number in time order, "topk": [item, …]}`, as `driftline
evaluate --predictions` writes them. Of files of different lengths, as a run still going on leaves them, the events that
all of them have are scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.predictions import read_predictions
from evaluation.prequential import Clock, Played, ranks_of
from evaluation.prequential_report import report
from evaluation.stream import EventStream
from ops.errors import CliError
from ops.event_files import read_stream

PARTS = {"all": "all", "untied": "Δt > 0", "first_event": "first event", "cold_item": "item < 5 events"}


def main(
    files: Annotated[
        list[str], typer.Argument(metavar="NAME=FILE…", help="Predictions; the first is the one compared.")
    ],
    events: Annotated[Path, typer.Option(help="As for `driftline evaluate`.", exists=True, dir_okay=False)],
    items: Annotated[Path | None, typer.Option(help="The catalogue, if the predictions were made with one.")] = None,
    warm_up: Annotated[float, typer.Option(help="A share of the events, or their number.")] = 0.2,
    k: Annotated[int, typer.Option(help="Length of the lists.", min=1)] = 10,
    limit: Annotated[int | None, typer.Option(help="Only the first events, in order of time.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of the numbers in the time column: s or ms.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything found to this file.")] = None,
    replicates: Annotated[int, typer.Option(help="Of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Score predictions and compare them with each other."""
    try:
        stream, _ = read_stream(events, items, unit=unit, limit=limit)  # type: ignore[arg-type]
        found = score(stream, stream.cut(warm_up), _named(files), k=k, replicates=replicates, seed=seed)
    except (ValueError, OSError, CliError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    show(found, k)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


def score(
    stream: EventStream,
    cut: int,
    files: Mapping[str, Path],
    *,
    k: int,
    replicates: int = 1000,
    seed: int = 0,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The report of `driftline evaluate`, of the events that all files have; `facts`: what else is told of each.

    Raises:
        ValueError: a file that is not as it should be, or has no prediction.
    """
    lists = {name: read_predictions(path, stream, cut, k) for name, path in files.items()}
    scored = min(len(one) for one in lists.values())
    if scored == 0:
        raise ValueError("no event has predictions in every file")
    stream = stream.head(cut + scored)
    played = {
        name: Played(ranks_of(one[:scored], stream.items[cut:]), Clock(), (facts or {}).get(name, {}))
        for name, one in lists.items()
    }
    return report(stream, cut, played, replicates=replicates, seed=seed)


def _named(files: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for one in files:
        name, equals, path = one.partition("=")
        if not equals or not name or name in named:
            raise ValueError(f"{one!r} among the files, expected NAME=FILE with each name once")
        named[name] = Path(path)
    return named


def show(found: Mapping[str, Any], k: int) -> None:
    """Print a line for each file: scores, CPU seconds, and the first file's ratio to it with its interval."""
    names = list(found["arms"])
    table = Table(
        title=f"{found['stream']['test_events']:,} test events after {found['stream']['warm_up_events']:,}; "
        f"HR@{k} / NDCG@{k}, whole catalogue",
        title_justify="left",
        box=box.SIMPLE,
    )
    table.add_column("", no_wrap=True)
    for part, title in PARTS.items():
        table.add_column(f"{title}\n{found['slices'][part]['events']:,}", justify="right", no_wrap=True)
    table.add_column(f"NDCG of\n{names[0]} / this", justify="right", no_wrap=True)
    table.add_column("CPU s", justify="right")
    for name in names:
        arm = found["arms"][name]
        cells = [_cell(arm["scores"][part]) for part in PARTS]
        seconds = f"{sum(arm['seconds'].values()):,.0f}" if arm["seconds"] else "–"
        table.add_row(name, *cells, _ratio(found, names[0], name), seconds)
    Console(width=max(Console().width, 140)).print(table)


def _cell(scores: Mapping[str, float | None]) -> str:
    hit_rate, ndcg = scores["hit_rate"], scores["ndcg"]
    return "–" if hit_rate is None or ndcg is None else f"{hit_rate:.4f} / {ndcg:.4f}"


def _ratio(found: Mapping[str, Any], first: str, name: str) -> str:
    for one in found["bootstrap"]["differences"]:
        if (one["slice"], one["metric"], one["a"], one["b"]) == ("all", "ndcg", first, name) and one["ratio"]:
            return f"{one['ratio']:.3f} [{one['ratio_low']:.3f}, {one['ratio_high']:.3f}]"
    return "–"


if __name__ == "__main__":
    typer.run(main)
