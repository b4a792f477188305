"""The command line: puts the commands together and turns errors into one line and a next step.

Knows nothing about what the commands do.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from ops.commands import (
    audit,
    chaos,
    contracts,
    dashboard,
    demo,
    dlq,
    doctor,
    embed,
    encoder,
    erase,
    evaluate,
    events,
    fairness,
    interest,
    kafka,
    learn,
    metrics,
    ope,
    read,
    replay,
    rules,
    settings,
    simulate,
    status,
    topics,
    train,
    worker,
)
from ops.errors import CliError

app = typer.Typer(
    name="driftline",
    help="A streaming online recommender: every event changes the next slate, exactly once.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

# One line per command, in the order of help. Groups have an `app`, single commands a function.
app.add_typer(kafka.app, name="kafka", help="A real Kafka on this machine, without containers.")
app.add_typer(topics.app, name="topics", help="Create the topics and check them.")
app.add_typer(events.items_app, name="items", help="The catalogue: send items.")
app.add_typer(events.events_app, name="events", help="What users do: send events.")
app.command("recommend")(read.recommend)
app.command("watch")(read.watch)
app.command("interest")(interest.interest)
app.command("erase")(erase.erase)
app.command("embed")(embed.embed)
app.add_typer(encoder.app, name="encoder", help="The text encoder: tune it to a stream.")
app.command("worker")(worker.worker)
app.command("learn")(learn.learn)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("simulate")(simulate.simulate)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.command("dashboard")(dashboard.dashboard)
app.command("audit")(audit.audit)
app.add_typer(dlq.app, name="dlq", help="Dead letters: events and items that could not be used.")
app.command("replay")(replay.replay)
app.command("ope")(ope.ope)
app.command("fairness")(fairness.fairness)
app.command("chaos")(chaos.chaos)
app.add_typer(rules.app, name="rules", help="Business rules: boost, bury, pin, filter, cap.")
app.add_typer(contracts.app, name="contracts", help="What the messages look like.")
app.command("metrics")(metrics.metrics)
app.command("settings")(settings.settings)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"driftline {version('driftline')}")
        except PackageNotFoundError:
            typer.echo("driftline, from its sources (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; the exit status is 0, 1 for a problem, 2 for a wrong usage, 130 when interrupted."""
    # Without a handler, Python prints aiokafka's complaints to the terminal, beside the one line below.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        app(prog_name="driftline")
    except CliError as error:
        _fail(error, error.problem, error.next_step)
    except Exception as error:
        _fail(error, f"{type(error).__name__}: {error}", "This is a bug: DRIFTLINE_DEBUG=1 shows where it happened.")


def _fail(error: Exception, problem: str, next_step: str) -> None:
    if os.environ.get("DRIFTLINE_DEBUG") == "1":
        raise error
    typer.secho(f"error: {problem}", fg="red", err=True)
    if next_step:
        typer.echo(next_step, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
