"""Peers: none sees an event before it is scored, a killed run goes on, and files of predictions are scored alike.

The peers here are made up; the real ones are played too if PEERS_ENVIRONMENTS names the folder of their environments.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import peer_stream, peers, score
from bench.peer_rectools import pieces
from bench.peer_stream import Events, Histories, Job, Lists, Questions, Recipe, Settings
from evaluation.stream import EventStream
from tests.evaluation.streams import random_stream
from tests.evaluation.streams import stream as made_of

STREAM = random_stream(12, 30, 400, seed=5)


def events_of(stream: EventStream) -> Events:
    return Events(stream.users, stream.items, stream.times_ms, stream.weights)


def job_of(stream: EventStream = STREAM, **changes: Any) -> Job:
    job = peers.job_of(
        stream,
        warm_up=0.2,
        retrain_every=0.1,
        k=5,
        seen="filter",
        ask_time="event",
        seed=0,
        most_scored=10_000,
        tune=True,
    )
    return replace(job, **changes)


class Echo:
    """Frozen: lists what is most frequent in all it was told, weighed by how new it was."""

    def __init__(self, settings: Settings, job: Job) -> None:
        self.fade, self.job = settings.get("fade", 1.0), job
        self.told: list[Events] = []

    def fit(self, past: Events) -> None:
        self.told.append(past)
        self.scores: Counter[int] = Counter()
        for at, item in enumerate(past.items.tolist()):
            self.scores[item] += self.fade ** (len(past) - at)

    def rank(self, asked: Questions) -> Lists:
        lists = []
        for question in range(len(asked)):
            own = asked.past.items[asked.starts[question] : asked.starts[question + 1]].tolist()
            scores = self.scores + Counter({item: 0.1 * (1 + at) for at, item in enumerate(own)})
            lists.append([item for item, _ in scores.most_common(self.job.k)])
        return lists


class EchoOne(Echo):
    """The same, one by one."""

    def rank_one(self, user: int) -> list[int]:
        return [item for item, _ in self.scores.most_common(self.job.k)]

    def learn_one(self, user: int, item: int, time_ms: int, weight: float) -> None:
        self.scores[item] += 1 + len(self.scores) / 100


def lists_of(made: type[Echo], events: Events, begin: int, end: int) -> Lists:
    peer = made({"fade": 0.9}, job_of())
    return peer_stream.play(peer, events.take(slice(0, end)), begin, job_of(), lambda what: None)[0]


@pytest.mark.parametrize("made", [Echo, EchoOne])
def test_what_comes_later_changes_no_list(made: type[Echo]) -> None:
    events = events_of(STREAM)
    before = lists_of(made, events, 80, 120)
    random = np.random.default_rng(0)
    for first in (80, 97, 119):
        other = events.take(slice(0, None))
        other.items[first:] = random.permutation(other.items[first:])
        other.weights[first:] = 7
        after = lists_of(made, other, 80, 120)
        assert after[: first - 79] == before[: first - 79]  # the list for `first` itself too
        assert first == 119 or after[first - 79 :] != before[first - 79 :]  # and the peer does listen


def test_a_question_comes_with_its_users_events_before_it_and_no_others() -> None:
    events = events_of(STREAM)
    asked = Histories(events).questions(100, 180, "event")
    assert asked.numbers.tolist() == sorted(asked.numbers.tolist())
    for question, event in enumerate(range(100, 180)):
        mine = np.flatnonzero(events.users[:event] == events.users[event])
        part = slice(asked.starts[question], asked.starts[question + 1])
        assert asked.past.items[part].tolist() == events.items[mine].tolist()
        assert asked.past.times_ms[part].tolist() == events.times_ms[mine].tolist()
        assert asked.seen(question) == set(events.items[mine].tolist())
    assert asked.times_ms.tolist() == events.times_ms[100:180].tolist()
    assert Histories(events).questions(100, 180, "stream").times_ms.tolist() == events.times_ms[99:179].tolist()


def test_a_peer_is_fitted_on_what_was_before_its_block_in_copies() -> None:
    events = events_of(STREAM)
    peer = Echo({}, job_of())
    peer_stream.play(peer, events.take(slice(0, 120)), 80, job_of(), lambda what: None, first=30)
    (told,) = peer.told
    assert told.items.tolist() == events.items[30:80].tolist()
    assert told.items.base is None  # no view of what comes after


def test_blocks_cover_the_test_and_a_small_rest_goes_with_the_last() -> None:
    job = job_of(cut=80, every=40)
    assert job.blocks(161) == [(80, 120), (120, 161)]
    assert job.blocks(140) == [(80, 120), (120, 140)]
    assert job.blocks(90) == [(80, 90)]


def recipes(trace: list[Settings]) -> Any:
    def make(settings: Settings, job: Job) -> Echo:
        trace.append(settings)
        return Echo(settings, job)

    return lambda job: {"echo": Recipe(make, {"fade": 1.0}, {"fade": (0.5, 0.9)})}


def test_a_run_that_was_killed_goes_on_and_ends_alike(tmp_path: Path) -> None:
    job = job_of()
    outs = tmp_path / "whole", tmp_path / "killed"
    for out in outs:
        peers.prepare(out, STREAM, job)
    peer_stream.main(recipes([]), "echo", outs[0])
    whole, killed = outs[0] / "echo", outs[1] / "echo"
    blocks = [begin for begin, _ in job.blocks(len(STREAM))]
    assert len(blocks) == 8

    killed.mkdir()
    for begin in blocks[:3]:
        for end in ("json", "jsonl"):
            (killed / f"{begin:09}.{end}").write_text((whole / f"{begin:09}.{end}").read_text())
    (killed / f"{blocks[3]:09}.json").write_text("{}")  # of a block whose lists were not written any more
    trials = (whole / "trials.jsonl").read_text()
    (killed / "trials.jsonl").write_text(trials[:-20])  # in the middle of the last trial
    made: list[Settings] = []
    peer_stream.main(recipes(made), "echo", outs[1])
    assert len(made) == 1 + 5  # one trial, five blocks
    assert (killed / "predictions.jsonl").read_text() == (whole / "predictions.jsonl").read_text()
    settings = [
        [json.loads(line)["settings"] for line in (own / "trials.jsonl").read_text().splitlines()]
        for own in (whole, killed)
    ]
    assert settings[0] == settings[1] == [{"fade": 1.0}, {"fade": 0.5}, {"fade": 0.9}]


def test_settings_are_searched_on_the_warm_up_alone(tmp_path: Path) -> None:
    changed = replace(STREAM, items=np.concatenate([STREAM.items[:80], STREAM.items[80:][::-1]]))
    found = []
    for number, stream in enumerate((STREAM, changed)):
        out = tmp_path / str(number)
        peers.prepare(out, stream, job_of(stream))
        peer_stream.main(recipes([]), "echo", out)
        trials = [json.loads(line) for line in (out / "echo" / "trials.jsonl").read_text().splitlines()]
        found.append([(one["settings"], one["ndcg"]) for one in trials])
        best = json.loads((out / "echo" / "settings.json").read_text())
        assert best == max(found[-1], key=lambda one: one[1])[0]
    assert len(found[0]) == 3
    assert found[0] == found[1]
    lists = [(tmp_path / number / "echo" / "predictions.jsonl").read_text() for number in "01"]
    assert lists[0] != lists[1]


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    peers.prepare(tmp_path, STREAM, job_of())
    peers.prepare(tmp_path, STREAM, job_of())
    for other in (job_of(seed=1), job_of(random_stream(12, 30, 400, seed=6))):
        with pytest.raises(peers.CliError, match="holds a run of another stream or with other options"):
            peers.prepare(tmp_path, STREAM, other)


def test_pieces_leave_every_event_but_a_users_first_once_a_target() -> None:
    users = np.random.default_rng(1).integers(0, 7, 300)
    rows, codes = pieces(users, 6)
    targets: Counter[int] = Counter()
    for code in np.unique(codes):
        mine = rows[codes == code]
        assert len(set(users[mine].tolist())) == 1
        assert len(mine) <= 7
        assert (np.diff(mine) > 0).all()
        own = np.flatnonzero(users == users[mine[0]])
        at = np.searchsorted(own, mine)
        assert (np.diff(at) == 1).all()  # nothing left out
        targets.update(mine[1:].tolist())
    firsts = {int(np.flatnonzero(users == user)[0]) for user in range(7)}
    assert targets == Counter(set(range(300)) - firsts)


# -- scoring --------------------------------------------------------------------------------------------


def csv_of(path: Path, stream: EventStream) -> Path:
    file = path / "events.csv"
    rows = zip(stream.users.tolist(), stream.items.tolist(), stream.times_ms.tolist(), strict=True)
    lines = [f"{stream.user_ids[user]},{stream.item_ids[item]},{time}" for user, item, time in rows]
    file.write_text("user,item,timestamp\n" + "\n".join(lines) + "\n")
    return file


def predictions(path: Path, stream: EventStream, cut: int, rank: int | None, events: int | None = None) -> Path:
    """Lists that have the event's item at `rank` wherever it may be listed; None: never."""
    with path.open("w") as file:
        for event in range(cut, cut + events if events else len(stream)):
            known = [row for row in range(len(stream.item_ids)) if stream.known_from[row] < event]
            target = int(stream.items[event])
            listed = [row for row in known if row != target][:9]
            if rank is not None and target in known:
                listed.insert(rank - 1, target)
            file.write(json.dumps({"event": event, "topk": [stream.item_ids[row] for row in listed[:10]]}) + "\n")
    return path


