"""The checks of `driftline doctor`: each finds what it is for and says how to mend it; one hides no other."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.errors import CliError
from ops.health import checks_kafka, checks_machine
from ops.health.checking import FAILED, OK, SKIPPED, WARNING, Finding, Patient
from ops.health.cluster import Clock, ClusterFacts, Release
from ops.health.doctor import CHECKS, Check, examine, sound
from ops.health.topics import TopicFacts
from ops.settings import load


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Patient:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(tmp_path / "data"))
    return Patient(("worker",), load(), about=ClusterFacts("c", {1: "k:1"}, 1, Release("4.3", (4, 3)), Clock(0.0, 0.1)))


def test_checks_have_names_of_their_own_and_need_earlier_ones() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(needed in names[:at] for at, check in enumerate(CHECKS) for needed in check.needs)


def test_what_fails_is_said_and_skips_only_what_needs_it(patient: Patient) -> None:
    def broken(_: Patient) -> Finding:
        raise ZeroDivisionError("by zero")

    def refused(_: Patient) -> Finding:
        raise CliError("no", "do it")

    def fine(_: Patient) -> Finding:
        return Finding(OK, "yes")

    checks = (
        Check("a", broken),
        Check("b", refused),
        Check("c", fine, ("a",)),
        Check("d", fine, ("c",)),
        Check("e", fine),
    )
    found = dict(examine(patient, checks))
    assert [one.state for one in found.values()] == [FAILED, FAILED, SKIPPED, SKIPPED, OK]
    assert "ZeroDivisionError: by zero" in found["a"].said
    assert (found["b"].said, found["b"].mend) == ("no", "do it")
    assert not sound(list(found.values())) and sound([Finding(WARNING, ""), Finding(OK, "")])


def test_wrong_settings_are_one_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLINE_PARTITIONS", "none")
    found = dict(examine(Patient(("worker",))))
    assert found["settings"].state == FAILED and "DRIFTLINE_PARTITIONS" in found["settings"].said
    assert found["python"].state == OK and found["kafka"].state == SKIPPED and found["release"].state == SKIPPED


def test_settings_are_told_with_their_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRIFTLINE_APP_ID", "shop")
    (tmp_path / "driftline.toml").write_text("partitions = 8")
    details = checks_machine.settings(Patient(("worker",))).details
    assert {"partitions = 8 (file)", "app_id = shop (environment)"} <= set(details)


def test_a_folder_that_cannot_be_written(patient: Patient, tmp_path: Path) -> None:
    assert checks_machine.folders(patient).state == OK
    assert not (tmp_path / "data").exists(), "nothing is made by looking"
    (tmp_path / "data").write_text("a file in the way")
    found = checks_machine.folders(patient)
    assert found.state == FAILED and "DRIFTLINE_DATA_DIR" in found.mend


@pytest.mark.parametrize(("free", "state"), [(2**40, OK), (2**30, WARNING), (2**20, FAILED)])
def test_space(monkeypatch: pytest.MonkeyPatch, patient: Patient, free: int, state: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(checks_machine.shutil, "disk_usage", lambda _: usage)  # type: ignore[attr-defined]
    assert checks_machine.folders(patient).state == state


@pytest.mark.parametrize(("limit", "state"), [(resource.RLIM_INFINITY, OK), (464, OK), (463, WARNING)])
def test_open_files(monkeypatch: pytest.MonkeyPatch, patient: Patient, limit: int, state: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    found = checks_machine.open_files(patient)
    assert found.state == state
    assert state == OK or "ulimit -n 464" in found.mend


@pytest.mark.parametrize(
    ("variables", "check", "words"),
    [
        ({"ENCODER_PATH": "/nowhere"}, checks_machine.encoder, "/nowhere"),
        ({"DASHBOARD_HOST": "0.0.0.0"}, checks_machine.dashboard, "no token"),
        ({"DASHBOARD_ENDPOINTS": "http://w:1"}, checks_machine.dashboard, "http://w:1"),
        ({"SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}, checks_machine.schemas, "127.0.0.1:1 does not answer"),
        ({"BOOTSTRAP_SERVERS": "127.0.0.1:1"}, checks_kafka.kafka, "no Kafka answers at 127.0.0.1:1"),
    ],
)
def test_settings_that_lead_nowhere(
    monkeypatch: pytest.MonkeyPatch,
    patient: Patient,
    variables: dict[str, str],
    check: Callable[[Patient], Finding],
    words: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DRIFTLINE_{name}", value)
    patient.loaded = load()
    [(_, found)] = examine(patient, (Check("it", check),))
    assert found.state == FAILED and words in found.said and found.mend


@pytest.mark.parametrize(
    ("clock", "state"),
    [
        (Clock(0.4, 0.1), OK),
        (Clock(-3.0, 2.5), OK),  # nobody can tell that it is more than half a second
        (Clock(-3.0, 0.1), WARNING),
        (Clock(700.0, 0.1), FAILED),  # events would be refused for it
        (None, SKIPPED),
    ],
)
def test_the_clock(patient: Patient, clock: Clock | None, state: str) -> None:
    patient.about = ClusterFacts("c", {1: "k:1"}, 1, Release("4.3", (4, 3)), clock)
    found = checks_kafka.clock(patient)
    assert found.state == state
    if clock is not None and state != OK:
        assert ("behind" if clock.ahead_s > 0 else "ahead of") in found.said and "chrony" in found.mend


@pytest.mark.parametrize(
    ("release", "state"), [(Release("4.0 or later", (4, 0)), OK), (Release("3.9", (3, 9)), WARNING)]
)
def test_the_release_of_kafka(patient: Patient, release: Release, state: str) -> None:
    patient.about = ClusterFacts("c", {1: "k:1"}, 1, release, None)
    assert checks_kafka.version(patient).state == state


def topic(**facts: object) -> dict[str, TopicFacts]:
    return {"events": TopicFacts("events", "", 4, {}, **({"copies": 3, "insync_needed": 2} | facts))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (topic(), ""),
        (topic(copies=1, insync_needed=1), "one copy only"),
        (topic(insync_needed=3), "stops writing to events"),
        (topic(short=1), "lack copies in step"),
    ],
)
def test_copies(patient: Patient, found: dict[str, TopicFacts], said: str) -> None:
    patient.about = ClusterFacts("c", {1: "k:1", 2: "k:2", 3: "k:3"}, 1, Release("4.3", (4, 3)), None)
    patient.found = found
    finding = checks_kafka.copies(patient)
    assert finding.state == (WARNING if said else OK) and said in finding.said


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, ""),
        ({"differs": {"retention.ms": ("1", "2")}}, "retention.ms 1"),
        ({"timestamps": "LogAppendTime"}, "LogA"),
    ],
)
def test_retention_and_timestamps(patient: Patient, facts: dict[str, object], said: str) -> None:
    patient.found = topic(**facts)
    finding = checks_kafka.retention(patient)
    assert finding.state == (WARNING if said else OK) and said in finding.said
