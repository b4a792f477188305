"""`driftline dlq`: find, read, send again and delete what could not be used."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ops.commands.completing import reasons
from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from ops.deadletters.letters import Filter
    from ops.deadletters.mailbox import Mailbox
    from ops.deadletters.overview import Overview
    from ops.deadletters.plan import Plan, Replay
    from ops.deadletters.purge import Cut
    from ops.settings import Settings

app = typer.Typer(no_args_is_help=True)

Items = Annotated[bool, typer.Option("--items", help="Letters of items instead of events.")]
Reason = Annotated[
    str | None, typer.Option(help="Only of this reason; docs/dead-letters.md explains each.", autocompletion=reasons)
]
Key = Annotated[
    str | None, typer.Option("--key", "--user", "--item", help="Only of this key: the user's or item's id.")
]
Since = Annotated[str | None, typer.Option(help="Only letters from then on: 2026-01-31T12:00 (UTC), or 2h, 7d ago.")]
Until = Annotated[str | None, typer.Option(help="Only letters before then.")]
OnlyPartition = Annotated[int | None, typer.Option("--partition", help="Only of this partition of the letters.", min=0)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def _filter(
    reason: Reason = None,
    key: Key = None,
    since: Since = None,
    until: Until = None,
    partition: OnlyPartition = None,
) -> Filter:
    from ops.deadletters.letters import Filter
    from ops.moments import millis
    from streams.deadletters import REASONS

    if reason is not None and reason not in REASONS:
        raise CliError(f"--reason is {reason!r}", f"Expected one of {', '.join(REASONS)}.")
    return Filter(
        reason=reason,
        key=None if key is None else key.encode(errors="surrogateescape"),
        since=None if since is None else millis("--since", since),
        until=None if until is None else millis("--until", until),
        partition=partition,
    )


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_filter` beside its own; it gets what they make as its first argument."""
    own, options = _parameters(command), _parameters(_filter)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        picked = {option.name: given.pop(option.name) for option in options}
        command(_filter(**picked), **given)

    # What typer reads.
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in (*own, *options)}
    return run


def _parameters(command: Callable[..., Any]) -> list[inspect.Parameter]:
    """A command's options with their annotations; `Filter` is not imported yet, and no option."""
    hints = get_type_hints(command, localns={"Filter": Any}, include_extras=True)
    found = inspect.signature(command).parameters.values()
    return [option.replace(annotation=hints[option.name]) for option in found if option.name != "wanted"]


