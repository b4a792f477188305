"""Peers on the stream of `driftline evaluate`: RecTools' SASRec and HSTU, rtrec's SLIM and LightFM.

    python -m bench.peers --events ml100k.csv --out run                      # and again, to go on after a kill
    python -m bench.peers --events ml100k.csv --out run --with online=p.jsonl

Their pins clash with ours and with each other's, so each library gets an environment of its own (made here, with uv, at
pinned versions), in which `peer_rectools.py` or `peer_rtrec.py` plays the peer. What comes back are files of
predictions, scored like those of `driftline evaluate --predictions`: no peer shares code with our arms.
docs/evaluation.md says what they may see, and how they are tuned.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from bench.peer_stream import Job
from bench.score import score, show
from evaluation.stream import EventStream
from ops.errors import CliError
from ops.event_files import read_stream
from ops.settings import load

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Library:
    """A module that plays the peers of one library, and what has to be installed for it."""

    module: str
    pins: tuple[str, ...]


RECTOOLS = Library(
    "bench.peer_rectools",
    (
        "rectools[torch]==0.19.0",
        "torch==2.15.0",
        "pytorch-lightning==2.5.2",
        "pm-implicit==0.7.3",
        "numpy==1.26.4",
        "pandas==2.3.3",
        "scipy==1.17.1",
    ),
)
RTREC = Library(
    "bench.peer_rtrec",
    (
        "rtrec==0.2.7",
        "rectools-lightfm==1.17.3",
        "implicit==0.7.3",
        "scikit-learn==1.9.1",
        "numpy==2.4.6",
        "pandas==2.3.3",
        "scipy==1.17.1",
    ),
)
PEERS = {"sasrec": RECTOOLS, "hstu": RECTOOLS, "slim": RTREC, "lightfm": RTREC}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


def main(
    events: Annotated[Path, typer.Option(help="As for `driftline evaluate`.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that is in it goes on.", file_okay=False)],
    items: Annotated[Path | None, typer.Option(help="The catalogue, listed from the start.")] = None,
    peers: Annotated[str, typer.Option(help="Which, by comma.")] = ",".join(PEERS),
    warm_up: Annotated[float, typer.Option(help="A share of the events, or their number.")] = 0.2,
    retrain_every: Annotated[float, typer.Option(help="Share of all events after which peers are made anew.")] = 0.1,
    seen: Annotated[str, typer.Option(help="filter: nothing is listed that the user has met; keep.")] = "filter",
    ask_time: Annotated[
        str,
        typer.Option(
            help="What HSTU takes for the present: event, the time of the event that it is asked for; or "
            "stream, the time of the newest event before it."
        ),
    ] = "event",
    tune: Annotated[bool, typer.Option(help="Search the peers' settings on the warm-up.")] = True,
    most_scored: Annotated[int, typer.Option(help="Events that a trial of settings is scored on, at most.")] = 10_000,
    k: Annotated[int, typer.Option(help="Length of the lists.", min=1)] = 10,
    limit: Annotated[int | None, typer.Option(help="Only the first events, in order of time.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of the numbers in the time column: s or ms.")] = None,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    environments: Annotated[
        Path | None, typer.Option(help="Where the libraries are installed; by default `peers` in the data directory.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option("--with", metavar="NAME=FILE", help="Predictions to score beside the peers'.")
    ] = None,
) -> None:
    """Play the peers, one after the other, and score what they predicted."""
    try:
        names = _choose(peers, seen, ask_time)
        stream, _ = read_stream(events, items, unit=unit, limit=limit)  # type: ignore[arg-type]
        job = job_of(
            stream,
            warm_up=warm_up,
            retrain_every=retrain_every,
            k=k,
            seen=seen,
            ask_time=ask_time,
            seed=seed,
            most_scored=most_scored,
            tune=tune,
        )
        prepare(out, stream, job)
        for name in names:
            run(name, out, environment(PEERS[name], environments or load().data_dir / "peers"))
        files = dict(one.split("=", 1) for one in beside or ())
        found = collect(stream, job, out, names, {name: Path(path) for name, path in files.items()})
    except (CliError, ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    (out / "found.json").write_text(json.dumps(found, indent=1) + "\n")
    show(found, k)


def _choose(peers: str, seen: str, ask_time: str) -> list[str]:
    names = [name.strip() for name in peers.split(",")]
    for option, value, allowed in (
        *(("--peers", name, tuple(PEERS)) for name in names),
        ("--seen", seen, ("filter", "keep")),
        ("--ask-time", ask_time, ("event", "stream")),
    ):
        if value not in allowed:
            raise CliError(f"{option} is {value!r}", f"Expected {' or '.join(allowed)}.")
    return names


def job_of(stream: EventStream, *, warm_up: float, retrain_every: float, **settings: Any) -> Job:
    """What is to be played of a stream."""
    digest = hashlib.sha256()
    for column in (stream.users, stream.items, stream.times_ms, stream.weights):
        digest.update(np.ascontiguousarray(column).tobytes())
    return Job(
        cut=stream.cut(warm_up),
        every=max(1, round(retrain_every * len(stream))),
        most_learned=100_000,
        digest=digest.hexdigest(),
        item_ids=list(stream.item_ids),
        **settings,
    )


def prepare(out: Path, stream: EventStream, job: Job) -> None:
    """Write what the peers read; a folder holds one run.

    Raises:
        CliError: there is another run in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    told, path = json.dumps(vars(job), ensure_ascii=False), out / "job.json"
    if path.exists():
        if path.read_text() != told:
            raise CliError(f"{out} holds a run of another stream or with other options", "Choose another --out.")
        return
    np.savez(
        out / "stream.npz", users=stream.users, items=stream.items, times_ms=stream.times_ms, weights=stream.weights
    )
    aside = out / ".job.json.part"
    aside.write_text(told)
    aside.replace(path)


