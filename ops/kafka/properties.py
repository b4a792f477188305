"""The configuration files of the embedded broker, as text.

Knows nothing about files or processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners={listeners}
advertised.listeners={advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map={protocols}
log.dirs={data}

# One node: every internal topic has one copy.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# A misspelt topic is an error, not a new topic.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# Tests of failures use short sessions; the default minimum is 6 s.
group.min.session.timeout.ms=1000
# After a kill -9 the broker may register again only when its former session is over: 9 s by default.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500

# A laptop, not a server.
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
log.retention.hours=168
log.segment.bytes=134217728
"""

_LOG4J = """\
status=warn
appender.file.type=RollingFile
appender.file.name=File
appender.file.fileName={log}
appender.file.filePattern={log}.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{yyyy-MM-dd HH:mm:ss,SSS}} %p %m (%c)%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=10MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=info
rootLogger.appenderRefs=file
rootLogger.appenderRef.file.ref=File
"""


@dataclass(frozen=True)
class Listener:
    """One more address of the broker beside its plaintext one, on the loopback interface.

    Attributes:
        name: in capital letters, unlike those of the others.
        port: where the broker listens.
        advertised_port: what clients of this address are told to connect to: a proxy's, say; None: `port` itself.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    """

    name: str
    port: int
    advertised_port: int | None = None
    protocol: str = "PLAINTEXT"


def server_properties(
    data: Path,
    port: int,
    controller_port: int,
    listeners: Sequence[Listener] = (),
    extra: Mapping[str, str] | None = None,
) -> str:
    """`server.properties` of one KRaft node; `extra` adds properties or replaces some, since the last one counts."""
    own = (Listener("PLAINTEXT", port), Listener("CONTROLLER", controller_port))
    every = (*own, *listeners)
    text = _SERVER.format(
        data=data,
        controller_port=controller_port,
        listeners=",".join(f"{one.name}://127.0.0.1:{one.port}" for one in every),
        advertised=",".join(f"{one.name}://127.0.0.1:{one.advertised_port or one.port}" for one in every),
        protocols=",".join(f"{one.name}:{one.protocol}" for one in every),
    )
    return text + "".join(f"{name}={value}\n" for name, value in (extra or {}).items())


def log4j_properties(log: Path) -> str:
    """Logging into `log`, at most three files of 10 MB."""
    return _LOG4J.format(log=log)
