"""The configuration files of the embedded broker, as text.

Knows nothing about files or processes.
"""

from __future__ import annotations

from pathlib import Path

_SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
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


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """`server.properties` of one KRaft node on the loopback interface."""
    return _SERVER.format(data=data, port=port, controller_port=controller_port)


def log4j_properties(log: Path) -> str:
    """Logging into `log`, at most three files of 10 MB."""
    return _LOG4J.format(log=log)
