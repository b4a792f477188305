"""`driftline events send` and `driftline items send`: a file's rows to a topic, checked first, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ops.commands.options import AsJson, print_json
from ops.errors import CliError

if TYPE_CHECKING:
    from ops.ingest import Record
    from ops.rows import Rows

events_app = typer.Typer(no_args_is_help=True)
items_app = typer.Typer(no_args_is_help=True)

_SHOWN = 20  # bad rows; the rest is only counted

File = Annotated[
    Path, typer.Argument(help=".csv, .jsonl (either .gz too) or .parquet", exists=True, dir_okay=False, readable=True)
]
Rate = Annotated[float | None, typer.Option(help="Rows a second; by default as fast as it goes.", min=0.001)]
Limit = Annotated[int | None, typer.Option(help="Read at most so many rows.", min=1)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row instead of leaving it out.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only check the rows; the exit status tells of bad ones.")]


@events_app.command("send")
def send_events(
    file: File,
    time_unit: Annotated[
        Literal["s", "ms"] | None,
        typer.Option(help="Of the time column; by default `time` is in ms and `timestamp` in s since the epoch."),
    ] = None,
    rate: Rate = None,
    limit: Limit = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send a file's rows as events, keyed by user. Bad rows are named and left out.

    The exit status is 1 when rows were bad and none was sent; with --strict or --dry-run, when any was bad.

    Columns: user, item, time (or timestamp); optional: action, weight, id, slate, group, kind (by default
    interaction), and items (separated by | in CSV) for impressions. Others are left out.
    """
    from ops.configuration import event_rules
    from ops.ingest import EVENT_FIELDS, event_record
    from ops.rows import Rows
    from ops.settings import load

    convert = event_record(event_rules(load()), time_unit)
    with Rows(file) as rows:
        sending = _Sending(rows, "events", EVENT_FIELDS, convert, limit, strict, as_json)
        sending.require("user", "time or timestamp")
        sending.run(rate, dry_run)


@items_app.command("send")
def send_items(
    file: File,
    rate: Rate = None,
    limit: Limit = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send a file's rows as items of the catalogue, keyed by item; an item sent again is replaced.

    The exit status is 1 when rows were bad and none was sent; with --strict or --dry-run, when any was bad.

    Columns: item, title; optional: text, categories (separated by | in CSV), year. Others are left out.
    """
    from ops.ingest import ITEM_FIELDS, item_record
    from ops.rows import Rows

    with Rows(file) as rows:
        sending = _Sending(rows, "items", ITEM_FIELDS, item_record, limit, strict, as_json)
        sending.require("item", "title")
        sending.run(rate, dry_run)


class _Sending:
    """One run of `send`: the rows of a file, what is wrong with some, and what became of the rest."""

    def __init__(
        self,
        rows: Rows,
        topic: str,
        known: tuple[str, ...],
        convert: Callable[[dict[str, Any]], Record],
        limit: int | None,
        strict: bool,
        as_json: bool,
    ) -> None:
        from rich.console import Console

        self._rows, self._topic, self._known = rows, topic, known
        self._convert, self._limit, self._strict = convert, limit, strict
        self._as_json = as_json
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self._sent = self._bad = 0

    def require(self, *columns: str) -> None:
        """Raise CliError unless the file has these columns; say which it has that are not used."""
        found = self._rows.columns
        if found is None:
            return
        for column in columns:
            if not set(column.split(" or ")) & set(found):
                has = f"the file has {', '.join(found)}" if found else "the file is empty"
                raise CliError(f"there is no column {column}: {has}", f"Columns in use: {', '.join(self._known)}.")
        if unused := [name for name in found if name not in self._known]:
            self._console.print(f"not used: {', '.join(unused)}")

    def run(self, rate: float | None, dry_run: bool) -> None:
        """Check all rows and, unless `dry_run`, send the good ones."""
        started = time.monotonic()
        try:
            if dry_run:
                self._check()
            else:
                self._send(rate)
        finally:
            seconds = time.monotonic() - started
            self._tell(seconds, dry_run)
        if self._bad and (dry_run or not self._sent):
            raise typer.Exit(1)

    def _tell(self, seconds: float, dry_run: bool) -> None:
        if self._as_json:
            counted = {"good" if dry_run else "sent": self._sent, "bad": self._bad}
            print_json({"topic": self._topic, **counted, "seconds": round(seconds, 3)})
            return
        done = "good" if dry_run else f"sent to {self._topic}"
        typer.echo(f"{self._sent:,} rows {done}, {self._bad:,} bad, in {seconds:.1f} s")

    def _check(self) -> None:
        with self._progress() as tick:
            for count, _ in enumerate(self._records(), start=1):
                tick(count)

    def _send(self, rate: float | None) -> None:
        import asyncio

        from ops.connection import connect, require_topics
        from ops.kafka import reachable
        from ops.sending import send_all
        from ops.settings import load
        from streams.names import Topics

        settings = load()
        cluster = connect(settings)
        require_topics(cluster, settings, "producer" if self._topic == "events" else "catalogue")
        name = Topics(settings.topic_prefix).name(self._topic)
        with reachable(cluster), self._progress() as tick:
            asyncio.run(send_all(cluster, name, self._records(), rate, tick))

    def _records(self) -> Iterator[Record]:
        from streams.validation import BadMessage

        for row in self._rows:
            if self._limit is not None and row.number > self._limit:
                return
            try:
                if row.problem:
                    raise BadMessage("malformed", row.problem)
                record = self._convert(row.fields)
            except BadMessage as bad:
                self._complain(row.number, bad)
            else:
                yield record

    def _complain(self, number: int, bad: Exception) -> None:
        """Count a bad row and show it; raise CliError when that ends it."""
        from ops.ingest import WrongUnit

        if number == 1 and isinstance(bad, WrongUnit):
            raise CliError(f"row 1: {bad}", "Say the unit of the time column with --time-unit s or --time-unit ms.")
        if self._strict:
            raise CliError(f"row {number}: {bad}", "Without --strict bad rows are left out.")
        self._bad += 1
        if self._bad <= _SHOWN:
            self._console.print(f"row {number}: {bad}")
        elif self._bad == _SHOWN + 1:
            self._console.print("more bad rows are only counted")

    def _progress(self) -> _Progress:
        return _Progress(self._console, self._topic, self._rows, self._count)

    def _count(self, sent: int) -> None:
        self._sent = sent


class _Progress:
    """A bar on a terminal that follows how far the file was read; a context manager that gives `tick(rows)`."""

    def __init__(self, console: Any, name: str, rows: Rows, count: Callable[[int], None]) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._rows, self._count = rows, count
        self._drawn = 0.0
        columns = (TextColumn(name), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[sent]:,} rows"))
        shown = console.is_terminal
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown)
        self._task = self._bar.add_task(name, total=max(1, rows.size), sent=0)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return self._tick

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _tick(self, sent: int) -> None:
        self._count(sent)
        if (now := time.monotonic()) >= self._drawn + 0.1:
            self._drawn = now
            self._bar.update(self._task, completed=self._rows.position, sent=sent)
