"""Settings of encryption and login: what fits together, what does not is told in a line without secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import CliError
from ops.settings import Settings, explain, load

SECRET = "correct-horse-battery-staple"
KAFKA = {"bootstrap_servers": "kafka-1:9093"}
SCRAM = {
    **KAFKA,
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "me",
    "kafka_sasl_password": SECRET,
}
SSL = {**KAFKA, "kafka_security_protocol": "SSL"}
BEARER = {**KAFKA, "kafka_security_protocol": "SASL_SSL", "kafka_sasl_mechanism": "OAUTHBEARER"}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DRIFTLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("file.pem").touch()
    Path("folder").mkdir()


def without(settings: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names}


FINE = {
    "nothing": {},
    "SCRAM": SCRAM,
    "PLAIN with a file": without(SCRAM, "kafka_sasl_password")
    | {"kafka_sasl_mechanism": "PLAIN", "kafka_sasl_password_file": "file.pem"},
    "a token": BEARER | {"kafka_sasl_token_file": "file.pem"},
    "TLS alone": SSL,
    "a certificate": SSL | {"kafka_ssl_cert_file": "file.pem", "kafka_ssl_key_file": "file.pem"},
}


@pytest.mark.parametrize("settings", FINE.values(), ids=FINE)
def test_these_fit_together(settings: dict[str, str]) -> None:
    Settings(**settings)


WRONG = {
    "the embedded Kafka": (
        without(SCRAM, "bootstrap_servers"),
        "kafka_security_protocol=SASL_SSL needs bootstrap_servers: the embedded Kafka speaks plaintext",
    ),
    "no mechanism": (without(SCRAM, "kafka_sasl_mechanism"), "SASL_SSL needs kafka_sasl_mechanism: PLAIN, SCRAM"),
    "no user": (without(SCRAM, "kafka_sasl_username"), "kafka_sasl_mechanism=SCRAM-SHA-512 needs kafka_sasl_username"),
    "no password": (
        without(SCRAM, "kafka_sasl_password"),
        "needs kafka_sasl_password or kafka_sasl_password_file: neither is set",
    ),
    "two passwords": (SCRAM | {"kafka_sasl_password_file": "file.pem"}, "kafka_sasl_password_file: both are set"),
    "a password that nobody asks for": (
        KAFKA | {"kafka_sasl_password": SECRET},
        "kafka_sasl_password needs kafka_security_protocol=SASL_SSL (or SASL_PLAINTEXT) instead of PLAINTEXT",
    ),
    "a user with TLS alone": (SSL | {"kafka_sasl_username": "me"}, "kafka_sasl_username needs kafka_security_protocol"),
    "a token for SCRAM": (SCRAM | {"kafka_sasl_token_file": "file.pem"}, "is for kafka_sasl_mechanism=OAUTHBEARER"),
    "no token": (BEARER, "kafka_sasl_mechanism=OAUTHBEARER needs kafka_sasl_token_file"),
    "a user for a token": (
        BEARER | {"kafka_sasl_token_file": "file.pem", "kafka_sasl_username": "me"},
        "kafka_sasl_username is not for kafka_sasl_mechanism=OAUTHBEARER",
    ),
    "an authority without TLS": (
        SCRAM | {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_ca_file": "file.pem"},
        "kafka_ssl_ca_file needs kafka_security_protocol=SSL or SASL_SSL instead of SASL_PLAINTEXT",
    ),
    "a certificate without a key": (SSL | {"kafka_ssl_cert_file": "file.pem"}, "cert_file needs kafka_ssl_key_file"),
    "a key without a certificate": (SSL | {"kafka_ssl_key_file": "file.pem"}, "key_file needs kafka_ssl_cert_file"),
    "a password without a key": (SSL | {"kafka_ssl_key_password": SECRET}, "key_password needs kafka_ssl_key_file"),
    "no such file": (SSL | {"kafka_ssl_ca_file": "none.pem"}, "kafka_ssl_ca_file=none.pem: there is no such file"),
    "a folder": (SSL | {"kafka_ssl_ca_file": "folder"}, "kafka_ssl_ca_file=folder: it is not a file"),
}


@pytest.mark.parametrize(("settings", "expected"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_told(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], expected: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", value)
    with pytest.raises(CliError) as caught:
        load()
    assert expected in caught.value.problem
    assert SECRET not in str(caught.value) and "\n" not in caught.value.problem


def test_a_secret_is_in_no_text_of_the_settings() -> None:
    settings = Settings(**SCRAM)
    explained = {one.name: one.value for one in explain(settings)}
    assert explained["kafka_sasl_password"] == "********"
    assert explained["kafka_ssl_key_password"] is None
    assert SECRET not in f"{settings} {settings!r} {explained} {settings.model_dump()}"


@pytest.mark.parametrize("arguments", [["settings"], ["settings", "--json"]])
def test_the_command_hides_it(arguments: list[str]) -> None:
    environment = {f"DRIFTLINE_{name.upper()}": value for name, value in SCRAM.items()}
    shown = CliRunner().invoke(app, arguments, env=environment, catch_exceptions=False).output
    assert "********" in shown and SECRET not in shown
    if "--json" in arguments:
        assert json.loads(shown)["kafka_sasl_password"]["value"] == "********"


def test_a_secret_of_the_wrong_kind_is_not_shown_either(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("driftline.toml").write_text("kafka_sasl_password = 271828182845\nkafka_ssl_key_password = ['2718281828']")
    with pytest.raises(CliError) as caught:
        load()
    assert "kafka_sasl_password = '********' (in driftline.toml): should be a valid string" in caught.value.problem
    assert "27182" not in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, ValidationError) and "27182" not in str(cause)  # what DRIFTLINE_DEBUG=1 shows


def test_the_environment_wins_over_the_file_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{name} = {value!r}" for name, value in SCRAM.items()]
    Path("driftline.toml").write_text("\n".join(lines))
    monkeypatch.setenv("DRIFTLINE_KAFKA_SASL_USERNAME", "other")
    settings = load()
    assert settings.kafka_sasl_username == "other"
    assert settings.kafka_sasl_password is not None and settings.kafka_sasl_password.get_secret_value() == SECRET
