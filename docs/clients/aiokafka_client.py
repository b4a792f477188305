"""Send an event to driftline and follow what it recommends, with aiokafka.

python aiokafka_client.py localhost:9092 send USER ITEM
python aiokafka_client.py localhost:9092 follow [COUNT]
"""

import asyncio
import json
import os
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

PREFIX = os.environ.get("DRIFTLINE_TOPIC_PREFIX", "")


async def send(servers: str, user: str, item: str) -> None:
    # All copies have the event before it counts as sent, and a resend after a lost answer is not a second event.
    producer = AIOKafkaProducer(bootstrap_servers=servers, enable_idempotence=True, acks="all")
    await producer.start()
    try:
        event = {"kind": "interaction", "user": user, "item": item, "action": "click", "time": int(time.time() * 1000)}
        event["id"] = str(uuid.uuid4())  # should this program be run again with the same id, it is turned away
        # The key is the user: it decides the partition, and with it the order.
        sent = await producer.send_and_wait(f"{PREFIX}events", json.dumps(event).encode(), key=user.encode())
        print(f"sent {sent.partition}-{sent.offset}")  # what the slate that answers it is called
    finally:
        await producer.stop()


async def follow(servers: str, count: int) -> None:
    consumer = AIOKafkaConsumer(
        f"{PREFIX}recommendations",
        bootstrap_servers=servers,
        group_id="my-shop-front",
        isolation_level="read_committed",  # without it you read slates of transactions that were aborted
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async for record in consumer:
            if record.value is None:
                print(f"{record.key.decode()}: forgotten")  # the user was erased: forget his slate, too
            else:
                slate = json.loads(record.value)
                shown = zip(slate["items"], slate["inclusion"] or slate["conditional"], strict=True)
                print(f"{slate['user']} {slate['slate']}:", " ".join(f"{item} ({p:.3f})" for item, p in shown))
            if (count := count - 1) == 0:
                break
    finally:
        await consumer.stop()


if __name__ == "__main__":
    servers, verb, *rest = sys.argv[1:]
    asyncio.run(send(servers, *rest) if verb == "send" else follow(servers, int(rest[0]) if rest else -1))
