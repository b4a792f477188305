"""`driftline replay`: compute slates again from the log, as they were served, or as another policy would have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from evaluation.replay_compare import Differences
    from ops.replaying import Account
    from streams.contracts import Decision

_EXAMPLES = 5


def replay(
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="Slates of events appended from then on; ISO-8601, or epoch in ms."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Slates of events appended before then.")
    ] = None,
    release: Annotated[str | None, typer.Option(help="Compute with this release instead: what would it send?")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="TOML or JSON of settings policy_…: what would they send?", exists=True, dir_okay=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compute slates again from the log; the exit status is 1 when one comes out otherwise, or there is none.

    With --release or --policy it says how far the slates would have been others. A time without a zone is UTC.
    """
    first, last = _millis("--from", since), _millis("--to", until)
    if first is not None and last is not None and first >= last:
        raise CliError(f"--from {since} is not before --to {until}", "Between them lies no slate.")
    account, differences = _run(first, last, release, policy)
    if as_json:
        import json

        typer.echo(json.dumps(account.plain() | {"comparison": differences and _plain(differences)}, indent=2))
    else:
        _print_account(account, differences is not None)
        if differences is not None:
            _print_differences(differences)
    if not account.slates:
        raise _nothing(account)
    if differences is None and not account.same:
        raise typer.Exit(1)


def _nothing(account: Account) -> CliError:
    if account.begins is None or account.ends is None:
        return CliError(
            "there is no slate to compute again: the log has no events", "Send some; a worker answers them."
        )
    span = f"{_iso(account.begins)} to {_iso(account.ends)}"
    return CliError(
        "there is no slate to compute again: no decision is of an event appended in that time",
        f"Events in the log were appended from {span}; `driftline audit` tells whether they were answered.",
    )