@app.command("list")
@filtered
def list_letters(
    wanted: Filter,
    items: Items = False,
    limit: Annotated[int, typer.Option(help="How many of the newest to show; 0: all.", min=0)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a letter and line, and no summary.")] = False,
) -> None:
    """Show what could not be used: a summary by reason, and the newest letters."""

    async def read(box: Mailbox, settings: Settings) -> Overview:
        from ops.deadletters.overview import overview

        with _progress("reading") as progress:
            return await overview(box, wanted, limit or None, progress)

    found, topic = _run(items, read)
    if as_json:
        import json

        from ops.deadletters.printing import plain

        for entry in found.newest:
            typer.echo(json.dumps(plain(topic, entry)))
    else:
        from ops.deadletters.printing import print_overview

        print_overview(topic, found)


@app.command()
def show(
    partition: Annotated[int, typer.Argument(help="Partition of the letter, as `list` shows it.", min=0)],
    offset: Annotated[int, typer.Argument(help="Its offset.", min=0)],
    items: Items = False,
    raw: Annotated[bool, typer.Option("--raw", help="Write the original value's bytes to standard output.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show one letter whole: where it came from, what was wrong, headers, key and value."""

    async def read(box: Mailbox, settings: Settings) -> Any:
        from ops.deadletters.overview import one

        return await one(box, partition, offset)

    entry, topic = _run(items, read)
    if entry is None:
        raise CliError(
            f"there is no letter at {topic} {partition} {offset}",
            "Between letters lie notes of what was replayed and markers of transactions, and old letters are gone: "
            "`driftline dlq list` shows those that are there.",
        )
    if raw:
        import sys

        if entry.letter.value is None:
            raise CliError("the value is null, which has no bytes")
        sys.stdout.buffer.write(entry.letter.value)
        return
    if as_json:
        from ops.deadletters.printing import whole

        print_json(whole(topic, entry))
        return
    from ops.deadletters.printing import described

    for line in described(topic, entry):
        typer.echo(line)


@app.command()
@filtered
def replay(
    wanted: Filter,
    place: Annotated[
        list[int] | None, typer.Argument(metavar="[PARTITION OFFSET]", help="Only this letter.", min=0)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every letter.")] = False,
    items: Items = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Send originals again to where they came from, after what was wrong is mended.

    Key, value, own headers and partition stay; a worker takes them like any event, behind those that came meanwhile.
    Each letter is sent at most once, however often this is run and wherever it is killed. A letter that fails again is
    a new letter.
    """
    from ops.deadletters.printing import planned

    if place and len(place) != 2:
        raise CliError(f"one letter has a partition and an offset, not {len(place)} number(s)", "`list` shows both.")
    if place and wanted.partition is not None:
        raise CliError("the letter's partition is named twice", "Leave --partition out.")
    if place:
        wanted = replace(wanted, partition=place[0], offset=place[1])
    if wanted.everything and not everything:
        raise CliError("nothing says which letters to send again", "Give a filter such as --reason, or --all.")
    if everything and not wanted.everything:
        raise CliError("--all and a filter contradict each other", "Leave one of them out.")

    async def preview(box: Mailbox, settings: Settings) -> Plan:
        from ops.deadletters.plan import plan

        with _progress("reading") as progress:
            return await plan(_replay(settings, items, wanted), box, progress=progress)

    found, topic = _run(items, preview)
    for line in planned(found):
        typer.echo(line)
    if dry_run or not found.count:
        return
    if not yes:
        typer.confirm(f"Send {found.count:,} again?", abort=True)

    async def send(box: Mailbox, settings: Settings) -> Any:
        from ops.deadletters.replay import execute

        with _progress("sending") as progress:
            return await execute(_replay(settings, items, wanted), box, found, progress)

    done, topic = _run(items, send)
    typer.echo(f"{done.sent:,} sent again.")
    if done.overtaken:
        typer.echo(f"{done.overtaken:,} of the preview were sent by another replay meanwhile.")
    if done.refused:
        places = ", ".join(f"{at} {offset}" for at, offset in done.refused[:20])
        raise CliError(
            f"{len(done.refused)} are larger than their topic takes: {topic} {places}",
            "Raise max.message.bytes of the topic they came from, and run this again.",
        )


@app.command()
def purge(
    before: Annotated[str | None, typer.Option(help="Older letters than this: 2026-01-31T12:00 (UTC), 7d ago.")] = None,
    replayed: Annotated[
        bool, typer.Option("--replayed", help="Of each partition, up to its first letter that was not replayed.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every letter that is there now.")] = False,
    items: Items = False,
    partition: OnlyPartition = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete letters for good.

    Kafka deletes from the beginning of a partition up to an offset: by age, or up to the first letter that was not
    replayed; never one by one, by reason or by key. Without this, letters go after the topic's retention (30 days).
    """
    if sum([before is not None, replayed, everything]) != 1:
        raise CliError("nothing says what to delete", "Give one of --before, --replayed and --all.")
    from ops.moments import millis

    limit = None if before is None else millis("--before", before)

    async def look(box: Mailbox, settings: Settings) -> Cut:
        from ops.deadletters.purge import cut

        with _progress("reading") as progress:
            return await cut(box, partition, limit, replayed, progress)

    found, topic = _run(items, look)
    typer.echo(f"{found.letters:,} letters of {topic} would be deleted; {found.open:,} of them were not sent again.")
    if dry_run or not found.before:
        return
    if not yes:
        typer.confirm("Delete them for good?", abort=True)

    async def delete(box: Mailbox, settings: Settings) -> None:
        from ops.deadletters.purge import purge

        await purge(box, found)

    _run(items, delete)
    typer.echo(f"{found.letters:,} deleted.")


# -- what they share -----------------------------------------------------------------------------------


def _run(items: bool, action: Callable[[Mailbox, Settings], Awaitable[Any]]) -> tuple[Any, str]:
    """Do something with the letters; return its result, and the topic's name."""
    import asyncio

    from ops.connection import connect
    from ops.deadletters.mailbox import Mailbox
    from ops.kafka import reachable
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    topics = Topics(settings.topic_prefix)
    topic = topics.items_dlq if items else topics.events_dlq
    cluster = connect(settings)

    async def main() -> Any:
        async with Mailbox(cluster, topic) as box:
            return await action(box, settings)

    with reachable(cluster):
        try:
            return asyncio.run(main()), topic
        except ValueError as error:
            raise CliError(str(error), "The letters were not touched.") from error


def _replay(settings: Settings, items: bool, wanted: Filter) -> Replay:
    from ops.deadletters.plan import of_events, of_items
    from streams.names import Topics

    return (of_items if items else of_events)(settings.app_id, Topics(settings.topic_prefix), wanted)


def _progress(doing: str) -> Any:
    """A line on standard error that says how far it has come."""
    import contextlib
    from collections.abc import Iterator

    from rich.console import Console

    @contextlib.contextmanager
    def shown() -> Iterator[Callable[[int, int], None]]:
        with Console(stderr=True).status(doing) as line:
            yield lambda done, total: line.update(f"{doing}: {done:,} of {total:,}")

    return shown()
