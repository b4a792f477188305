"""The part of the client library's admin that `streams.changelog` uses, of a cluster that knows topics by id."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any


class ModelAdmin:
    """Every topic has an id, and keeps tombstones for a day."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def stop(self) -> None: ...

    async def _send_request(self, request: Any) -> Any:
        described = {"error_code": 0, "topic_id": uuid.uuid5(uuid.NAMESPACE_DNS, request._topic)}
        return SimpleNamespace(to_object=lambda: {"cluster_id": "model", "topics": [described]})

    async def describe_configs(self, resources: list[Any]) -> list[Any]:
        return [SimpleNamespace(resources=[(0, None, 2, "state", [("delete.retention.ms", "86400000")])])]
