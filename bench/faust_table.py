"""A Faust agent with a table: counts each user's events, and answers each with one record. At least once, as it comes.

Table in memory with Faust's own changelog topic. It writes less than driftline and promises less: no decisions, no
outcomes, no transaction (docs/adr/0001 says why not Faust's).

A process of its own: `python -m bench.faust_table BOOTSTRAP PREFIX PLAN`, where PLAN is JSON.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import faust
import msgspec

from bench.job import Plan, answer
from streams.names import Topics


def counting_app(bootstrap: str, topics: Topics, partitions: int, size: int, folder: str, **options: Any) -> faust.App:
    """The app; its answers are `size` bytes each, in the partition of the event that they answer.

    `options`: further ones of Faust's.
    """
    app = faust.App(
        f"{topics.prefix}faust",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        processing_guarantee="at_least_once",
        topic_partitions=partitions,
        topic_disable_leader=True,
        autodiscover=False,
        web_enabled=False,
        **options,
    )
    raw: dict[str, Any] = {"key_serializer": "raw", "value_serializer": "raw", "key_type": bytes, "value_type": bytes}
    events, answers = app.topic(topics.events, **raw), app.topic(topics.recommendations, **raw)
    counts = app.Table("counts", default=int, partitions=partitions)

    @app.agent(events)  # type: ignore[untyped-decorator]
    async def count(stream: Any) -> None:
        async for event in stream.events():
            counts[event.key.decode()] += 1
            value = answer([event.message.offset], size)
            await answers.send(key=event.key, value=value, partition=event.message.partition)

    return app


if __name__ == "__main__":
    made = msgspec.json.decode(sys.argv[3], type=Plan)
    with tempfile.TemporaryDirectory() as scratch:
        app = counting_app(sys.argv[1], Topics(sys.argv[2]), 4, made.recommendations.size, scratch)
        faust.Worker(app, loglevel="WARNING", workdir=scratch).execute_from_commandline()
