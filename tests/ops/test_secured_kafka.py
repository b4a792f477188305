"""driftline on a Kafka with encryption, logins and access rules: exactly the printed permissions are enough, none less.

One broker for the module (tests/secured.py). Whatever its processes write is looked through for the password.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka.admin import NewTopic
from aiokafka.errors import TopicAuthorizationFailedError
from structlog.testing import capture_logs
from typer.testing import CliRunner

from ops.audit import audit
from ops.cli import app
from ops.errors import CliError
from ops.health.checking import Finding, Patient
from ops.health.doctor import CHECKS, examine
from ops.kafka import broker as module
from ops.kafka.refusals import explained, reachable
from ops.login import TokenFile
from ops.newest import newest
from ops.sending import send_all
from streams.acls import ROLES, Acl
from streams.cluster import Cluster
from streams.contracts import Recommendation, encode
from streams.embedder import EmbedderConfig
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.learner import Learner, LearnerConfig
from streams.releases import publish_release, read_models
from streams.restore import read_to_end
from streams.topics import TopicError, Topics, create, verify
from streams.training import History, read_history, read_items
from tests import small
from tests.conftest import Wire
from tests.ops.deadletters.posted import Bad, post
from tests.secured import SECRET, Secured, password, secured_kafka, token
from tests.streams.outcomes import outcomes
from tests.streams.test_embedder import TinyEncoder, embedding, item, record
from tests.streams.test_engine import CountPerKey
from tests.streams.test_worker import events, publish_world

pytestmark = pytest.mark.broker

TOPICS = Topics("shop.")
APP = "shop-app"
LACKING: dict[str, Acl] = {
    "lacks-decisions": Acl("topic", TOPICS.decisions, "literal", "Write"),
    "lacks-state": Acl("topic", TOPICS.state, "literal", "Read"),
    "lacks-events": Acl("topic", TOPICS.events, "literal", "Read"),
    "lacks-group": Acl("group", APP, "literal", "Read"),
    "lacks-transactions": Acl("transactional-id", f"{APP}-{TOPICS.events}-", "prefixed", "Write"),
}
"""Workers' users that have all that is printed but one."""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, jar_cache: Path) -> Iterator[Secured]:
    """A broker whose users have the permissions that `driftline topics acls` prints, and topics made by `admin`."""
    users = [*ROLES, *LACKING, "nobody"]
    with secured_kafka(tmp_path_factory.mktemp("secured"), jar_cache, users) as running:
        printed = printed_acls()
        asyncio.run(allow_all(running, printed))
        asyncio.run(create(running.cluster("admin"), TOPICS))
        yield running
        gc.collect()  # what was left unclosed is said here, not in another module


def printed_acls() -> dict[str, list[Acl]]:
    """What the command prints for programs."""
    environment = {"DRIFTLINE_TOPIC_PREFIX": TOPICS.prefix, "DRIFTLINE_APP_ID": APP}
    shown = CliRunner().invoke(app, ["topics", "acls", "--json"], env=environment, catch_exceptions=False)
    return {role: [Acl(**acl) for acl in found["acls"]] for role, found in json.loads(shown.stdout).items()}


async def allow_all(secured: Secured, printed: dict[str, list[Acl]]) -> None:
    for role, rules in printed.items():
        await secured.allow(role, rules)
    for user, lacking in LACKING.items():
        assert lacking in printed["worker"]
        await secured.allow(user, [acl for acl in printed["worker"] if acl != lacking])


@pytest.fixture
def wire(secured: Secured) -> Wire:
    """The super user's."""
    return Wire(secured.super_user)


@pytest.fixture
def topics() -> Topics:
    return TOPICS