def test_predictions_are_scored_and_compared(tmp_path: Path) -> None:
    events, cut = csv_of(tmp_path, STREAM), STREAM.cut(0.2)
    third = predictions(tmp_path / "third.jsonl", STREAM, cut, 3)
    sixth = predictions(tmp_path / "sixth.jsonl", STREAM, cut, 6)
    never = predictions(tmp_path / "never.jsonl", STREAM, cut, None, events=200)
    command = ["--events", str(events), "--json", str(tmp_path / "found.json"), "--replicates", "200"]
    done = CliRunner().invoke(typer_app(), [*command, f"third={third}", f"sixth={sixth}"])
    assert done.exit_code == 0, done.output
    assert "320 test events after 80" in done.output
    found = json.loads((tmp_path / "found.json").read_text())
    known = float((STREAM.known_from[STREAM.items] < np.arange(len(STREAM)))[cut:].mean())
    assert found["arms"]["third"]["scores"]["all"] == pytest.approx({"hit_rate": known, "ndcg": known / 2})
    assert found["arms"]["sixth"]["scores"]["all"]["ndcg"] == pytest.approx(known / math.log2(7))
    (pair,) = [
        one
        for one in found["bootstrap"]["differences"]
        if (one["slice"], one["metric"], one["a"]) == ("all", "ndcg", "third")
    ]
    assert pair["b"] == "sixth"
    assert pair["ratio"] == pytest.approx(math.log2(7) / 2)
    assert pair["low"] > 0

    done = CliRunner().invoke(typer_app(), [*command, f"third={third}", f"never={never}"])
    assert "200 test events after 80" in done.output  # as far as both go
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["arms"]["never"]["scores"]["all"] == {"hit_rate": 0, "ndcg": 0}


