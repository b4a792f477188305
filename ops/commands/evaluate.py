"""`driftline evaluate`: how good are recommendations on a stream, beside baselines, test-then-train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from ops.embeddings import StoredEncoder

_FILE: dict[str, Any] = {"exists": True, "dir_okay": False, "readable": True}


def evaluate(
    events: Annotated[
        Path,
        typer.Option(
            help=".csv, .jsonl (either .gz too) or .parquet with columns user, item, timestamp, and if there are any "
            "action, weight, title, text, categories, year. `timestamp`: seconds, or milliseconds (the largest is "
            "1e11 or more), or ISO 8601 (UTC unless it says otherwise); a column `time` is in milliseconds.",
            **_FILE,
        ),
    ],
    json_file: Annotated[Path, typer.Option("--json", help="Write all results to this file.", dir_okay=False)],
    items: Annotated[
        Path | None,
        typer.Option(
            help="The catalogue, which may be recommended from the start: columns item, title, text, categories "
            "(a|b), year. Without it items are known from their first event on.",
            **_FILE,
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Write the online arm's list for each test event, made before the event is seen: a JSON line "
            '{"event": row number from 0 in time order, "topk": [item, …]}.',
            dir_okay=False,
        ),
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="Which, by comma; by default all that the data allows; none: only what is added.", metavar="NAME,…"
        ),
    ] = None,
    lists: Annotated[
        Path | None,
        typer.Option(help="A folder to write the lists of every arm to, like the predictions.", file_okay=False),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            help="Score lists made elsewhere as one more arm, from a file like that of --predictions.",
            metavar="NAME=FILE",
        ),
    ] = None,
    warm_up: Annotated[
        float, typer.Option(help="Events before the test, all tuning within: a share, or a number of events.", min=0)
    ] = 0.2,
    seen: Annotated[
        str, typer.Option(help="filter: never recommend what the user has met; keep: repeats may be recommended.")
    ] = "filter",
    k: Annotated[int, typer.Option(help="Length of the lists, and of hit rate and NDCG.", min=1, max=100)] = 10,
    size: Annotated[int, typer.Option(help="Of the model: layers, and heads of width 32.", min=2, max=16)] = 2,
    members: Annotated[
        int,
        typer.Option(help="Models side by side, whose scores are averaged; each costs as much as one.", min=1, max=8),
    ] = 1,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="What is trained, counted and blended. histories: long, nothing taken twice. sessions: short visits, "
            "with repeats. By default histories with --seen filter, sessions with --seen keep."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="Passes over the log, when a model is trained from scratch; by default the recipe's.", min=1),
    ] = None,
    round_size: Annotated[
        int, typer.Option("--round", help="Events after which the online arm learns and its release changes.", min=1)
    ] = 256,
    retrain_every: Annotated[
        float, typer.Option(help="Share of all events after which arm retrain starts from scratch.", min=0.001, max=1)
    ] = 0.1,
    tune: Annotated[bool, typer.Option(help="Tune the baselines on the warm-up.")] = True,
    limit: Annotated[int | None, typer.Option(help="Only the first events, in order of time.", min=2)] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the numbers in the time column: s or ms.")] = None,
    seed: Annotated[int, typer.Option(help="Of training, of ISGD and of the bootstrap.", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="Of torch; more do not always make small models faster.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="Where models are trained, by torch's name: cpu, cuda.")] = "cpu",
    replicates: Annotated[int, typer.Option(help="Of the bootstrap over users.", min=10)] = 1000,
) -> None:
    """Play a stream event by event: every event is first predicted, then learned.

    The whole catalogue known so far is ranked, by the worker's own pipeline for the arms frozen, online and retrain.
    docs/evaluation.md defines the protocol, the arms to the formula, and every field of the JSON.
    """
    import torch
    from rich.console import Console

    from ops.evaluating import Evaluation, Options
    from ops.event_files import read_stream

    _check_choice("--seen", seen, ("filter", "keep"))
    _check_choice("--recipe", recipe, (None, "histories", "sessions"))
    _check_choice("--unit", unit, (None, "s", "ms"))
    for name, path in (("--json", json_file), ("--predictions", predictions)):
        if path is not None and not path.absolute().parent.is_dir():
            raise CliError(f"{name} {path}: its folder does not exist", "Create it first.")
    if lists is not None:
        lists.mkdir(parents=True, exist_ok=True)
    added = _added(add or [])
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    with _Screen(console) as screen:
        stream, told = read_stream(
            events,
            items,
            unit=unit,  # type: ignore[arg-type]
            limit=limit,
            progress=screen.begin(f"reading {events.name}"),
        )
        options = Options(
            arms=_arms(arms, predictions is not None, any(item is not None for item in told)),
            warm_up=warm_up,
            seen=seen,
            k=k,
            size=size,
            members=members,
            recipe=recipe,
            epochs=epochs,
            round_size=round_size,
            retrain_every=retrain_every,
            tune=tune,
            seed=seed,
            replicates=replicates,
            device=device,
            predictions=predictions,
            lists=lists,
            added=added,
        )
        found = Evaluation(stream, told, options, _encoder, screen).run()
    _write(json_file, found)
    out = Console()
    out.print(_table(found), width=max(out.width, 100), soft_wrap=True)


def _check_choice(option: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise CliError(f"{option} is {value!r}", f"Expected {' or '.join(one for one in allowed if one)}.")


def _arms(wanted: str | None, predictions: bool, text: bool) -> tuple[str, ...]:
    from evaluation.contenders import ARMS, CONTENT

    named = [name for name in ARMS if text or name != CONTENT]
    if wanted is not None:
        named = [name.strip() for name in wanted.split(",") if name.strip() not in ("", "none")]
    names = tuple(dict.fromkeys(named))
    unknown = [name for name in names if name not in ARMS]
    if unknown or not (names or wanted == "none"):
        raise CliError(f"--arms names {', '.join(unknown) or 'nothing'}", f"Choose from {', '.join(ARMS)}, or none.")
    if predictions and "online" not in names:
        raise CliError("--predictions writes the lists of arm online, which is not among the arms", "Add it to --arms.")
    return names


def _added(add: list[str]) -> tuple[tuple[str, Path], ...]:
    from evaluation.contenders import ARMS

    found: dict[str, Path] = {}
    for text in add:
        name, _, path = text.partition("=")
        if not name or not path or name in found or name in ARMS:
            raise CliError(f"--add is {text!r}", "Expected NAME=FILE with a name that no other arm has.")
        if not Path(path).is_file():
            raise CliError(f"--add {name}: there is no file {path}", "Expected lists as --predictions writes them.")
        found[name] = Path(path)
    return tuple(found.items())


def _encoder() -> StoredEncoder:
    from ops.commands.embed import text_encoder
    from ops.settings import load

    return text_encoder(load())


def _write(path: Path, found: dict[str, Any]) -> None:
    """Write at once or not at all."""
    import json

    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(found, indent=1) + "\n")
    aside.replace(path)


def _table(found: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    stream, k = found["stream"], found["settings"]["k"]
    table = Table(
        title=f"{stream['test_events']:,} test events after {stream['warm_up_events']:,}; "
        f"HR@{k} / NDCG@{k}, whole catalogue",
        title_justify="left",
        box=box.SIMPLE,
    )
    parts = {"all": "all", "untied": "Δt > 0", "first_event": "first event", "cold_item": "item < 5 events"}
    table.add_column("arm", no_wrap=True)
    for name, title in parts.items():
        table.add_column(f"{title}\n{found['slices'][name]['events']:,}", justify="right", no_wrap=True)
    table.add_column("CPU s", justify="right")
    for name, arm in found["arms"].items():
        cells = [_cell(arm["scores"][part]) for part in parts]
        table.add_row(name, *cells, f"{sum(arm['seconds'].values()):.0f}")
    return table


def _cell(score: dict[str, float | None]) -> str:
    if score["hit_rate"] is None or score["ndcg"] is None:
        return "–"
    return f"{score['hit_rate']:.3f} / {score['ndcg']:.3f}"


class _Screen:
    """Progress on the terminal, a line for each piece of work; where there is no terminal, lines now and then."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._told = 0.0

    def __enter__(self) -> _Screen:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def begin(self, what: str) -> Callable[[int, int], None]:
        """Start a line; what it returns moves it."""
        import time

        task = self._bars.add_task(what, total=None)

        def follow(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total or None)
            if not self._console.is_terminal and (time.monotonic() > self._told + 10 or done == total):
                self._told = time.monotonic()
                self._console.print(f"{what}: {done:,}" + (f" of {total:,}" if total else ""), highlight=False)

        return follow
