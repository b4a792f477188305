"""Checks of Kafka: whether it answers, what it is, what it allows, how the topics are made, what is published.

No record is written; `transactions` leaves a transactional id, which the cluster forgets after a week.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from ops.errors import CliError
from ops.health.checking import FAILED, OK, SKIPPED, WARNING, Finding, Patient
from ops.health.cluster import ClusterFacts, read_cluster
from ops.health.protocol import PermittedRequest
from ops.health.saying import duration
from ops.health.topics import read_topics
from ops.kafka.refusals import PERMISSIONS, reachable
from streams.acls import acls, topics_of
from streams.cluster import Cluster, running
from streams.releases import read_models
from streams.topics import TopicError

CLOCK_S = 1.0
"""Clocks that are further apart are worth a warning."""

_TRANSACTION_WITHIN_S = 20.0
_BITS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
"""Kafka's numbers of operations (org.apache.kafka.common.acl.AclOperation)."""

_TOLD_NOTHING = -(2**31)
_TOPIC_REFUSED, _GROUP_REFUSED = 29, 30


def kafka(patient: Patient) -> Finding:
    """It answers, and lets us in."""
    from ops.connection import connect

    cluster = connect(patient.settings)
    with reachable(cluster):
        patient.about = asyncio.run(read_cluster(cluster))
    patient.connected = cluster
    brokers = patient.about.brokers
    login = f", as {cluster.login}" if cluster.logs_in else ""
    return Finding(OK, f"{len(brokers)} broker(s) at {', '.join(brokers.values())}{login}")


def version(patient: Patient) -> Finding:
    """Kafka 4 or later: what driftline is tested with."""
    release = _about(patient).release
    if release.least >= (4, 0):
        return Finding(OK, f"Kafka {release.words}")
    mend = "Upgrade it; driftline is tested with Kafka 4 only, and needs a cluster without ZooKeeper."
    return Finding(WARNING, f"Kafka {release.words}", mend)


def clock(patient: Patient) -> Finding:
    """This machine's clock agrees with the controller's, which tells it when it is asked who leads."""
    read = _about(patient).clock
    if read is None:
        return Finding(SKIPPED, "the cluster does not tell (it needs the right to Describe the cluster)")
    apart, sure = abs(read.ahead_s), abs(read.ahead_s) - read.within_s
    way = "behind" if read.ahead_s > 0 else "ahead of"
    if sure <= CLOCK_S:
        return Finding(OK, f"within {apart + read.within_s:.2f} s of the controller's")
    said = f"{duration(apart)} {way} the controller's, give or take {read.within_s:.2f} s"
    mend = "Have both keep time (chrony, systemd-timesyncd): ages, latencies and windows are wrong by as much."
    return Finding(FAILED if sure > patient.settings.events_max_clock_skew_s else WARNING, said, mend)


def permissions(patient: Patient) -> Finding:
    """Everything that the roles must be allowed to do with topics and groups is allowed; nothing is tried out."""
    settings, cluster = patient.settings, patient.cluster
    needed = [acl for role in patient.roles for acl in acls(role, patient.names, settings.app_id)]
    asked = list(dict.fromkeys(acl.name for acl in needed if acl.resource == "topic"))
    try:
        answer = asyncio.run(cluster.ask(PermittedRequest(asked)))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return Finding(SKIPPED, "this Kafka does not tell")
    allowed = {
        name: 0 if code == _TOPIC_REFUSED else operations
        for code, name, _, _, operations in answer.topics
        if code == _TOPIC_REFUSED or operations != _TOLD_NOTHING
    }
    missing = [
        f"{acl.operation} on topic {acl.name}"
        for acl in dict.fromkeys(needed)
        if acl.resource == "topic" and not allowed.get(acl.name, -1) >> _BITS[acl.operation] & 1
    ]
    groups = dict.fromkeys(acl.name for acl in needed if acl.resource == "group")
    missing += [f"Read on group {group}" for group in asyncio.run(_refused(cluster, list(groups)))]
    of = " and ".join(patient.roles)
    if missing:
        said = f"{cluster.login} lacks what {of} must be allowed: {missing[0]}"
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        return Finding(FAILED, said + more, PERMISSIONS, tuple(missing))
    return Finding(OK, f"{of}: {len(asked)} topics and {len(groups)} group(s) as needed")


async def _refused(cluster: Cluster, groups: list[str]) -> list[str]:
    """Groups that may not even be looked at; whether they may be joined shows only when somebody joins."""
    found = []
    async with running(cluster.admin()) as admin:
        for group in groups:
            try:
                (answer,) = await admin.describe_consumer_groups([group])
                code = answer.groups[0][0]
            except KafkaError as error:
                code = error.errno
            found += [group] if code == _GROUP_REFUSED else []
    return found


def topics(patient: Patient) -> Finding:
    """They are there, with partitions alike, compacted where they must be, and take messages that are large enough."""
    settings, used = patient.settings, None
    if patient.cluster.logs_in:  # others may not be looked at
        used = {name: config for role in patient.roles for name, config in topics_of(role, patient.names).items()}
    try:
        patient.found = asyncio.run(read_topics(patient.cluster, patient.names, settings.partitions, used))
    except TopicError as error:
        return Finding(FAILED, str(error), PERMISSIONS)
    problems = [problem for facts in patient.found.values() for problem in facts.problems]
    problems += [f"{one.name} has partitions without a leader" for one in patient.found.values() if one.leaderless]
    if problems:
        said = problems[0] if len(problems) == 1 else f"{len(problems)} problems, the first: {problems[0]}"
        mend = "Create missing ones with `driftline topics create`; `driftline topics verify` lists all that is wrong."
        return Finding(FAILED, said, mend, tuple(problems))
    return Finding(OK, f"{len(patient.found)} topics, {settings.partitions} partitions where they follow events")


