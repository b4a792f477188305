"""`driftline train`: makes a release from the items and what users did with them, and publishes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from models.batches import InteractionLog
    from models.online import OnlineTrainer
    from models.online_config import OnlineConfig
    from models.release import Release
    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.contracts import ItemVector
    from streams.training import History
    from streams.validation import EventRules

LEAST_EVENTS = 100
"""With fewer interactions there is nothing to learn from, and popularity would be as good."""


def train(
    events: Annotated[
        Path | None,
        typer.Option(
            help="Learn from this file instead of the topic: .csv, .jsonl (either .gz too) or .parquet; "
            "columns as in `driftline events send`.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only events before this time: 2026-01-31, 2026-01-31T12:00, in UTC, or in ms.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed and events, same release up to rounding.", min=0)] = 0,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Only save it; the workers stay with the one they have.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Train a release on the items' vectors and the interactions so far, and have the workers take it.

    A learner goes on from there, with what comes after. What comes after a file is what the topic does not hold yet.
    """
    import asyncio
    import time

    from ops.configuration import training_recipe
    from ops.connection import connect, require_topics
    from ops.kafka import reachable
    from ops.settings import load

    before = None if until is None else _millis(until)
    settings = load()
    config = training_recipe(settings)
    cluster = connect(settings)
    require_topics(cluster, settings, "trainer")
    with reachable(cluster):
        items = asyncio.run(_items(settings, cluster))
        history, bad = _history(settings, cluster, items, events, before)
        log = history.log()
        _require_events(log, bad)
        _warn_of_unknown_items(log)
        started = time.monotonic()
        trainer, loss = _train(settings, config, items, log, seed)
        release = trainer.release({"events": len(log), "users": len(set(log.users.tolist())), "loss": loss})
        seconds = time.monotonic() - started
        path = release.save(settings.releases_dir)
        if not no_publish:
            ends = history.ends if events is None else asyncio.run(_ends(settings, cluster))
            asyncio.run(_publish(settings, cluster, trainer, release, ends))
    _say(release, path, seconds, bad, not no_publish, as_json)