def start(secured: Secured, user: str, *command: str, **settings: str) -> subprocess.Popen[str]:
    """Start `driftline command` as `user`; what it says comes in one stream."""
    environment = (
        os.environ | secured.settings(user) | SETTINGS | {"DRIFTLINE_DATA_DIR": str(secured.folder)} | settings
    )
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", *command],
        env=environment | {"DRIFTLINE_DATA_DIR": str(secured.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


SETTINGS = {
    "DRIFTLINE_TOPIC_PREFIX": TOPICS.prefix,
    "DRIFTLINE_APP_ID": APP,
    "DRIFTLINE_EVENTS_ACTIONS": ",".join(small.RULES.actions),
    "DRIFTLINE_POLICY_CANDIDATES": "20",
    "DRIFTLINE_POLICY_SLATE_SIZE": "5",
    "OMP_NUM_THREADS": "1",
}


async def test_a_worker_serves_with_exactly_the_printed_permissions(secured: Secured, wire: Wire) -> None:
    await publish_world(wire, TOPICS, secured.folder)
    worker = start(secured, "worker", "worker")
    try:
        await send_all(secured.cluster("producer"), TOPICS.events, iter([*events(30), (b"u1", b"{")]))
        async with asyncio.timeout(90):
            subscriber = secured.cluster("subscriber")
            while not (found := await newest(subscriber, TOPICS.recommendations, [b"u3"])):
                assert worker.poll() is None
                await asyncio.sleep(0.5)
            while not await wire.read(TOPICS.events_dlq):
                await asyncio.sleep(0.2)
    finally:
        worker.send_signal(signal.SIGTERM)
        said = worker.communicate(timeout=60)[0]
        print(said)
    assert msgspec.json.decode(found[b"u3"].value, type=Recommendation).user == "u3"
    assert worker.returncode == 0
    assert SECRET not in said
    account, checked = await audit(secured.cluster("auditor"), TOPICS, APP, 5)
    assert account.clean and account.dead_letters == 1 and account.events == 31 and not checked.wrong_logits
    replaying = start(secured, "replayer", "replay")
    said = replaying.communicate(timeout=60)[0]
    assert replaying.returncode == 0, said


async def test_the_learner_needs_no_more(secured: Secured, wire: Wire) -> None:
    await wire.produce(TOPICS.outcomes, [(one.user.encode(), encode(one)) for one in outcomes(20)])
    config = LearnerConfig(secured.cluster("learner"), APP, TOPICS.outcomes, TOPICS.models, publish_every_s=0.2)
    learner = Learner(config)
    learning = asyncio.create_task(learner.run())
    async with asyncio.timeout(60):
        while (await read_models(secured.super_user, TOPICS.models)).estimator is None:
            assert not learning.done()
            await asyncio.sleep(0.1)
    learner.stop()
    await learning


async def test_the_embedder_needs_no_more_and_fausts_clients_log_in_too(
    secured: Secured, wire: Wire, tmp_path: Path
) -> None:
    await send_all(secured.cluster("catalogue"), TOPICS.items, iter([record(item(1)), (b"i2", b"{")]))
    config = EmbedderConfig(secured.cluster("embedder"), f"{APP}-embed", TOPICS, tmp_path)
    async with asyncio.timeout(60), embedding(config, TinyEncoder()):
        while b"i1" not in {made.key for made in await wire.read(TOPICS.item_vectors)}:
            await asyncio.sleep(0.1)
        while not await wire.read(TOPICS.items_dlq):
            await asyncio.sleep(0.1)


async def test_the_trainer_and_the_admin_need_no_more(secured: Secured, wire: Wire) -> None:
    trainer = secured.cluster("trainer")
    await read_items(trainer, TOPICS.item_vectors)
    await read_history(trainer, TOPICS.events, History(["i0"], small.RULES.actions), small.RULES)
    before = (await read_models(secured.super_user, TOPICS.models)).release
    if before is not None:
        await publish_release(trainer, TOPICS.models, before)
    assert await verify(secured.cluster("admin"), TOPICS) == []


def run(secured: Secured, user: str, *command: str) -> str:
    """Run `driftline command` as `user` in this process, which must work out; return what it says."""
    environment = secured.settings(user) | SETTINGS | {"DRIFTLINE_DATA_DIR": str(secured.folder)}
    done = CliRunner().invoke(app, command, env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    return done.output


def test_the_eraser_needs_no_more(secured: Secured) -> None:
    """There is no worker here to answer it."""
    run(secured, "eraser", "erase", "somebody", "--no-wait")
    run(secured, "eraser", "erase", "nobody-ever", "--verify")


def test_the_mender_sends_again_and_only_the_purger_deletes(secured: Secured) -> None:
    asyncio.run(Wire(secured.super_user).produce(TOPICS.items, [(b"other", b"{}")] * 4))  # to be read: newer, perhaps
    asyncio.run(post(secured.super_user, TOPICS.items_dlq, TOPICS.items, [Bad(b"{}", b"mended", "schema")]))
    assert "mended" in run(secured, "mender", "dlq", "list", "--items", "--item", "mended", "--json")
    assert "1 sent again." in run(secured, "mender", "dlq", "replay", "--items", "--item", "mended", "--yes")
    assert b"mended" in asyncio.run(keys(secured, TOPICS.items))
    with pytest.raises(CliError, match=r"refuses user mender a permission on .*\(topic\)"):
        run(secured, "mender", "dlq", "purge", "--items", "--all", "--yes")
    assert b"mended" in asyncio.run(keys(secured, TOPICS.items_dlq))
    run(secured, "purger", "dlq", "purge", "--items", "--all", "--yes")
    assert b"mended" not in asyncio.run(keys(secured, TOPICS.items_dlq))


async def keys(secured: Secured, topic: str) -> set[bytes]:
    return {record.key for record in await Wire(secured.super_user).read(topic)}


async def test_a_worker_may_do_nothing_else(secured: Secured, wire: Wire) -> None:
    worker = secured.cluster("worker")
    await wire.produce(TOPICS.decisions, [(b"k", b"v")], partition=0)  # an empty topic cannot be read, whoever tries
    with pytest.raises(TopicAuthorizationFailedError, match=TOPICS.events):
        await send_all(worker, TOPICS.events, iter([(b"u", b"{}")]))
    with pytest.raises(TopicAuthorizationFailedError, match=TOPICS.items):
        await read_to_end(worker, TOPICS.items, print)
    with pytest.raises(TopicAuthorizationFailedError, match=TOPICS.decisions):
        await read_to_end(worker, TOPICS.decisions, print, partition=0)
    admin = worker.admin()
    await admin.start()
    try:
        created = await admin.create_topics([NewTopic(f"{TOPICS.prefix}mine", 1, 1)])
        deleted = await admin.delete_topics([TOPICS.decisions])
    finally:
        await admin.close()
    assert [code for _, code, _ in created.topic_errors] == [29]  # TOPIC_AUTHORIZATION_FAILED
    assert [code for _, code in deleted.topic_error_codes] == [29]
    with pytest.raises(TopicError, match="Authorization failed"):
        await create(worker, Topics("elsewhere."))


@pytest.mark.parametrize("user", LACKING)
async def test_without_one_permission_nothing_is_committed_and_the_log_names_what_is_missing(
    secured: Secured, wire: Wire, user: str
) -> None:
    """The engine as the worker has it, around a job that counts; the start checks of the command are left out.

    What a group may not do ends the engine, what a partition may not do is tried again: somebody may allow it.
    """

    def names(error: object) -> bool:
        return LACKING[user].name in str(error)

    await wire.produce(TOPICS.events, [(b"k", b"x")] * 5, partition=0)
    await wire.produce(TOPICS.state, [(b"k", b"0")], partition=0)  # nothing is refused of what is not there
    before = await written(wire)
    config = EngineConfig(secured.cluster(user), APP, TOPICS.events, TOPICS.state, TOPICS.events_dlq)
    engine = Engine(config, CountPerKey(TOPICS.decisions))
    with capture_logs() as logs:
        running = asyncio.create_task(engine.run())
        try:
            async with asyncio.timeout(60):
                while not running.done() and not any(names(line.get("error")) for line in logs):
                    await asyncio.sleep(0.1)
        finally:
            engine.stop()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
    assert ended is None or names(ended)
    assert await written(wire) == before
    assert SECRET not in str(logs)


async def written(wire: Wire) -> list[int]:
    """How much a job has written to the partition in question; others may have no state whose reading is refused."""
    topics = (TOPICS.decisions, TOPICS.state)
    return [sum(record.partition == 0 for record in await wire.read(name)) for name in topics]


def test_what_is_refused_is_one_line_within_seconds(secured: Secured) -> None:
    """Three processes at once, since most of a process's time is Python's start."""
    wrong = secured.folder / "wrong-password"
    wrong.write_text(f"{SECRET}-wrong")
    items = secured.folder / "items.csv"
    items.write_text("item,title\ni1,A film\n")
    begun = time.monotonic()
    started = {
        "user worker log in: Authentication failed": start(
            secured, "worker", "worker", DRIFTLINE_KAFKA_SASL_PASSWORD_FILE=str(wrong)
        ),
        "is not trusted: unable to get local issuer certificate": start(
            secured, "admin", "topics", "verify", DRIFTLINE_KAFKA_SSL_CA_FILE=str(secured.folder / "other-ca.pem")
        ),
        "user nobody may not see it": start(secured, "nobody", "items", "send", str(items)),
        "refuses user nobody a permission on shop.recommendations": start(secured, "nobody", "recommend", "u1"),
    }
    for expected, process in started.items():
        said = process.communicate(timeout=60)[0]
        print(said)
        assert process.returncode == 1
        assert expected in said
        assert "Traceback" not in said and SECRET not in said
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
        assert len(said.splitlines()) <= 4
    assert time.monotonic() - begun < 60


def test_a_wrong_way_to_connect_is_told(secured: Secured, tmp_path: Path) -> None:
    other = ssl.create_default_context(cafile=secured.folder / "other-ca.pem")
    for cluster, expected in (
        (secured.cluster("worker", sasl_plain_password="wrong"), "does not let user worker log in"),
        (secured.cluster("worker", sasl_mechanism="SCRAM-SHA-256"), "does not log in that way"),
        (secured.cluster("worker", ssl_context=other), "not trusted: unable to get local issuer"),
        (secured.cluster("worker", security_protocol="SASL_PLAINTEXT"), "ends the connection at the first request"),
        (Cluster(secured.address), "ends the connection at the first request"),
        (Cluster("127.0.0.1:1", secured.cluster("worker").security), "no Kafka answers at 127.0.0.1:1"),
    ):
        problem = explained(cluster)
        assert expected in problem.problem
        assert SECRET not in str(problem) + repr(cluster)


async def test_a_refusal_is_explained_from_within_an_event_loop(secured: Secured) -> None:
    wrong = secured.cluster("worker", sasl_plain_password="wrong")
    with pytest.raises(CliError, match="does not let user worker log in"), reachable(wrong):
        await create(wrong, TOPICS)


async def test_other_ways_to_log_in(secured: Secured, tmp_path: Path) -> None:
    await secured.cluster("plain", sasl_mechanism="PLAIN").check()
    file = tmp_path / "token"
    bearer = secured.cluster("", sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=TokenFile(file))
    file.write_text(token("somebody", time.time() + 300))
    await bearer.check()
    file.write_text(token("somebody", time.time() - 300))
    assert "expired 300 s ago" in explained(bearer).problem
    file.write_text("nonsense")
    with pytest.raises(CliError, match="the bearer of the token log in: the token is not accepted"), reachable(bearer):
        raise AssertionError("never reached: clients would wait for ever")


async def test_a_certificate_can_be_the_login(secured: Secured) -> None:
    context = ssl.create_default_context(cafile=secured.ca_file)
    mutual = Cluster(secured.mutual, {"security_protocol": "SSL", "ssl_context": context})
    assert "encrypted connection" in explained(mutual).problem or "ends the connection" in explained(mutual).problem
    context.load_cert_chain(secured.folder / "client.pem")
    await mutual.check()


def test_kafkas_own_command_takes_what_is_printed(secured: Secured, jar_cache: Path) -> None:
    environment = {"DRIFTLINE_TOPIC_PREFIX": TOPICS.prefix, "DRIFTLINE_APP_ID": APP}
    printed = CliRunner().invoke(app, ["topics", "acls", "--role", "worker"], env=environment).stdout
    (line,) = [line for line in printed.splitlines() if "prefixed" in line]
    admin = secured.folder / "admin.properties"
    admin.write_text("")
    words = [word.replace("$KAFKA", str(secured.super_user)) for word in shlex.split(line)][1:]
    words[words.index("admin.properties")] = str(admin)
    log4j = secured.kafka.folder / "log4j2.properties"
    command = module.java.command(
        module.jars.jars(jar_cache, str), log4j, "org.apache.kafka.tools.AclCommand", quick=True
    )
    said = subprocess.run([*command, *words], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert f"resourceType=TRANSACTIONAL_ID, name={APP}-{TOPICS.events}-, patternType=PREFIXED" in said.stdout
    assert "operation=WRITE" in said.stdout


def test_the_broker_wrote_no_password_down(secured: Secured) -> None:
    """Last in the module: the broker's own logs. (Its settings name those of its test users.)"""
    for log in (secured.kafka.folder / "logs").iterdir():
        assert password("worker") not in log.read_text(errors="replace")


def test_the_doctor_names_what_is_lacking(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(user: str) -> dict[str, Finding]:
        for name, value in (secured.settings(user) | SETTINGS).items():
            monkeypatch.setenv(name, value)
        asked = ("settings", "kafka", "permissions", "topics", "transactions")
        return dict(examine(Patient(("worker",)), tuple(check for check in CHECKS if check.name in asked)))

    assert {name: one.state for name, one in found("worker").items() if one.state != "ok"} == {}
    for user in ("lacks-decisions", "lacks-group", "lacks-transactions"):
        lacking, findings = LACKING[user], found(user)
        at = "transactions" if lacking.resource == "transactional-id" else "permissions"
        failed = [name for name, one in findings.items() if one.state == "failed"]
        assert failed in ([at], [at, "topics"]), findings  # a topic that may not be written may not be seen either
        wanted = lacking.name if at == "transactions" else f"{lacking.operation} on {lacking.resource} {lacking.name}"
        assert wanted in findings[at].said and "topics acls" in findings[at].mend
