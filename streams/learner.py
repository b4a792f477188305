"""The learner: follows `outcomes`, learns the online estimators from them, publishes snapshots to `models`.

One learner is active, the others stand by (election.py). Input offsets are stored inside the snapshot, so that state
and offsets cannot disagree: whoever becomes active reads the last snapshot and learns on from exactly there. What was
learned after the last snapshot is learned again, none twice. The order within a partition of `outcomes` is always the
same; how partitions interleave is not, so with several the numbers that depend on the order differ a little from run to
run, the counts never. Knows Kafka; knows nothing of how an estimator learns.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError

from streams.blame import told
from streams.cluster import Cluster
from streams.contracts import Outcome
from streams.election import Duty, Member, Seat, Term
from streams.estimator_clicks import ClicksPart, DriftPart
from streams.estimators import Estimators
from streams.outcome_measures import OutcomeMeasures
from streams.releases import SnapshotWriter, read_models
from streams.restore import partitions_of

log = structlog.get_logger(__name__)

MAX_BATCH = 256
"""Outcomes learned between two looks at the clock: about 0.1 s."""

_decoder = msgspec.json.Decoder(Outcome)


@dataclass(frozen=True, slots=True)
class LearnerConfig:
    """Where the learner reads and writes; `outcomes` and `models` are names of topics."""

    cluster: Cluster
    app_id: str
    outcomes: str
    models: str
    publish_every_s: float = 2.0
    session_timeout_ms: int = 10_000
    transaction_timeout_ms: int = 30_000
    retry_seconds: float = 1.0


class EstimatorTerm:
    """One learner's time as the active one: from the last snapshot on, until `leave` is set or something fails."""

    def __init__(
        self,
        config: LearnerConfig,
        compute: ThreadPoolExecutor,
        leave: asyncio.Event,
        measures: OutcomeMeasures | None = None,
    ) -> None:
        self._config = config
        self._compute = compute
        self._leave = leave
        self._writer = SnapshotWriter(config.cluster, config.app_id, config.models, config.transaction_timeout_ms)
        self._consumer = config.cluster.consumer(fetch_max_wait_ms=200)
        self.estimators = Estimators()
        self.offsets: dict[int, int] = {}
        self.published: str | None = None
        self.bad = 0
        self._publish_at = 0.0
        self._learned = False
        self._measures = measures or OutcomeMeasures()

    async def run(self) -> None:
        """Learn and publish. Publishes what is left when told to leave, so that nobody need learn it again."""
        try:
            await self._writer.open()
            await self._restore()
            await self._seek()
            while not self._leave.is_set():
                await self._learn_some()
                if time.monotonic() >= self._publish_at:
                    await self._publish()
            await self._publish()
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await self._consumer.stop()
            await self._writer.close()

    @property
    def lag(self) -> int:
        """Outcomes (and transaction markers) that are in the topic and not learned yet."""
        ends = ((source.partition, self._consumer.highwater(source)) for source in self._consumer.assignment())
        return sum(max(0, (end or 0) - self.offsets.get(partition, 0)) for partition, end in ends)

    def status(self) -> dict[str, Any]:
        """What the health page says."""
        return {
            "estimator": self.published,
            "outcomes": self.estimators.outcomes,
            "calibration_error": self.estimators.calibration_error,
            "drift_alarms": sum(self.estimators.part(DriftPart).watch.alarms.values()),
            "examination_contradicted_at": [at + 1 for at in self.estimators.part(ClicksPart).disagree],
            "bad_records": self.bad,
            "lag": self.lag,
        }

    async def _restore(self) -> None:
        models = await read_models(self._config.cluster, self._config.models)
        if models.estimator is None:
            log.info("no estimator snapshot yet: learning from the start of the outcomes")
            return
        snapshot = models.estimator
        if models.audit is None:
            log.warning("the snapshot carries no audit: calibration is measured anew", estimator=snapshot.estimator)
        self.estimators = await self._in_compute(Estimators.from_snapshot, snapshot, models.audit)
        self.offsets = {int(partition): offset for partition, offset in snapshot.offsets.items()}
        self.published = snapshot.estimator
        log.info("estimators restored", estimator=snapshot.estimator, outcomes=snapshot.outcomes)

    async def _seek(self) -> None:
        """Go to the stored offsets; where one is missing, or the log no longer has it, to the start."""
        sources = await partitions_of(self._config.cluster, self._config.outcomes)
        await self._consumer.start()
        self._consumer.assign(sources)
        begins = await self._consumer.beginning_offsets(sources)
        ends = await self._consumer.end_offsets(sources)
        for source in sources:
            stored = self.offsets.get(source.partition, begins[source])
            if not begins[source] <= stored <= ends[source]:
                span = f"{begins[source]} to {ends[source]}"
                log.warning("outcomes are missing from the log", stored=stored, found=span, partition=source.partition)
                stored = begins[source]
            self._consumer.seek(source, stored)
        self._publish_at = time.monotonic() + self._config.publish_every_s

    async def _learn_some(self) -> None:
        left_ms = round(1000 * (self._publish_at - time.monotonic()))
        batches = await self._consumer.getmany(timeout_ms=max(1, min(200, left_ms)), max_records=MAX_BATCH)
        for source, records in batches.items():
            await self._in_compute(self._learn, records)
            self.offsets[source.partition] = records[-1].offset + 1
            self._learned = True

    def _learn(self, records: Sequence[ConsumerRecord]) -> None:
        """In the compute thread, so that heartbeats go on."""
        for record in records:
            try:
                outcome = _decoder.decode(record.value or b"")
                for alarm in self.estimators.learn(outcome):
                    way = "more" if alarm.up else "less"
                    drift = f"drift: {alarm.signal} is {way} than expected; what comes next counts more"
                    log.warning(drift, by=alarm.by, partition=record.partition, offset=record.offset)
                    self._measures.alarms[alarm.signal] += 1
                self._measures.add(outcome)
            except ValueError as error:  # of msgspec, too
                self.bad += 1
                self._measures.unusable += 1
                log.warning("outcome skipped", partition=record.partition, offset=record.offset, error=told(error))
                log.debug("why it was skipped", error=str(error))

    async def _publish(self) -> None:
        self._publish_at = time.monotonic() + self._config.publish_every_s
        if not self._learned:
            return
        created = time.time_ns() // 1_000_000
        snapshot = await self._in_compute(self.estimators.snapshot, self.offsets, created)
        await self._writer.publish(snapshot, self.estimators.audit.pack())
        self.published, self._learned = snapshot.estimator, False

    async def _in_compute(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._compute, function, *arguments)


