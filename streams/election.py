"""Which member of a group is the active one, and what it does then; the others stand by.

A consumer group over the one partition of a topic elects: who is assigned the partition serves its duties, each a
series of terms that start from what was published last. Two members may believe to be active for a moment: what a
term publishes must be fenced by a transactional id. Knows Kafka's groups; knows nothing of what a duty does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.cluster import Cluster
from streams.transactions import Fenced, NotCommitted

log = structlog.get_logger(__name__)

LEAVE_WITHIN_S = 20
"""How long the active member may take to publish what it has when it is to stop."""


class Term(Protocol):
    """One time of being active: from what was published last, until `leave` is set or something fails."""

    async def run(self) -> None:
        """Serve; raise Fenced when another has taken over, NotCommitted, KafkaError or OSError to be begun again."""

    def status(self) -> dict[str, Any]:
        """Plain JSON values."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What is contended for: the one partition of `topic`, by the group `group_id`."""

    cluster: Cluster
    group_id: str
    topic: str
    session_timeout_ms: int = 10_000
    retry_seconds: float = 1.0


class Duty:
    """Something that only the active member does: terms, one after the other, each made by `begin(leave)`."""

    def __init__(self, name: str, seat: Seat, begin: Callable[[asyncio.Event], Term]) -> None:
        self.name, self._seat, self._begin = name, seat, begin
        self.state = "standing by"
        self.term: Term | None = None

    async def serve(self, leave: asyncio.Event) -> None:
        """Serve terms until told to leave; after a failure a new one. Raises what no new term can mend."""
        try:
            while not leave.is_set():
                await self._serve_term(leave)
        finally:
            self.state, self.term = "standing by", None

    async def _serve_term(self, leave: asyncio.Event) -> None:
        self.state = "learning"
        self.term = self._begin(leave)
        try:
            await self.term.run()
        except Fenced as error:
            # Normally a rebalance follows soon. If none does, the other member is gone again.
            self.state, wait = "fenced", 2 * self._seat.session_timeout_ms / 1000
            log.warning("fenced", duty=self.name, error=str(error), retry_in_seconds=wait)
            await pause(leave, wait)
        except (NotCommitted, KafkaError, OSError) as error:
            self.state = "retrying"
            log.warning("starting again from what was published last", duty=self.name, error=repr(error))
            await pause(leave, self._seat.retry_seconds)

    def status(self) -> dict[str, Any]:
        """Its state, and what its present term says."""
        return {"state": self.state} | (self.term.status() if self.term is not None else {})


class Member(ConsumerRebalanceListener):
    """One member of the group. Make it inside a running event loop."""

    def __init__(self, seat: Seat, duties: Sequence[Duty]) -> None:
        self._seat, self.duties = seat, duties
        self._election = seat.cluster.consumer(
            group_id=seat.group_id,
            auto_offset_reset="latest",
            session_timeout_ms=seat.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, seat.session_timeout_ms // 3),
            rebalance_timeout_ms=60_000,
        )
        self._stopping = asyncio.Event()
        self._leave = asyncio.Event()
        self._active: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._state: str | None = "starting"  # None: as the duties say

    async def run(self) -> None:
        """Take part in the election until `stop` is called; raises what stopped it otherwise."""
        self._election.subscribe([self._seat.topic], listener=self)
        try:
            await self._election.start()
            while not self._stopping.is_set():
                await self._keep_seat()
        finally:
            await self._step_down()
            with contextlib.suppress(KafkaError, OSError):
                await self._election.stop()
            self._state = "stopped"
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Publish what was learned and leave the group."""
        self._stopping.set()

    @property
    def state(self) -> str:
        """In a word: the duties' when they agree, else that of the first which isn't learning."""
        if self._state is not None:
            return self._state
        states = [duty.state for duty in self.duties]
        return next((state for state in states if state != "learning"), "learning")

    # -- election ----------------------------------------------------------------------------------

    async def _keep_seat(self) -> None:
        """The partition is only a token: it is paused, and what was fetched of it before is dropped."""
        try:
            await self._election.getmany(timeout_ms=200)
        except KafkaError as error:
            log.warning("election interrupted, retrying", error=repr(error))
            await asyncio.sleep(self._seat.retry_seconds)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        try:
            seats = list(assigned)
            self._state = None
            if seats:
                self._election.pause(*seats)
                self._leave = asyncio.Event()
                self._active = asyncio.create_task(self._lead(self._leave), name="active")
        except Exception as error:  # the client library swallows what a listener raises
            self._fail(error)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        try:
            await self._step_down()
        except Exception as error:
            self._fail(error)

    async def _step_down(self) -> None:
        self._leave.set()
        if self._active is not None:
            await asyncio.wait({self._active}, timeout=LEAVE_WITHIN_S)
            self._active.cancel()
            await asyncio.gather(self._active, return_exceptions=True)
        self._active = None

    async def _lead(self, leave: asyncio.Event) -> None:
        tasks = [asyncio.create_task(duty.serve(leave), name=duty.name) for duty in self.duties]
        try:
            await asyncio.gather(*tasks)
        except Exception as error:
            self._fail(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _fail(self, error: BaseException) -> None:
        log.error("learner stops", error=repr(error))
        self._failure = self._failure or error
        self._stopping.set()


async def pause(leave: asyncio.Event, seconds: float) -> None:
    """Wait, but not once told to leave."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(leave.wait(), seconds)
