"""`driftline erase`: forget users, wait until it is done, and prove what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.errors import CliError

if TYPE_CHECKING:
    from ops.erasure import Asked
    from ops.proof import Holding, Proof
    from ops.settings import Settings
    from streams.cluster import Cluster

_SHOWN = 20  # users whose details are printed

Ids = Sequence[str]


def erase(
    users: Annotated[list[str] | None, typer.Argument(metavar="[USER]...", help="Ids of users.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="More ids, one a line.", exists=True, dir_okay=False, readable=True)
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Erase nothing: read every topic and store for what still holds the ids."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until a worker has answered.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds without an answer after which to give up.", min=0.1)] = 60.0,
    all_partitions: Annotated[
        bool, typer.Option("--all-partitions", help="For clients that choose the partition of an id in another way.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Forget users: their states, open slates and published slates. Their next event starts somebody new.

    With --verify, nothing is erased: the exit status is 1 while something holds an id that should not.
    """
    from ops.erasure import checked_ids

    ids = checked_ids([*(users or []), *_from_file(file)])
    if not ids:
        raise CliError("no user is named", "Give ids as arguments, or a file of them with --file.")
    done = _verify(ids, as_json) if verify else _erase(ids, wait, timeout, all_partitions, as_json)
    if not done:
        raise typer.Exit(1)