def test_what_cannot_be_scored_is_said_in_one_line(tmp_path: Path) -> None:
    events = csv_of(tmp_path, STREAM)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for files, told in (([str(empty)], "expected NAME=FILE"), ([f"a={empty}"], "no event has predictions")):
        done = CliRunner().invoke(typer_app(), ["--events", str(events), *files])
        assert done.exit_code == 1
        assert told in done.output


def typer_app() -> Any:
    import typer

    app = typer.Typer()
    app.command()(score.main)
    return app


def test_found_has_settings_and_seconds_of_each_peer(tmp_path: Path) -> None:
    job = job_of()
    peers.prepare(tmp_path, STREAM, job)
    peer_stream.main(recipes([]), "echo", tmp_path)
    never = predictions(tmp_path / "never.jsonl", STREAM, job.cut, None)
    found = peers.collect(STREAM, job, tmp_path, ["echo"], {"never": never})
    assert list(found["arms"]) == ["never", "echo"]
    assert found["arms"]["echo"]["settings"] in ({"fade": 1.0}, {"fade": 0.5}, {"fade": 0.9})
    assert set(found["arms"]["echo"]["seconds"]) == {"fit", "rank", "learn", "tuning"}
    assert len(found["arms"]["echo"]["tuning"]) == 3


def ring(users: int, items: int, events: int) -> EventStream:
    """Users go around the same ring of items, one step an event, each from where he is."""
    random = np.random.default_rng(2)
    at = random.integers(0, items, users)
    lines = []
    for user in random.integers(0, users, events).tolist():
        at[user] = (at[user] + 1) % items
        lines.append(f"u{user} i{at[user]}")
    return made_of("\n".join(lines))


@pytest.mark.skipif("PEERS_ENVIRONMENTS" not in os.environ, reason="the peers' packages are not at hand")
@pytest.mark.parametrize(("name", "least"), [("sasrec", 0.8), ("hstu", 0.8), ("slim", 0.1), ("lightfm", 0.1)])
def test_the_real_ones(tmp_path: Path, name: str, least: float) -> None:
    stream = ring(20, 25, 800)
    job = job_of(stream, tune=False, every=320, seen="keep")
    peers.prepare(tmp_path, stream, job)
    peers.run(name, tmp_path, peers.environment(peers.PEERS[name], Path(os.environ["PEERS_ENVIRONMENTS"])))
    found = peers.collect(stream, job, tmp_path, [name], {})
    assert found["stream"]["test_events"] == 640
    assert found["arms"][name]["scores"]["all"]["hit_rate"] > least
