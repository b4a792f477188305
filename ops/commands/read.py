"""`driftline recommend` and `driftline watch`: a user's latest slate, and the slates of all as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from streams.cluster import Cluster
    from streams.contracts import Recommendation
    from streams.names import Topics

Json = Annotated[bool, typer.Option("--json", help="The messages as they are on the topic, one a line.")]
ShowTitles = Annotated[
    bool, typer.Option("--titles/--no-titles", help="Look items up; takes long when the catalogue is very large.")
]

_TOP = 3  # items of a slate that `watch` shows


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the next slate instead of showing the latest.")
    ] = False,
    as_json: Json = False,
    titles: ShowTitles = True,
) -> None:
    """Show what is recommended to a user: items, titles, and the probabilities they were drawn with."""
    _run(_recommend, user, wait, as_json, titles)


def watch(
    user: Annotated[str | None, typer.Option(help="Only this user's slates.")] = None,
    as_json: Json = False,
    titles: ShowTitles = True,
) -> None:
    """Show slates as they are published, until stopped."""
    _run(_watch, user, as_json, titles)


def _run(action: Any, *arguments: Any) -> None:
    import asyncio

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    cluster = connect(settings)
    with reachable(cluster):
        asyncio.run(action(cluster, Topics(settings.topic_prefix), *arguments))


async def _recommend(cluster: Cluster, topics: Topics, user: str, wait: bool, as_json: bool, show_titles: bool) -> None:
    find = _next_slate if wait else _latest_slate
    record = await find(cluster, topics, user)
    if as_json:
        typer.echo(record.value)
        return
    slate = _decoded(record)
    wanted = {*slate.items, *([slate.cause.item] if slate.cause.item else [])}
    names = await _titles(cluster, topics, wanted) if show_titles else {}
    _print_slate(slate, record.timestamp, names)


async def _latest_slate(cluster: Cluster, topics: Topics, user: str) -> Any:
    from ops.newest import newest

    record = (await newest(cluster, topics.recommendations, [user.encode()])).get(user.encode())
    if record is None:
        raise CliError(
            f"nothing is recommended to user {user} yet",
            "A worker answers each event of a user: send one, or wait for it with --wait.",
        )
    if record.value is None:
        raise CliError(f"user {user} was erased", "The next event of that id starts a new user.")
    return record


async def _next_slate(cluster: Cluster, topics: Topics, user: str) -> Any:
    slates = _slates(cluster, topics, user)
    record = await anext(slates)
    while record.value is None:
        record = await anext(slates)
    return record


async def _slates(
    cluster: Cluster, topics: Topics, user: str | None, titles: dict[str, str] | None = None
) -> AsyncIterator[Any]:
    """Yield records of new slates; learn `titles` on the way, when given."""
    from ops.newest import coming

    whole = None if titles is None else topics.item_vectors
    async for records in coming(cluster, topics.recommendations, whole):
        for record in records:
            if titles is not None and record.topic == whole:
                titles |= _title(record)
            elif user is None or record.key == user.encode():
                yield record


async def _titles(cluster: Cluster, topics: Topics, items: Collection[str]) -> dict[str, str]:
    from ops.newest import newest

    found = await newest(cluster, topics.item_vectors, [item.encode() for item in items])
    return {item: title for record in found.values() for item, title in _title(record).items()}


def _title(record: Any) -> dict[str, str]:
    import msgspec

    if record.value is None:
        return {}
    message = msgspec.json.decode(record.value, type=dict[str, msgspec.Raw])
    return {record.key.decode(): msgspec.json.decode(message["title"], type=str)}


def _decoded(record: Any) -> Recommendation:
    import msgspec

    from streams.contracts import Recommendation

    return msgspec.json.decode(record.value, type=Recommendation)


async def _watch(cluster: Cluster, topics: Topics, user: str | None, as_json: bool, show_titles: bool) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    titles: dict[str, str] | None = {} if show_titles and not as_json else None
    async for record in _slates(cluster, topics, user, titles):
        if not as_json:
            line = _line(record, titles or {})
            console.print(line, no_wrap=True, overflow="ellipsis", crop=console.is_terminal, soft_wrap=False)
        elif record.value is not None:
            typer.echo(record.value)


def _line(record: Any, titles: dict[str, str]) -> str:
    """Return a slate, or the tombstone of an erased user, in one line."""
    import datetime as dt

    at = dt.datetime.fromtimestamp(record.timestamp / 1000).strftime("%H:%M:%S")
    if record.value is None:
        return f"{at}  {record.key.decode():<12}  erased"
    slate = _decoded(record)
    best = [
        f"{titles.get(item, item)} {chance:.0%}"
        for item, chance in zip(slate.items[:_TOP], slate.conditional, strict=False)
    ]
    rest = [f"and {len(slate.items) - _TOP} more"] if len(slate.items) > _TOP else []
    cause = _cause(slate, titles)
    return f"{at}  {slate.user:<12}  {cause}, after {slate.ages.event_ms} ms → {' · '.join(best + rest)}"


def _cause(slate: Recommendation, titles: dict[str, str]) -> str:
    cause, item = slate.cause, slate.cause.item
    return cause.kind if item is None else f"{cause.kind} with {titles.get(item, item)}"


def _print_slate(slate: Recommendation, made_ms: int, titles: dict[str, str]) -> None:
    import time

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    age = _span(time.time() * 1000 - made_ms)
    console.print(f"user {escape(slate.user)}, slate {slate.slate}, {age} old: answers {escape(_cause(slate, titles))}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    here = "in its place" if slate.propensity else "after those above"
    for name in ("", "item", "title", here, "in the slate", "score"):
        table.add_column(name, justify="left" if name in ("item", "title") else "right")
    for at, item in enumerate(slate.items):
        table.add_row(
            str(at + 1),
            escape(item),
            escape(titles.get(item, "")),
            _chance(slate.propensity or slate.conditional, at),
            _chance(slate.inclusion, at),
            f"{slate.scores[at]:.2f}",
        )
    console.print(table)
    console.print(_ingredients(slate), style="dim", markup=False)


def _chance(chances: list[float] | None, at: int) -> str:
    return "" if chances is None else f"{chances[at]:.1%}"


def _ingredients(slate: Recommendation) -> str:
    ages = slate.ages
    parts = [f"event {ages.event_ms} ms", f"release {slate.release} {_span(ages.release_ms)}"]
    if slate.estimator is not None and ages.estimator_ms is not None:
        parts.append(f"estimator {slate.estimator} {_span(ages.estimator_ms)}")
    return f"age when computed: {', '.join(parts)}; probabilities are those of the draw"


def _span(millis: float) -> str:
    """Return a time span in words: the largest unit that it fills."""
    seconds = max(0, round(millis / 1000))
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
