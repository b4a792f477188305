"""Send an event to driftline and follow what it recommends, with confluent-kafka.

python confluent_client.py localhost:9092 send USER ITEM
python confluent_client.py localhost:9092 follow [COUNT]
"""

import json
import os
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer

PREFIX = os.environ.get("DRIFTLINE_TOPIC_PREFIX", "")


def send(servers: str, user: str, item: str) -> None:
    # librdkafka's own default, CRC32, puts a user into another partition than Java's and aiokafka's clients do.
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "partitioner": "murmur2_random"})
    event = {"kind": "interaction", "user": user, "item": item, "action": "click", "time": int(time.time() * 1000)}
    event["id"] = str(uuid.uuid4())

    def delivered(error: object, message: object) -> None:
        if error is not None:
            raise SystemExit(f"not sent: {error}")
        print(f"sent {message.partition()}-{message.offset()}")  # type: ignore[attr-defined]

    producer.produce(f"{PREFIX}events", json.dumps(event).encode(), key=user.encode(), on_delivery=delivered)
    producer.flush(30)


def follow(servers: str, count: int) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "my-shop-front-c",
            "isolation.level": "read_committed",  # librdkafka's default; said because everything depends on it
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([f"{PREFIX}recommendations"])
    try:
        while count != 0:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error() is not None:
                raise SystemExit(record.error().str())
            count -= 1
            if record.value() is None:
                print(f"{record.key().decode()}: forgotten")
                continue
            slate = json.loads(record.value())
            shown = zip(slate["items"], slate["inclusion"] or slate["conditional"], strict=True)
            print(f"{slate['user']} {slate['slate']}:", " ".join(f"{item} ({p:.3f})" for item, p in shown), flush=True)
    finally:
        consumer.close()


if __name__ == "__main__":
    servers, verb, *rest = sys.argv[1:]
    if verb == "send":
        send(servers, *rest)
    else:
        follow(servers, int(rest[0]) if rest else -1)