def environment(library: Library, folder: Path) -> Path:
    """The interpreter of an environment with the library, made if it is not there or has other pins."""
    at = folder.absolute() / library.module.rpartition("_")[2]
    python, done, pins = at / "bin" / "python", at / "pins.txt", "\n".join(library.pins) + "\n"
    if done.exists() and done.read_text() == pins:
        return python
    typer.echo(f"installing {library.pins[0]} in {at}")
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise CliError(
            f"there is no uv beside {sys.executable}", "Run `make setup`, and the project's own interpreter."
        )
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, at],
        [uv, "pip", "install", "--quiet", "--python", python, *library.pins],
    ):
        if subprocess.run(command, check=False).returncode != 0:
            raise CliError(f"uv could not install {library.module}'s packages", "Its message is above.")
    done.write_text(pins)
    return python


def run(name: str, out: Path, python: Path) -> None:
    """Play one peer in a process of its own: one thread, and last in line for the CPU."""
    command = [python, "-m", PEERS[name].module, name, out.absolute()]
    variables = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=variables, cwd=out, check=False, preexec_fn=lambda: os.nice(15))
    if done.returncode != 0:
        raise CliError(f"{name} ended with status {done.returncode}", "What is done is kept: run again to go on.")


def collect(stream: EventStream, job: Job, out: Path, names: list[str], beside: dict[str, Path]) -> dict[str, Any]:
    """Score the peers' predictions, and those given beside them (which come first)."""
    files = beside | {name: out / name / "predictions.jsonl" for name in names}
    facts = {name: _facts(out / name) for name in names}
    return score(stream, job.cut, files, k=job.k, seed=job.seed, facts=facts)


def _facts(own: Path) -> dict[str, Any]:
    """Settings, trials, and CPU seconds by what they were spent on: all blocks, and in `tuning` all trials."""
    blocks = [json.loads(path.read_text()) for path in sorted(own.glob("[0-9]*.json"))]
    trials = own / "trials.jsonl"
    tuning = [json.loads(line) for line in trials.read_text().splitlines()] if trials.exists() else []
    seconds = {what: round(sum(block[what] for block in blocks), 3) for what in ("fit", "rank", "learn")}
    seconds["tuning"] = round(sum(sum(trial["seconds"].values()) for trial in tuning), 3)
    return {"settings": json.loads((own / "settings.json").read_text()), "tuning": tuning, "seconds": seconds}


if __name__ == "__main__":
    typer.run(main)