def _from_file(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is not UTF-8: {error}", "Save it as UTF-8, one id a line.") from error


# -- erasing ---------------------------------------------------------------------------------------


def _erase(ids: Ids, wait: bool, timeout: float, everywhere: bool, as_json: bool) -> bool:
    import asyncio

    from rich.console import Console

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load

    settings = load()
    cluster = connect(settings)
    with reachable(cluster), Console(stderr=True).status(f"erasing {len(ids):,} user(s)") as line:

        def progress(left: int) -> None:
            line.update(f"{left:,} of {len(ids):,} erasures to be answered")

        asked = asyncio.run(_ask(cluster, settings, ids, timeout if wait else None, everywhere, progress))
    if as_json:
        import json

        typer.echo(json.dumps({"users": [_plain_asked(one) for one in asked]}, indent=2))
    else:
        _say(asked, wait, timeout)
    return all(one.done for one in asked) if wait else True


async def _ask(
    cluster: Cluster, settings: Settings, ids: Ids, idle_s: float | None, everywhere: bool, progress: Any
) -> list[Asked]:
    from ops.erasure import erasures
    from streams.names import Topics

    topics = Topics(settings.topic_prefix)
    async with erasures(cluster, topics) as sending:
        asked = await sending.ask(ids, everywhere=everywhere)
        if idle_s is not None:
            await sending.wait(idle_s, progress)
    return asked


def _say(asked: list[Asked], wait: bool, timeout: float) -> None:
    left = [one for one in asked if not one.done]
    for one in asked if not wait else left:
        if one.refused:
            typer.echo(f"{one.user}: refused: {one.refused[0]}")
        elif len(asked) <= _SHOWN:
            typer.echo(f"{one.user}: asked with {_places(one.places)}, not answered yet")
    if not wait:
        typer.echo("An erasure is answered when a worker reaches it; `driftline erase --verify` tells.")
        return
    done = [one for one in asked if one.done]
    if len(done) == 1:
        typer.echo(f"{done[0].user}: erased, {_places(done[0].places)} answered after {done[0].seconds or 0:.1f} s")
    elif done:
        typer.echo(f"{len(done):,} users erased, the last answered after {max(one.seconds or 0 for one in done):.1f} s")
    if waiting := [one for one in left if one.waiting]:
        raise CliError(
            f"{len(waiting):,} of {len(asked):,} erasures had no answer within {timeout:g} s of the last one",
            "They are in the log and will be answered when a worker reaches them: does one run (`driftline worker`)?",
        )


def _places(places: Sequence[tuple[int, int]]) -> str:
    return "event " + ", ".join(f"{partition}-{offset}" for partition, offset in places)


def _plain_asked(one: Asked) -> dict[str, Any]:
    return {
        "user": one.user,
        "events": [list(place) for place in one.places],
        "answered": one.done,
        "refused": one.refused,
        "seconds": one.seconds,
    }


# -- verifying -------------------------------------------------------------------------------------


def _verify(ids: Ids, as_json: bool) -> bool:
    import asyncio
    import time

    from rich.console import Console

    from ops.connection import connect
    from ops.kafka import reachable
    from ops.settings import load
    from ops.verification import verify

    settings = load()
    cluster = connect(settings)
    with reachable(cluster), Console(stderr=True).status("reading every topic") as line:

        def progress(left: int) -> None:
            line.update(f"{left:,} records to read")

        proofs = asyncio.run(verify(cluster, settings, ids, time.time_ns() // 1_000_000, progress))
    if as_json:
        import json

        typer.echo(json.dumps({"users": [_plain_proof(proof) for proof in proofs]}, indent=2))
    else:
        _print(proofs)
    return all(proof.clean for proof in proofs)


def _print(proofs: list[Proof]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    shown = proofs if len(proofs) <= _SHOWN else [proof for proof in proofs if not proof.clean][:_SHOWN]
    for proof in shown:
        if proof.holdings:
            console.print(_table(proof))
        for one in proof.problems:
            console.print(f"MUST NOT BE THERE: {_where(one)}, {one.what}: {one.problem}", soft_wrap=True)
        console.print(_verdict(proof), soft_wrap=True)
    if len(proofs) > 1:
        bad = sum(not proof.clean for proof in proofs)
        console.print(f"{len(proofs):,} users: {bad:,} with something that must not be there", soft_wrap=True)


def _table(proof: Proof) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, title=escape(proof.user), title_justify="left")
    for name in ("where", "records", "what", "gone by (UTC), at the latest"):
        table.add_column(name, justify="right" if name == "records" else "left", no_wrap=name != "what")
    for one in sorted(proof.holdings, key=lambda one: one.problem is None):
        table.add_row(escape(one.where), f"{one.records:,}", escape(one.what), escape(_until(one)))
    return table


def _until(one: Holding) -> str:
    if one.problem is not None:
        return "must not be there"
    if one.removed_by:
        return f"with {one.removed_by}"
    if one.until is None:
        return "stays: of the user who came back"
    return f"{'the next write after ' if one.on_write else ''}{_date(one.until)}"


def _where(one: Holding) -> str:
    return one.where if one.example is None else f"{one.where} {one.example[0]}-{one.example[1]}"


def _verdict(proof: Proof) -> str:
    erased = ", ".join(f"{partition}-{offset}" for partition, offset in proof.erased)
    what = f"{proof.user}: erased by {erased}" if erased else f"{proof.user}: no erasure in the log"
    if proof.returned:
        what += f", came back with {proof.returned:,} event(s) since"
    if not proof.clean:
        return f"{what}. NOT CLEAN: {sum(one.records for one in proof.problems):,} record(s) must not be there."
    if not proof.holdings:
        return f"{what}. Nothing holds this id."
    past = sum(one.records for one in proof.holdings if one.until is not None)
    gone = f"; the last is gone by {_date(proof.until)} UTC" if proof.until is not None else ""
    return f"{what}. Nothing of before is live; {past:,} record(s) with the id are within their retention{gone}."


def _date(millis: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(millis / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")


def _plain_proof(proof: Proof) -> dict[str, Any]:
    from dataclasses import asdict

    holdings = [asdict(one) | {"until": _date(one.until) if one.until is not None else None} for one in proof.holdings]
    return {
        "user": proof.user,
        "clean": proof.clean,
        "erased": [list(place) for place in proof.erased],
        "returned": proof.returned,
        "holdings": holdings,
    }
