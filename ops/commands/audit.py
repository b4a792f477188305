"""`driftline audit`: account for every event on the topics, and check the probabilities of the slates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evaluation.propensity_check import Checked
    from ops.audit import Account, Place

_SHOWN = 20


def audit(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    check_seconds: Annotated[
        float, typer.Option(help="Time for computing probabilities of decisions, a sample if they are many.", min=0)
    ] = 30.0,
) -> None:
    """Find lost, repeated and invented answers by reading the topics; the exit status is 1 when there are any."""
    account, checked = _read(check_seconds)
    if as_json:
        import json

        typer.echo(json.dumps(_plain(account, checked), indent=2))
    else:
        _print_table(account, checked)
    if not account.clean or checked.wrong_logits:
        raise typer.Exit(1)


def _read(check_seconds: float) -> tuple[Account, Checked]:
    import asyncio

    from rich.console import Console

    from ops.audit import audit
    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load
    from streams.names import Topics

    settings = load()
    cluster = connect(settings)
    with reachable(cluster), Console(stderr=True).status("reading") as line:

        def progress(left: int) -> None:
            line.update(f"{left:,} records to read" if left else "computing probabilities")

        return asyncio.run(audit(cluster, Topics(settings.topic_prefix), settings.app_id, check_seconds, progress))


def _plain(account: Account, checked: Checked) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(account), "propensity": asdict(checked)}


def _print_table(account: Account, checked: Checked) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None)
    rows: list[tuple[str, object, str]] = [
        ("events", account.events, "on the topic"),
        ("slates", account.slates, "published"),
        ("coalesced", account.coalesced, "events answered by the slate of a later one"),
        ("erased", account.erased, "events answered by a user's erasure"),
        ("dead letters", account.dead_letters, "events that could not be used"),
        ("unanswered", account.unanswered, "events that no worker has taken yet"),
        ("lost", _listed(account.lost), "events that a worker has taken without an answer"),
        ("duplicates", _listed(account.duplicates), "events answered more than once"),
        ("foreign", _listed(account.foreign), "answers to what is no event"),
        (
            "decisions",
            checked.decisions,
            f"{len(checked.wrong_logits)} whose terms, correction and logits do not add up",
        ),
        ("probabilities", checked.checked, f"decisions computed; largest error of a sum {_error(checked.sum_error)},"),
        ("", "", f"of a published probability {_error(checked.published_error)}"),
    ]
    for name, value, meaning in rows:
        table.add_row(name, str(value), f"[dim]{meaning}[/]")
    Console().print(table)


def _listed(places: list[Place]) -> str:
    more = f" … {len(places)} in all" if len(places) > _SHOWN else ""
    return (" ".join(f"{partition}-{offset}" for partition, offset in places[:_SHOWN]) or "0") + more


def _error(error: float | None) -> str:
    return "unknown" if error is None else f"{error:.1e}"