def _millis(text: str) -> int:
    import datetime as dt

    if text.isdecimal():
        return int(text)
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CliError(f"--until is {text!r}", "Expected a time like 2026-01-31T12:00, or milliseconds.") from None
    return round((time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp() * 1000)


async def _items(settings: Settings, cluster: Cluster) -> list[ItemVector]:
    """The catalogue; raises CliError when it is empty or was encoded by several encoders."""
    from collections import Counter

    from streams.names import Topics
    from streams.training import read_items

    topics = Topics(settings.topic_prefix)
    try:
        items = await read_items(cluster, topics.item_vectors)
    except ValueError as error:
        raise CliError(str(error), "Send the item again: `driftline embed` writes its vector anew.") from error
    if not items:
        raise CliError(
            f"topic {topics.item_vectors} holds no items",
            "Send some with `driftline items send FILE`, and have `driftline embed` running.",
        )
    encoders = Counter(item.encoder for item in items)
    if len(encoders) > 1:
        found = ", ".join(f"{encoder} ({count:,} items)" for encoder, count in encoders.most_common())
        raise CliError(
            f"the item vectors were made by {len(encoders)} encoders: {found}",
            "Have only one `driftline embed` running, and send the items of the others again.",
        )
    return items


def _history(
    settings: Settings, cluster: Cluster, items: list[ItemVector], file: Path | None, until: int | None
) -> tuple[History, int]:
    """What users did, and how many records were bad."""
    import asyncio

    from rich.console import Console

    from ops.configuration import event_rules
    from streams.names import Topics
    from streams.training import History, read_history

    rules = event_rules(settings)  # what the workers accept
    history = History([item.item for item in items], rules.actions, until)
    topic = Topics(settings.topic_prefix).events
    with Console(stderr=True).status(f"reading {file or topic}"):
        if file is None:
            bad = asyncio.run(read_history(cluster, topic, history, rules))
        else:
            bad = _read_file(file, history, rules)
    return history, bad


def _read_file(file: Path, history: History, rules: EventRules) -> int:
    """Add a file's rows to the history; return how many were bad. Raises CliError when the file is of no use."""
    import time

    from ops.ingest import WrongUnit, event_record
    from ops.rows import Rows
    from streams.validation import BadMessage, decode_event

    convert, now, bad = event_record(rules), time.time_ns() // 1_000_000, 0
    for row in Rows(file):
        try:
            if row.problem:
                raise BadMessage("malformed", row.problem)
            history.add(decode_event(*convert(row.fields), now, rules))
        except WrongUnit as problem:
            raise CliError(
                f"{file}, row {row.number}: {problem}",
                "A column `time` is in milliseconds since the epoch, a column `timestamp` in seconds.",
            ) from problem
        except BadMessage as problem:
            bad += 1
            if bad == 1:
                typer.echo(f"row {row.number}: {problem}; other bad rows are only counted", err=True)
    return bad


def _require_events(log: InteractionLog, bad: int) -> None:
    known = int((log.items >= 0).sum())
    if known < LEAST_EVENTS:
        raise CliError(
            f"there are {known:,} interactions with known items "
            f"({len(log) - known:,} with unknown ones, {bad:,} bad records); training needs {LEAST_EVENTS}",
            "Send more events, or name a file with --events.",
        )


def _warn_of_unknown_items(log: InteractionLog) -> None:
    """A release that was trained on half the catalogue would look like any other."""
    if unknown := int((log.items < 0).sum()):
        typer.echo(
            f"warning: {unknown:,} of {len(log):,} interactions are with items that have no vector and teach nothing: "
            "they were not sent, or `driftline embed` is not through: it logs `caught up` when it is. Train again then",
            err=True,
        )


def _train(
    settings: Settings, config: OnlineConfig, items: list[ItemVector], log: InteractionLog, seed: int
) -> tuple[OnlineTrainer, float]:
    """A trainer after its warm-up, and the loss of the last epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from models.online import OnlineTrainer
    from streams.world import features_of

    losses: list[float] = []
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=None, loss="")

        def show(epoch: int, epochs: int, loss: float) -> None:
            bar.update(task, completed=epoch, total=epochs, loss=f"loss {loss:.3f}")
            losses.append(loss)

        ids, encoder, device = [item.item for item in items], items[0].encoder, settings.learner_device
        trainer = OnlineTrainer(
            log, ids, features_of(items), config, seed=seed, text_encoder=encoder, progress=show, device=device
        )
    return trainer, losses[-1]


async def _ends(settings: Settings, cluster: Cluster) -> dict[int, int]:
    """Where the topic of events ends now."""
    from streams.names import Topics
    from streams.spans import ends_of

    return await ends_of(cluster, Topics(settings.topic_prefix).events)


async def _publish(
    settings: Settings, cluster: Cluster, trainer: OnlineTrainer, release: Release, ends: dict[int, int]
) -> None:
    """Publish the release and a checkpoint to go on from; a learner that trains is fenced, and goes on from there."""
    from models.continual import Continual
    from ops.configuration import release_judge, trainer_config
    from streams.trainer import publish_first

    learning = Continual(trainer, release, release_judge(settings))
    await publish_first(trainer_config(settings, cluster), learning, ends)


def _say(release: Release, path: Path, seconds: float, bad: int, published: bool, as_json: bool) -> None:
    import json

    facts = release.facts | {"items": len(release.item_ids), "bad": bad}
    if as_json:
        found = {
            "release": release.id,
            "seconds": round(seconds, 3),
            **facts,
            "path": str(path),
            "published": published,
        }
        typer.echo(json.dumps(found))
        return
    typer.echo(f"release {release.id}: {facts['events']:,} events, {facts['users']:,} users, {facts['items']:,} items")
    typer.echo(f"trained in {seconds:.1f} s, loss {facts['loss']:.3f}; saved in {path}")
    if bad:
        typer.echo(f"{bad:,} bad records were left out")
    typer.echo("published: the workers take it up" if published else "not published")