class Learner(Member):
    """One member of the group `<app_id>-learner`: active, or standing by. Make it inside a running event loop."""

    def __init__(self, config: LearnerConfig, train: Callable[[asyncio.Event], Term] | None = None) -> None:
        """`train` begins a term of the trainer, if weights are to be learned here as well."""
        seat = Seat(
            config.cluster,
            f"{config.app_id}-learner",
            config.models,
            session_timeout_ms=config.session_timeout_ms,
            retry_seconds=config.retry_seconds,
        )
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="learn")
        self.measures = OutcomeMeasures()
        self._estimating = Duty(
            "estimators", seat, lambda leave: EstimatorTerm(config, self._compute, leave, self.measures)
        )
        self._training = None if train is None else Duty("trainer", seat, train)
        super().__init__(seat, [self._estimating] + ([self._training] if self._training is not None else []))

    async def run(self) -> None:
        """Take part in the election until `stop` is called; raises what stopped it otherwise."""
        try:
            await super().run()
        finally:
            self._compute.shutdown(wait=True)

    @property
    def active(self) -> dict[str, bool]:
        """By duty, whether this member is the one that serves it."""
        return {duty.name: duty.term is not None for duty in self.duties}

    def status(self) -> dict[str, Any]:
        """What the health page says: plain JSON values."""
        found: dict[str, Any] = {"state": self.state, "ready": self.state in ("standing by", "learning")}
        if self._training is not None:
            found["trainer"] = self._training.status()
        return self._estimating.status() | found
