"""Avro schemas by their ids, from a registry that speaks the Confluent protocol; asked once for each id.

Blocking, with a limit of seconds: whoever calls waits. Knows nothing of what a schema describes.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from streams.job import NotNow

WITHIN_S = 5.0
KEPT = 1000
"""Schemas that are remembered; an id means the same for ever."""

UNKNOWN_FOR_S = 10.0
"""How long an id that the registry did not know is not asked for again."""

_MAX_BYTES = 1_000_000


class UnknownSchema(ValueError):
    """The registry has no such schema, or it cannot be used."""


class SchemaRegistry:
    """Schemas of one registry; may be called from several threads.

    `parse` makes of a schema's text what callers get; raises ValueError where it cannot be used.
    """

    def __init__(
        self,
        url: str,
        parse: Callable[[str], Any],
        user: str | None = None,
        password: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._parse, self._clock = urlsplit(url), parse, clock
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if user is not None:
            login = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        self._known: OrderedDict[int, Any] = OrderedDict()
        self._unknown: OrderedDict[int, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()

    def schema(self, number: int) -> Any:
        """What `parse` made of the schema with this id.

        Raises `UnknownSchema` where there is none that can be used, `NotNow` where the registry does not say.
        """
        with self._lock:
            if number in self._known:
                self._known.move_to_end(number)
                return self._known[number]
            until, why = self._unknown.get(number, (0.0, ""))
            if self._clock() < until:
                raise UnknownSchema(why)
        return self._fetched(number)

    def _fetched(self, number: int) -> Any:
        try:
            found = self._parse(self._ask(number))
        except UnknownSchema as error:
            self._forget_soon(number, str(error))
            raise
        except ValueError as error:
            self._forget_soon(number, f"schema {number} cannot be used: {error}")
            raise UnknownSchema(f"schema {number} cannot be used: {error}") from error
        with self._lock:
            self._known[number] = found
            _trim(self._known)
        return found

    def _forget_soon(self, number: int, why: str) -> None:
        with self._lock:
            self._unknown[number] = (self._clock() + UNKNOWN_FOR_S, why)
            self._unknown.move_to_end(number)
            _trim(self._unknown)

    def _ask(self, number: int) -> str:
        """The schema's text. A login that is refused is no fault of the record: it is asked again, too."""
        try:
            status, body = self._get(f"{self._url.path.rstrip('/')}/schemas/ids/{number}")
        except (OSError, HTTPException) as error:
            raise NotNow(f"the schema registry at {self._url.netloc} does not answer: {error!r}") from error
        if status == 404:
            raise UnknownSchema(f"the registry has no schema with id {number}")
        if status != 200:
            raise NotNow(f"the schema registry at {self._url.netloc} answers {status}")
        try:
            told = json.loads(body)
        except ValueError as error:
            raise NotNow(f"the schema registry at {self._url.netloc} answers with what is no JSON") from error
        if not isinstance(told, dict) or not isinstance(told.get("schema"), str):
            raise NotNow(f"the schema registry at {self._url.netloc} answers without a schema")
        if told.get("schemaType", "AVRO") != "AVRO":
            raise UnknownSchema(f"schema {number} is {told['schemaType']}, expected AVRO")
        if told.get("references"):
            raise UnknownSchema(f"schema {number} refers to others, expected one that is whole")
        return str(told["schema"])

    def _get(self, path: str) -> tuple[int, bytes]:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            connection: HTTPConnection = HTTPSConnection(host, port, timeout=WITHIN_S, context=context)
        else:
            connection = HTTPConnection(host, port, timeout=WITHIN_S)
        try:
            connection.request("GET", path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(_MAX_BYTES + 1)
            if len(body) > _MAX_BYTES:
                raise HTTPException(f"more than {_MAX_BYTES:,} bytes")
            return answer.status, body
        finally:
            connection.close()


def _trim(known: OrderedDict[int, Any]) -> None:
    while len(known) > KEPT:
        known.popitem(last=False)
