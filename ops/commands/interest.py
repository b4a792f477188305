"""`driftline interest`: what a user will be interested in at a later time, and what he is turning away from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from models.release import Release
    from ops.settings import Settings
    from streams.cluster import Cluster
    from streams.contracts import ItemVector
    from streams.interest import Change, Interest
    from streams.names import Topics
    from streams.state import UserState


def interest(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    at: Annotated[
        str,
        typer.Option(help="When: a span after his last event, +1h, +7d, or a time, 2026-01-31T12:00 (UTC)."),
    ] = "+7d",
    top: Annotated[int, typer.Option(help="How many topics and items to name on either side.", min=1)] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Name the topics and items that gain and lose with a user by a later time, as the current release expects."""
    import asyncio

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    cluster = connect(settings)
    with reachable(cluster):
        found, release, titles = asyncio.run(_ask(settings, cluster, Topics(settings.topic_prefix), user, at))
    if as_json:
        _print_json(user, found, release, titles, top)
    else:
        _print(user, found, release, titles, top)


async def _ask(
    settings: Settings, cluster: Cluster, topics: Topics, user: str, at: str
) -> tuple[Interest, Release, dict[str, str]]:
    from models.serving import ServingModel
    from ops.moments import ahead
    from streams.interest import forecast
    from streams.world import Known, World

    state = await _state(cluster, topics, user)
    history = state.history()
    if not len(history):
        raise CliError(f"user {user} had no interaction yet", "Send one: `driftline events send FILE`.")
    when = ahead("--at", at, int(history["time"][-1]))
    release = await _release(settings, cluster, topics)
    items = await _items(cluster, topics)
    world = World(ServingModel(release), 0, Known(items, ()))
    if not len(world.catalogue.alive_slots()):
        raise CliError(
            f"no item of topic {topics.item_vectors} can be recommended by release {release.id}",
            "Have `driftline embed` running with the encoder that the release was trained with.",
        )
    found = forecast(world, items, state, when, filter_seen=settings.policy_filter_seen)
    return found, release, {item: vector.title for item, vector in items.items()}


async def _state(cluster: Cluster, topics: Topics, user: str) -> UserState:
    from ops.newest import newest
    from streams.state import UnknownStateVersion, decode_user

    record = (await newest(cluster, topics.state, [user.encode()])).get(user.encode())
    if record is None:
        raise CliError(
            f"nothing is known of user {user}", "A worker folds his events: send one, and have `driftline worker` run."
        )
    if record.value is None:
        raise CliError(f"user {user} was erased", "The next event of that id starts a new user.")
    try:
        return decode_user(record.value)
    except UnknownStateVersion as error:
        raise CliError(str(error), "Ask with the driftline that the workers run.") from error


async def _release(settings: Settings, cluster: Cluster, topics: Topics) -> Release:
    from models.release import Release
    from streams.releases import read_models

    try:
        pointer = (await read_models(cluster, topics.models)).release
    except ValueError as error:
        raise CliError(str(error), "`driftline train` publishes a release anew.") from error
    if pointer is None:
        raise CliError("no release is published", "Make one: `driftline train`.")
    path = settings.releases_dir / pointer.release
    try:
        release = Release.load(path)
    except (OSError, ValueError) as error:
        raise CliError(
            f"release {pointer.release} cannot be loaded: {error}",
            "Set DRIFTLINE_RELEASES_DIR to where the releases are, or make one: `driftline train`.",
        ) from error
    if not any(name.startswith("horizon.") for name in release.arrays):
        raise CliError(
            f"release {release.id} cannot tell later times: it was made without a head for them",
            "Make one that can: `driftline train`.",
        )
    return release


async def _items(cluster: Cluster, topics: Topics) -> dict[str, ItemVector]:
    from streams.training import read_items

    try:
        return {item.item: item for item in await read_items(cluster, topics.item_vectors)}
    except ValueError as error:
        raise CliError(str(error), "Send the item again: `driftline embed` writes its vector anew.") from error


def _sides(changes: Any, top: int) -> tuple[list[Change], list[Change]]:
    """Those that gain, most first, and those that lose, most first."""
    gaining = [one for one in changes if one.later > one.now][:top]
    losing = [one for one in reversed(changes) if one.later < one.now][:top]
    return gaining, losing


def _print_json(user: str, found: Interest, release: Release, titles: dict[str, str], top: int) -> None:
    import json

    def listed(changes: Any, names: dict[str, str] | None = None) -> dict[str, Any]:
        gaining, losing = (
            [
                {"id": one.name, **({"title": names.get(one.name, "")} if names is not None else {})}
                | {"now": one.now, "later": one.later}
                for one in side
            ]
            for side in _sides(changes, top)
        )
        return {"gaining": gaining, "losing": losing}

    drift = None
    if found.drift is not None:
        by_topic = dict(zip(found.topic_names, found.drift.topics[0].tolist(), strict=True))
        drift = {"degrees_per_day": float(found.drift.degrees[0]), "topics_per_day": by_topic}
    typer.echo(
        json.dumps(
            {
                "user": user,
                "release": release.id,
                "last_event": found.since,
                "at": found.at,
                "topics": listed(found.topics),
                "items": listed(found.items, titles),
                "drift": drift,
            }
        )
    )


def _print(user: str, found: Interest, release: Release, titles: dict[str, str], top: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"user {escape(user)} at {_moment(found.at)} (UTC), from his last event at {_moment(found.since)}; "
        f"release {release.id}"
    )
    for what, changes, names in (("topic", found.topics, {}), ("item", found.items, titles)):
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("", what, "now", "then", "change"):
            table.add_column(name, justify="left" if name in ("", what) else "right")
        for side, listed in zip(("gaining", "losing"), _sides(changes, top), strict=True):
            for at, one in enumerate(listed):
                name = f"{one.name} {names[one.name]}" if names.get(one.name) else one.name
                numbers = (f"{one.now:.2%}", f"{one.later:.2%}", f"{one.later - one.now:+.2%}")
                table.add_row(side if at == 0 else "", escape(name), *numbers)
        console.print(table)
    console.print(_drift_line(found), style="dim", markup=False)


def _drift_line(found: Interest) -> str:
    if found.drift is None:
        return "drift: one event only"
    most = abs(found.drift.topics[0]).argsort()[::-1][:3].tolist()
    moved = ", ".join(f"{found.topic_names[at]} {found.drift.topics[0][at]:+.2f}" for at in most)
    line = f"drift up to the last event: {found.drift.degrees[0]:.0f}° a day"
    return f"{line}; by topic {moved}" if moved else line


def _moment(millis: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(millis / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")
