"""Whether every Grafana panel and every alert finds its series: the demo, a Prometheus that scrapes it, each query.

The demo runs with the rules file, short windows and bad events that rarer figures need. Needs Debian's `prometheus`.
Exit status 1 where something that is asked for is not there, and nobody says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import yaml
from rich.console import Console
from rich.table import Table

from ops.demo.children import Child, Children
from ops.demo.run import Demo, Options
from ops.demo.tasks import beside
from ops.errors import CliError
from ops.grafana import ROWS
from ops.kafka import ports
from ops.kafka.process import release, tie_to_this_process
from ops.settings import load
from streams.cluster import Cluster, running

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "driftline.rules.yaml"
SCRAPE_S = 2
INTERVAL = "30s"  # what Grafana would put for $__rate_interval, at this pace

SPECIAL = """
[fairness]
target = "merit"
[fairness.items]
drama = ["Drama", "Romance"]
action = ["Action", "War"]
"""
MORE = {"DRIFTLINE_STATE_OUTCOME_WINDOW_S": "20", "DRIFTLINE_LEARNER_ROUND_EVENTS": "64"}

ABSENT = {
    "driftline_drift_alarms_total": "no alarm yet: each signal has a series from its first one on",
    "driftline_trainer_loss": "a round of training takes longer than this run where the machine is busy",
    "driftline_releases": "the gate decides with the first release of the trainer, after many rounds",
}
"""Series that a short run need not have, and why."""


class Paged(Children):
    """The demo's processes, each with a web page of its own. `pages`: their ports."""

    pages: dict[str, int]

    def start(self, name: str, module: str, *arguments: str) -> Child:
        if arguments[:1] not in (("worker",), ("learn",), ("embed",)):
            return super().start(name, module, *arguments)
        self.pages = getattr(self, "pages", {})
        self.pages[name] = ports.free()
        return super().start(name, module, *arguments, "--web-port", str(self.pages[name]))


class Watched(Demo):
    """The demo with pages."""

    processes = Paged


@dataclass(frozen=True)
class Answer:
    """What a query found: so many series, the value of the first, or why there need be none."""

    of: str
    query: str
    series: int
    value: float | None
    absent: str = ""


def asked() -> Iterator[tuple[str, str]]:
    """Every query of a panel, and every series that an alert or a recording rule reads, with who asks."""
    for _, panels in ROWS:
        for panel in panels:
            for query, _ in panel.queries:
                yield f"panel {panel.title}", query.replace("$__rate_interval", INTERVAL)
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            who = rule.get("alert") or rule["record"]
            for selector in dict.fromkeys(re.findall(r"\bdriftline[_:][a-z0-9_:]+(?:\{[^}]*\})?", rule["expr"])):
                yield f"rule {who}", f"last_over_time({selector}[5m])"


async def answers(address: str) -> list[Answer]:
    """Ask them all."""
    found = []
    async with aiohttp.ClientSession(address) as session:
        for of, query in asked():
            async with session.get("/api/v1/query", params={"query": query}) as answer:
                told = await answer.json()
            if told["status"] != "success":
                raise CliError(f"{of}: {told.get('error')}", f"The query was {query}.")
            values = [float(one["value"][1]) for one in told["data"]["result"]]
            known = [value for value in values if not math.isnan(value)]
            why = next((why for name, why in ABSENT.items() if name in query), "") if not known else ""
            found.append(Answer(of, query, len(known), known[0] if known else None, why))
    return found


@contextlib.contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[str]:
    """A Prometheus that scrapes these, with the rules of deploy/; its address."""
    program = shutil.which("prometheus")
    if program is None:
        raise CliError("there is no prometheus on this machine", "apt-get install prometheus")
    listed = [{"targets": [f"127.0.0.1:{port}" for port in targets.values()]}]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "5s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "driftline", "static_configs": listed}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = ports.free()
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    guard = tie_to_this_process(process.pid)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        release(guard)
        process.terminate()
        process.wait()