def retention(patient: Patient) -> Finding:
    """Records are kept as long as `topics create` would have it, and carry the times that their writers gave them."""
    differs = [
        f"{facts.name} has {key} {real}; `driftline topics create` makes it {made}"
        for facts in patient.found.values()
        for key, (real, made) in facts.differs.items()
        if not facts.problems
    ]
    differs += [
        f"{facts.name} has message.timestamp.type {facts.timestamps}; driftline is tested with CreateTime"
        for facts in patient.found.values()
        if facts.timestamps not in ("", "CreateTime")
    ]
    if not differs:
        return Finding(OK, "segments, retention and timestamps as they are made")
    said = differs[0] if len(differs) == 1 else f"{len(differs)} settings are otherwise, the first: {differs[0]}"
    return Finding(WARNING, said, "Nothing to do if that is meant; otherwise alter the topic.", tuple(differs))


def copies(patient: Patient) -> Finding:
    """A topic survives the loss of a broker, and goes on being written to meanwhile."""
    brokers = len(_about(patient).brokers)
    there = [facts for facts in patient.found.values() if facts.partitions]
    if not there:
        return Finding(SKIPPED, "there are no topics")
    single = [facts.name for facts in there if facts.copies < 2]
    strict = [facts.name for facts in there if 1 < facts.copies <= facts.insync_needed]
    said, mend = "", ""
    if short := [facts.name for facts in there if facts.short]:
        said, mend = f"partitions of {', '.join(short)} lack copies in step", "Is a broker away, or behind?"
    elif strict:
        said = f"a broker that is away stops writing to {', '.join(strict)}"
        mend = "Set min.insync.replicas of these topics below their number of copies."
    elif single and brokers > 1:
        said, mend = f"{len(single)} topics have one copy only", "Give them more: kafka-reassign-partitions.sh."
    if said:
        return Finding(WARNING, said, mend)
    return Finding(OK, "one broker, so one copy" if brokers == 1 else f"at least {min(one.copies for one in there)}")


def transactions(patient: Patient) -> Finding:
    """A transaction can be begun and given up, with the time that the settings give it. Nothing is written in it."""
    if "worker" not in patient.roles:
        return Finding(SKIPPED, "asked of workers only: another's transactional id would take it from him who has it")
    settings = patient.settings
    of = f"{settings.app_id}-{patient.names.events}-doctor"
    limit = round(settings.engine_transaction_timeout_s * 1000)
    try:
        asyncio.run(_empty_transaction(patient.cluster, of, limit))
    except TimeoutError:
        mend = "See transaction.state.log.replication.factor of the brokers: there must be as many of them."
        return Finding(FAILED, f"no coordinator of transactions answers within {_TRANSACTION_WITHIN_S:.0f} s", mend)
    except KafkaError as error:
        name = type(error).__name__
        if "Authorization" in name:
            return Finding(
                FAILED, f"{patient.cluster.login} may not use transactional ids that begin so: {of}", PERMISSIONS
            )
        mend = "DRIFTLINE_ENGINE_TRANSACTION_TIMEOUT_S must not exceed the brokers' transaction.max.timeout.ms."
        return Finding(
            FAILED, f"no transaction of {limit} ms: {name}", mend if "Timeout" in name else "See Kafka's log."
        )
    return Finding(OK, f"one of up to {limit:,} ms was begun and given up")


async def _empty_transaction(cluster: Cluster, of: str, limit: int) -> None:
    producer = cluster.producer(transactional_id=of, transaction_timeout_ms=limit)
    try:
        async with asyncio.timeout(_TRANSACTION_WITHIN_S):
            await producer.start()
            await producer.begin_transaction()
            await producer.abort_transaction()
    finally:
        with contextlib.suppress(KafkaError):
            await producer.stop()


def release(patient: Patient) -> Finding:
    """What is published can be loaded here, and reads the vectors that this encoder makes."""
    models = patient.found.get("models")
    if models is None or not models.partitions:
        return Finding(SKIPPED, "there is no topic of models")
    try:
        pointer = asyncio.run(read_models(patient.cluster, models.name)).release
    except ValueError as error:
        return Finding(FAILED, str(error))
    if pointer is None:
        return Finding(WARNING, "none is published, so that nothing is recommended", "Make one: `driftline train`.")
    return _loaded(patient, pointer)


def _loaded(patient: Patient, pointer: Any) -> Finding:
    from models.release import WEIGHTS, Release

    folder = patient.settings.releases_dir / pointer.release
    try:
        loaded = Release.load(folder)
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        mend = "Workers read what learner and `driftline train` write: DRIFTLINE_RELEASES_DIR must be the same folder."
        return Finding(FAILED, f"{pointer.release} cannot be loaded: {error}", mend)
    if digest != pointer.digest:
        return Finding(
            FAILED, f"{folder} is not what was published as {pointer.release}", "Copy it again, or train anew."
        )
    if patient.encoder is not None and loaded.text_encoder != patient.encoder:
        said = f"{pointer.release} reads vectors of encoder {loaded.text_encoder}, the settings name {patient.encoder}"
        return Finding(
            WARNING, said, "Set DRIFTLINE_ENCODER_PATH to its encoder, or embed all items again and train anew."
        )
    return Finding(OK, f"{pointer.release} loads")


def _about(patient: Patient) -> ClusterFacts:
    if patient.about is None:
        raise CliError("the cluster was not read")
    return patient.about
