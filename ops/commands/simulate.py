"""`driftline simulate`: let driftline and others loose on users who are made up, and see what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table


def simulate(
    runs: Annotated[
        Path,
        typer.Option(help="A line of JSON for each run; what is there already is not run again.", dir_okay=False),
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write means, intervals and curves to this file.", dir_okay=False)
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Write the curves of reward per slate to this SVG file.", dir_okay=False)
    ] = None,
    arms: Annotated[str | None, typer.Option(help="Which, by comma; by default all.", metavar="NAME,…")] = None,
    clicks: Annotated[str, typer.Option(help="How slates become clicks: position, cascade or trust.")] = "position",
    seeds: Annotated[int, typer.Option(help="How many worlds, each played by every arm.", min=1)] = 10,
    first_seed: Annotated[int, typer.Option(help="Of those; settings were tuned on seeds below 100.", min=0)] = 100,
    users: Annotated[int, typer.Option(help="In a world.", min=10)] = 200,
    items: Annotated[int, typer.Option(help="At first; a quarter as many come later.", min=20)] = 300,
    ticks: Annotated[int, typer.Option(help="Moments at which those who are there see a slate.", min=1)] = 160,
    seconds: Annotated[
        float, typer.Option(help="Begin no run after so long; the same command goes on.", min=0)
    ] = float("inf"),
) -> None:
    """Play recommenders against made-up users in a closed loop: what is shown decides what there is to learn from.

    driftline's arms run the worker's pipeline, the learner's estimators and the trainer, faster than real time and
    without Kafka. docs/simulation.md defines the world, the arms and every number.
    """
    from evaluation.simulation.arms import ARMS
    from evaluation.simulation.clicks import MODELS
    from evaluation.simulation.study import Study, play
    from evaluation.simulation.world import WorldConfig

    names = [name.strip() for name in (arms or ",".join(ARMS)).split(",") if name.strip()]
    choices: list[tuple[str, str, Iterable[str]]] = [("--arms", name, ARMS) for name in names]
    for option, value, allowed in [*choices, ("--clicks", clicks, MODELS)]:
        if value not in allowed:
            raise CliError(f"{option} has {value!r}", f"Choose from {', '.join(allowed)}.")
    for option, path in (("--runs", runs), ("--json", json_file), ("--chart", chart)):
        if path is not None and not path.absolute().parent.is_dir():
            raise CliError(f"{option} {path}: its folder does not exist", "Create it first.")
    import torch

    torch.set_num_threads(1)
    world = WorldConfig(users=users, items=items, new_items=items // 4, ticks=ticks)
    study = Study(clicks, range(first_seed, first_seed + seeds), names, world)
    found = play(study, runs, follow, seconds)
    if found is None:
        typer.echo(f"{seconds:g} seconds are over: the same command goes on from {runs}", err=True)
        raise typer.Exit(3)
    if json_file is not None:
        _write(json_file, found)
    if chart is not None:
        from evaluation.simulation.charts import lines

        curves = {arm: one["curve"]["reward"] for arm, one in found["arms"].items()}
        chart.write_text(lines(curves, f"Reward per slate, clicks: {clicks}", "ticks", ticks))
    show(found)


def follow(arm: str, seed: int, done: int, todo: int) -> None:
    """Say which run begins."""
    typer.echo(f"{done + 1}/{todo} {arm} {seed}", err=True)


def _write(path: Path, found: dict[str, Any]) -> None:
    import json

    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    aside.replace(path)


def show(found: dict[str, Any]) -> None:
    """Print a study."""
    from rich.console import Console

    out = Console()
    out.print(_table(found), width=max(out.width, 100), soft_wrap=True)


def _table(found: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    title = f"{len(found['seeds'])} worlds, clicks: {found['study']['clicks']}; means over worlds"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    columns = {
        "reward": "reward",
        "reward_of_oracle": "of the\noracle's",
        "mean_reward": "per slate",
        "late_ranker": "ranker,\nlast fifth",
        "gini": "Gini of\nexposure",
        "regret": "regret\nper slate",
    }
    table.add_column("arm", no_wrap=True)
    for column in columns.values():
        table.add_column(column, justify="right", no_wrap=True)
    for arm, one in found["arms"].items():
        table.add_row(arm, *(_cell(one.get(name)) for name in columns))
    return table


def _cell(value: dict[str, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value['mean']:,.0f}" if abs(value["mean"]) >= 100 else f"{value['mean']:.3f}"