async def watched(demo: Watched, folder: Path, seconds: float, console: Console) -> list[Answer]:
    """Run until so many seconds after the first live slates, then ask."""
    pages = await _served(demo)
    console.print("dashboard: DRIFTLINE_DASHBOARD_ENDPOINTS=" + ",".join(f"127.0.0.1:{one}" for one in pages.values()))
    console.print("  " + " ".join(f"{name}={value}" for name, value in demo.environment.items()))
    with prometheus(folder, pages) as address:
        console.print(f"prometheus: {address}")
        cluster = Cluster(demo.environment["DRIFTLINE_BOOTSTRAP_SERVERS"])
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await _spoil(cluster, demo.environment["DRIFTLINE_TOPIC_PREFIX"] + "events")
            await asyncio.sleep(5)
        return await answers(address)


async def _served(demo: Watched) -> dict[str, int]:
    """The pages, once a release is served and outcomes are learned."""
    async with aiohttp.ClientSession() as session:
        while True:
            await asyncio.sleep(1)
            pages: dict[str, int] = getattr(demo.children, "pages", {})
            if "learner" not in pages:
                continue
            with contextlib.suppress(aiohttp.ClientError):
                texts = [await (await session.get(f"http://127.0.0.1:{one}/metrics")).text() for one in pages.values()]
                if any(re.search(r"driftline_outcomes_total\{.*\} [1-9]", text) for text in texts):
                    return pages


async def _spoil(cluster: Cluster, topic: str) -> None:
    """An event that cannot be read."""
    async with running(cluster.producer()) as producer:
        await producer.send_and_wait(topic, b"<b>not an event</b>", b"somebody")


def table(found: list[Answer]) -> Table:
    """A line for each query."""
    made = Table(title=f"{sum(one.series > 0 for one in found)} of {len(found)} find data")
    for name in ("asked by", "query", "series", "the first"):
        made.add_column(name, overflow="fold")
    for one in found:
        value = f"{one.value:.4g}" if one.value is not None else one.absent or "[red]nothing[/]"
        made.add_row(one.of, one.query.replace("[", r"\["), str(one.series), value)
    return made


async def _run(demo: Watched, seconds: float, stay: bool, console: Console) -> list[Answer]:
    with tempfile.TemporaryDirectory(prefix="driftline-panels-") as folder:
        playing = asyncio.create_task(demo.run())

        async def play() -> None:
            await playing
            await asyncio.Event().wait()

        async def look() -> list[Answer]:
            found = await watched(demo, Path(folder), seconds, console)
            console.print(table(found))
            if stay:
                console.print("Staying; Ctrl-C ends it.")
                await asyncio.Event().wait()
            return found

        return await beside(look(), play())


def main(
    seconds: Annotated[float, typer.Option(help="From the first outcomes until all is asked.", min=5)] = 120.0,
    rate: Annotated[float, typer.Option(help="Live events a second.", min=0.1)] = 50.0,
    stay: Annotated[bool, typer.Option("--stay", help="Leave it running afterwards.")] = False,
) -> None:
    """Ask everything that Grafana and the alerts ask, of a Prometheus beside the demo; print what each finds."""
    console = Console(width=160)
    with tempfile.TemporaryDirectory(prefix="driftline-rules-") as folder:
        (Path(folder) / "rules.toml").write_text(SPECIAL)
        os.environ.update(MORE | {"DRIFTLINE_ARRANGE_RULES": str(Path(folder) / "rules.toml")})
        demo = Watched(load(), Options(None, rate, 1, keep=True))
        try:
            found = asyncio.run(_run(demo, seconds, stay, console))
        except CliError as error:
            console.print(f"[red]error:[/] {error}")
            raise typer.Exit(1) from None
        finally:
            demo.stop()
    if any(not one.series and not one.absent for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
