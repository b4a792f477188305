"""The audit: what is in order passes; planted losses, duplicates and inventions are found, on a real broker too."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition

from ops.audit import Account, Audit, Ledger, audit, parsed
from ops.deadletters.letters import note
from policy import mixture
from streams.cluster import Cluster
from streams.deadletters import dead_letter_headers
from streams.names import Topics

ROOT = Path(__file__).parents[2]


def test_a_note_of_what_was_replayed_is_no_letter() -> None:
    _, value, headers = note([0])
    record = ConsumerRecord(Topics().events_dlq, 0, 1, 0, 0, None, value, None, 0, 0, tuple(headers))
    read = Audit(Topics(), {0: 0})
    read.take(record, None)
    assert read.ledger.account().dead_letters == 0


@pytest.mark.parametrize(("changed", "wrong"), [({}, []), ({"correction": 0.25}, ["0-3"]), ({"wrong": 1e-6}, ["0-3"])])
def test_numbers_that_do_not_add_up_are_found(changed: dict[str, float], wrong: list[str]) -> None:
    read = Audit(Topics(), {0: 0})
    record = ConsumerRecord(Topics().decisions, 0, 1, 0, 0, b"u", decision([3], **changed), None, 0, 0, ())
    read.take(record, parsed(Topics(), record))
    assert read.propensities.result.wrong_logits == wrong


def ledger(events: int = 6, first: int = 0) -> Ledger:
    """A ledger that has read events of partitions 0 and 1."""
    ledger = Ledger({0: first, 1: 0})
    for offset in range(first, first + events):
        ledger.event(0, offset)
    ledger.event(1, 0)
    return ledger


def test_every_way_of_being_answered() -> None:
    book = ledger()
    book.slate(0, [0], 0)
    book.slate(0, [1, 3], 3)
    book.tombstone(0, [2, 4])
    book.dead_letter(0, 5)
    book.slate(1, [0], 0)
    account = book.account()
    assert account == Account(7, 3, 1, 2, 1, 0, [], [], [])
    assert account.clean


def test_loss_duplication_and_invention_are_named() -> None:
    book = ledger()
    book.slate(0, [0, 1], 1)
    book.slate(0, [1], 1)
    book.slate(0, [2], 2)
    book.dead_letter(0, 2)
    book.dead_letter(0, 3)
    book.dead_letter(0, 3)
    book.slate(0, [4, 77], 77)
    book.slate(2, [0], 0)
    account = book.account()
    assert account.lost == [(0, 5), (1, 0)]
    assert account.duplicates == [(0, 1), (0, 2), (0, 3)]
    assert sorted(account.foreign) == [(0, 77), (2, 0)]
    assert not account.clean


def test_what_is_not_committed_is_not_lost_yet() -> None:
    book = ledger()
    book.slate(0, [0], 0)
    account = book.account({0: 3})
    assert account.lost == [(0, 1), (0, 2)]
    assert account.unanswered == 4
    assert ledger().account({}).lost == []


def test_answers_may_come_before_the_events() -> None:
    book = Ledger({0: 0})
    book.slate(0, [5000], 5000)
    book.slate(0, [10**15], 10**15)
    assert book.account().foreign == [(0, 5000), (0, 10**15)]
    book.event(0, 5000)
    assert book.account().foreign == [(0, 10**15)]
    assert book.account().lost == []


def test_gaps_in_the_offsets_are_no_losses() -> None:
    book = Ledger({0: 0})
    for offset in (0, 2, 7):
        book.event(0, offset)
        book.slate(0, [offset], offset)
    assert book.account() == Account(3, 3, 0, 0, 0, 0, [], [], [])
    book.slate(0, [1], 1)
    assert book.account().foreign == [(0, 1)]


def test_answers_to_events_whose_retention_is_over_do_not_count() -> None:
    book = ledger(events=2, first=100)
    book.slate(0, [98, 99, 100], 100)
    book.slate(0, [101], 101)
    assert book.account().foreign == []
    assert book.account().lost == [(1, 0)]


# On a broker: topics as a worker would leave them, written by hand, and then spoiled.


class Planted:
    """Writes the topics by hand: six events of partition 0, offsets 0 to 5, all answered once unless told otherwise."""

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self.cluster, self.topics = cluster, topics

    async def write(self, *extra: tuple[str, Any], without: str = "") -> None:
        records: dict[str, tuple[str, Any]] = {
            "slate 0": (self.topics.recommendations, slate([0])),
            "slate 1+3": (self.topics.recommendations, slate([1, 3])),
            "tombstone 2": (self.topics.recommendations, tombstone([2])),
            "letter 4": (self.topics.events_dlq, letter(self.topics.events, 4)),
            "slate 5": (self.topics.recommendations, slate([5])),
        }
        records.pop(without, None)
        producer = self.cluster.producer(transactional_id=f"{self.topics.prefix}test")
        await producer.start()
        try:
            for _ in range(6):
                async with producer.transaction():  # its markers take offsets 1, 3, 5, …
                    await producer.send(self.topics.outcomes, b"", partition=0)
            async with producer.transaction():
                for number in range(6):
                    await producer.send(self.topics.events, b"{}", key=b"u%d" % number, partition=0)
            for topic, (value, headers) in [*records.values(), *extra]:
                async with producer.transaction():
                    await producer.send(topic, value, key=b"u", partition=0, headers=headers)
                    if value is not None and topic == self.topics.recommendations:
                        covers = json.loads(value)["covers"]
                        await producer.send(self.topics.decisions, decision(covers), key=b"u", partition=0)
            await producer.begin_transaction()
            await producer.send(self.topics.recommendations, slate([0])[0], key=b"u", partition=0)
            await producer.abort_transaction()  # nobody may see it
            await commit(self.cluster, producer, self.topics, 6)
        finally:
            await producer.stop()

    async def audited(self) -> tuple[Account, Any]:
        return await audit(self.cluster, self.topics, f"{self.topics.prefix}group", 30)


async def commit(cluster: Cluster, producer: AIOKafkaProducer, topics: Topics, offset: int) -> None:
    async with producer.transaction():
        offsets = {TopicPartition(topics.events, 0): offset}
        await producer.send_offsets_to_transaction(offsets, f"{topics.prefix}group")


LOGITS = np.array([1.5, 0.25, -2.0, -np.inf], np.float32)
CHOSEN = [1, 0]


def slate(covers: list[int]) -> tuple[bytes, list[tuple[str, bytes]]]:
    position, inclusion = mixture.marginals(LOGITS[None], 2, 0.5, 0.1)
    message = {
        "slate": f"0-{covers[-1]}",
        "cause": {"partition": 0, "offset": covers[-1]},
        "covers": covers,
        "propensity": [position[0, column, at] for at, column in enumerate(CHOSEN)],
        "inclusion": [inclusion[0, column] for column in CHOSEN],
    }
    return json.dumps(message).encode(), []


def decision(covers: list[int], correction: float = 0.5, wrong: float = 0) -> bytes:
    """A decision on the wire; its correction is right at 0.5, and `wrong` is added to one of its terms."""
    base = LOGITS - np.float32(0.5)
    terms = {"model": base - np.float32(0.25), "after": np.full(4, 0.25 + wrong, np.float32)}
    columns = {"base_f32": base, "correction_f32": np.full(4, correction, np.float32), "logits_f32": LOGITS}
    message = {
        "slate": f"0-{covers[-1]}",
        "cause": {"partition": 0, "offset": covers[-1]},
        "covers": covers,
        "chosen": CHOSEN,
        "temperature": 0.5,
        "epsilon": 0.1,
        "terms": {name: base64.b64encode(term.tobytes()).decode() for name, term in terms.items()},
        **{name: base64.b64encode(values.astype("<f4").tobytes()).decode() for name, values in columns.items()},
    }
    return json.dumps(message).encode()


def tombstone(covers: list[int]) -> tuple[None, list[tuple[str, bytes]]]:
    return None, [("driftline-covers", json.dumps(covers).encode())]


def letter(topic: str, offset: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    return b"{", dead_letter_headers([], "malformed_json", "bad", topic, 0, offset, 0)


@pytest.fixture
def planted(cluster: Cluster, topics: Topics) -> Planted:
    return Planted(cluster, topics)


@pytest.mark.broker
async def test_topics_in_order_pass(planted: Planted) -> None:
    await planted.write()
    account, checked = await planted.audited()
    assert account == Account(6, 3, 1, 1, 1, 0, [], [], [])
    assert (checked.decisions, checked.checked, checked.wrong_logits) == (3, 3, [])
    assert checked.sum_error < 1e-9 and checked.published_error < 1e-12


@pytest.mark.broker
@pytest.mark.parametrize(
    ("without", "lost"),
    [("slate 0", [(0, 0)]), ("slate 1+3", [(0, 1), (0, 3)]), ("tombstone 2", [(0, 2)]), ("letter 4", [(0, 4)])],
)
async def test_a_planted_loss_is_found(planted: Planted, without: str, lost: list[tuple[int, int]]) -> None:
    await planted.write(without=without)
    account, _ = await planted.audited()
    assert (account.lost, account.duplicates, account.foreign) == (lost, [], [])


@pytest.mark.broker
async def test_a_slate_that_compaction_has_removed_is_no_loss(planted: Planted) -> None:
    await planted.write((planted.topics.decisions, (decision([5]), [])), without="slate 5")
    account, _ = await planted.audited()
    assert account.clean and account.slates == 3


@pytest.mark.broker
async def test_planted_duplicates_and_inventions_are_found(planted: Planted) -> None:
    topics = planted.topics
    await planted.write(
        (topics.recommendations, slate([0])),
        (topics.events_dlq, letter(topics.events, 3)),
        (topics.events_dlq, letter("somebody-elses", 5)),
        (topics.recommendations, tombstone([4, 99])),
    )
    account, _ = await planted.audited()
    assert account.lost == []
    assert account.duplicates == [(0, 0), (0, 3), (0, 4)]
    assert account.foreign == [(0, 99)]


@pytest.mark.broker
async def test_the_command_says_so_and_fails(planted: Planted, tmp_path: Path) -> None:
    await planted.write(without="slate 5")
    settings = {"BOOTSTRAP_SERVERS": planted.cluster.bootstrap_servers, "TOPIC_PREFIX": planted.topics.prefix}
    settings |= {"APP_ID": f"{planted.topics.prefix}group", "DATA_DIR": str(tmp_path)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    environment = {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    environment |= {f"DRIFTLINE_{name}": value for name, value in settings.items()}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ops.cli", "audit", *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    said = run("--json")
    assert said.returncode == 1, said.stderr
    found = json.loads(said.stdout)
    assert (found["events"], found["lost"], found["duplicates"]) == (6, [[0, 5]], [])
    assert found["propensity"]["checked"] == 2
    table = run()
    assert table.returncode == 1 and "0-5" in table.stdout


@pytest.mark.broker
async def test_an_empty_system_is_in_order(cluster: Cluster, topics: Topics) -> None:
    account, checked = await audit(cluster, topics, "nobody", 1)
    assert account == Account(0, 0, 0, 0, 0, 0, [], [], [])
    assert checked.decisions == 0
