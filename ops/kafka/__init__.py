"""A real Apache Kafka without containers: jars from Maven Central on the JRE that pip installed.

One KRaft node, broker and controller in one process, for a laptop, a demo and the tests.
Knows nothing about topics or about what is sent through them.
"""

from ops.kafka.broker import EmbeddedKafka, Status
from ops.kafka.jars import KAFKA_VERSION
from ops.kafka.locate import bootstrap, embedded
from ops.kafka.properties import Listener
from ops.kafka.refusals import reachable

__all__ = ["KAFKA_VERSION", "EmbeddedKafka", "Listener", "Status", "bootstrap", "embedded", "reachable"]