def _iso(millis: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(millis / 1000, dt.UTC).isoformat(timespec="milliseconds")


def _run(
    since: int | None, until: int | None, release: str | None, policy: Path | None
) -> tuple[Account, Differences | None]:
    import time

    from rich.console import Console

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.policy_files import read_policy_file
    from ops.progress import Lines
    from ops.replaying import Wanted, change_of, run
    from ops.settings import load

    change = change_of(release, read_policy_file(policy) if policy is not None else {})
    settings = load()
    cluster = connect(settings)
    console, started = Console(stderr=True, highlight=False), time.monotonic()
    with reachable(cluster), Lines(console, "reading") as lines:
        wanted = Wanted(since or 0, until, change)
        account, comparison = run(settings, cluster, wanted, lambda what, count: lines.tell(f"{what}: {count:,}"))
    console.print(f"{account.slates:,} slates computed in {time.monotonic() - started:.1f} s")
    return account, comparison.result if change else None


def _millis(option: str, value: str | None) -> int | None:
    """Milliseconds since the epoch of a time as the command line takes it."""
    import datetime as dt

    if value is None:
        return None
    if value.isdigit():
        return int(value)
    try:
        at = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise CliError(
            f"{option} {value!r} is no time", "Give ISO-8601, like 2026-11-24T08:00:00Z, or milliseconds of the epoch."
        ) from error
    return round((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _plain(differences: Differences) -> dict[str, Any]:
    from dataclasses import asdict

    from evaluation.replay_compare import shown

    examples = [
        {"slate": sent.slate, "user": sent.user, "sent": shown(sent), "computed": shown(made)}
        for sent, made in differences.examples
    ]
    return {
        "slates": differences.slates,
        "changed": differences.changed,
        "changed_items": differences.changed_items,
        "overlap": differences.overlap,
        "moved": differences.moved,
        "users": [{"user": user, "changed": changed, "slates": all_} for user, changed, all_ in differences.users],
        "items": [asdict(share) for share in differences.items],
        "examples": examples,
    }


def _print_account(account: Account, compared: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(show_header=False, box=None)
    choices = account.slates - len(account.choices_differ)
    rows: list[tuple[str, object, str]] = [
        ("slates", account.slates, "decisions in the range"),
        ("choices", choices, "come out of their own record byte for byte" + _listed(account.choices_differ)),
    ]
    if not compared:
        verdicts = account.verdicts
        rows += [
            ("same", verdicts["same"], f"computed again from the events; scores within {_error(account.base_error)},"),
            ("", "", f"corrections within {_error(account.correction_error)}"),
            ("near ties", verdicts["near tie"], "two scores so close that rounding decides"),
            ("retrieval", verdicts["retrieval"], "the approximate index found other candidates; the model agrees"),
            ("different", verdicts["different"], "come out otherwise"),
            ("unchecked", verdicts["unchecked"], "something needed is gone, see below"),
        ]
    rows += [
        ("unrecorded", len(account.unrecorded), "events answered here that have no decision in the log"),
        ("dead letters", len(account.dead_differences), "that are none here, or the other way round"),
        ("letters unchecked", len(account.dead_unchecked), "dead in the log and so here, by other settings or rules"),
        ("conflicts", len(account.conflicts), "batches whose slates name different worlds"),
    ]
    for name, value, meaning in rows:
        table.add_row(name, str(value), f"[dim]{meaning}[/]")
    console.print(table)
    for partition, first in account.gaps:
        console.print(
            f"partition {partition}: the log begins at offset {first}; users may have a history that it does not tell",
            style="yellow",
        )
    for line in _letters(account):
        console.print(line, markup=False, style="dim")
    for note, count in account.notes.most_common(_EXAMPLES):
        console.print(f"{count} × {note}", markup=False, style="dim")
    for example in account.examples[:_EXAMPLES]:
        console.print(f"{example['slate']} of {example['user']}, {example['verdict']}: {example['note']}", markup=False)
        console.print(
            f"  sent      {' '.join(example['sent'])}\n  computed  {' '.join(example['computed'] or ())}", markup=False
        )


def _letters(account: Account) -> list[str]:
    """A line for each kind of letter that was not compared, with the first of them."""
    kinds: dict[tuple[str | None, str | None], list[str]] = {}
    for partition, offset, logged, now in account.dead_unchecked:
        kinds.setdefault((logged, now), []).append(f"{partition}-{offset}")
    return [
        f"{len(places)} × {_letter(logged, now)}: {' '.join(places[:_EXAMPLES])}{' …' if places[_EXAMPLES:] else ''}"
        for (logged, now), places in kinds.items()
    ]


def _letter(logged: str | None, now: str | None) -> str:
    if logged is None:
        if now is None:
            return "neither answered nor a letter any more (deleted): taken to have been dead"
        return f"no letter in the log, refused today as {now}: the states lack it"
    today = "taken" if now is None else f"refused as {now}"
    return f"{logged} in the log, {today} by today's settings or contract: stays out of the states"


def _print_differences(found: Differences) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    if not found.slates:
        console.print("nothing to compare")
        return
    console.print(
        f"{found.changed} of {found.slates} slates would be others, {found.changed_items} of them in their items; "
        f"mean overlap {found.overlap:.1%}, items in both moved {found.moved or 0:.2f} positions"
    )
    users = Table("user", "slates changed", "of", box=None, header_style="bold", title="Users most concerned")
    for user, changed, slates in found.users:
        users.add_row(escape(user), str(changed), str(slates))
    items = Table("item", "sent", "would be", "expected first", "would be", box=None, header_style="bold")
    items.title = "Items whose expected share changes most"
    for share in found.items:
        items.add_row(
            escape(share.item),
            str(share.shown),
            str(share.would_be),
            f"{share.expected:.2%}",
            f"{share.would_expect:.2%}",
        )
    examples = Table("slate", "user", "sent", "would be", box=None, header_style="bold", title="Examples")
    for sent, made in found.examples[:_EXAMPLES]:
        examples.add_row(sent.slate, escape(sent.user), _items(sent), _items(made))
    for table in (users, items, examples):
        console.print(table)


def _items(decision: Decision) -> str:
    from rich.markup import escape

    from evaluation.replay_compare import shown

    return escape(" ".join(shown(decision)))


def _listed(slates: list[str]) -> str:
    return f"; not {' '.join(slates[:_EXAMPLES])}" if slates else ""


def _error(error: float | None) -> str:
    return "unknown" if error is None else f"{error:.1e}"
