"""Gets the jars of Apache Kafka from Maven Central, once per machine.

Knows nothing about running them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.errors import CliError
from ops.kafka.process import only_one

KAFKA_VERSION = "4.3.0"
LOG4J_VERSION = "2.25.4"

# The "!" keeps log4j's dependency management away: with it, log4j's own test-time versions win and an old
# kafka-clients lands beside the new broker, which then dies of NoSuchMethodError.
_BROKER = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}!"
# The console tools. This one jar is enough: the rest of its dependencies are Kafka Connect's, 45 more jars.
_TOOLS = "kafka-tools"

Report = Callable[[str], None]


def jars(cache: Path, report: Report) -> Path:
    """Return the folder with every jar of the broker, downloading them into `cache` the first time.

    The folder appears only when it is complete, so its presence is the proof of completeness.

    Raises:
        CliError: the download failed, or the folder cannot be written.
    """
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with only_one(cache / ".lock"):
            if not folder.is_dir():  # nobody else fetched them while we waited
                _fetch_into(folder, report)
    except OSError as error:
        raise _explained(error, cache) from error
    return folder


def _fetch_into(folder: Path, report: Report) -> None:
    staging = Path(tempfile.mkdtemp(prefix="fetching-", dir=folder.parent))
    try:
        report(f"Kafka {KAFKA_VERSION}: asking Maven Central for the list of jars")
        artifacts = _artifacts()
        for number, artifact in enumerate(artifacts, start=1):
            report(f"Kafka {KAFKA_VERSION}: jar {number} of {len(artifacts)}, {artifact.filename}")
            _place(_whole_jar(artifact), staging / artifact.filename)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _artifacts() -> list[Any]:
    import jgo  # here, because it takes a while to import and is needed once per machine

    try:
        found = jgo.resolve(_BROKER)
        tools = found[0].context.project("org.apache.kafka", _TOOLS).at_version(KAFKA_VERSION).artifact()
        return [*found, tools]
    except Exception as error:  # jgo raises RuntimeError, requests' errors and XML errors alike
        raise _download_failed(error) from error


def _whole_jar(artifact: Any) -> Path:
    """The jar's path in the Maven cache; a torn file, left by an interrupted download, is fetched anew."""
    for _ in range(2):
        try:
            path = Path(artifact.resolve())
        except Exception as error:
            raise _download_failed(error) from error
        if _is_whole(path):
            return path
        path.unlink()
    raise _download_failed(RuntimeError(f"{artifact.filename} arrives damaged"))


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as jar:
            return jar.testzip() is None
    except zipfile.BadZipFile:
        return False


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _download_failed(error: Exception) -> CliError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CliError(
        f"Kafka {KAFKA_VERSION} could not be downloaded from Maven Central: {reason[:200]}",
        "Check the network (HTTPS_PROXY and REQUESTS_CA_BUNDLE are honoured) and try again; "
        "or use a Kafka you already have: set DRIFTLINE_BOOTSTRAP_SERVERS=host:port.",
    )


def _explained(error: OSError, cache: Path) -> CliError:
    return CliError(
        f"the folder for Kafka's jars cannot be written: {cache}: {error.strerror or error}",
        "Free some space or make it writable, or choose another place with DRIFTLINE_DATA_DIR.",
    )
