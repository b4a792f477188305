"""What the client library is given: certificates, passwords and tokens from their files, and errors without them."""

from __future__ import annotations

import base64
import json
import ssl
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import trustme
from aiokafka.errors import AuthenticationFailedError
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ops.errors import CliError
from ops.login import TokenFile, client_options
from ops.settings import Settings

SECRET = "correct-horse-battery-staple"


def settings(**values: object) -> Settings:
    return Settings(bootstrap_servers="kafka-1:9093", **values)  # type: ignore[arg-type]


def test_plaintext_by_default() -> None:
    assert client_options(Settings()) == {"security_protocol": "PLAINTEXT"}


def test_a_password_from_a_file_loses_its_line_end_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f" {SECRET} \n")
    options = client_options(
        settings(
            kafka_security_protocol="SASL_PLAINTEXT",
            kafka_sasl_mechanism="SCRAM-SHA-256",
            kafka_sasl_username="me",
            kafka_sasl_password_file=file,
        )
    )
    assert options == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": f" {SECRET} ",
    }
    file.write_text("\n")
    with pytest.raises(CliError, match=r"kafka_sasl_password_file=.* is empty"):
        client_options(
            settings(
                kafka_security_protocol="SASL_SSL",
                kafka_sasl_mechanism="PLAIN",
                kafka_sasl_username="me",
                kafka_sasl_password_file=file,
            )
        )


def test_brokers_are_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = client_options(settings(kafka_security_protocol="SSL", kafka_ssl_ca_file=tmp_path / "ca.pem"))[
        "ssl_context"
    ]
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
    assert len(context.get_ca_certs()) == 1  # the system's do not count then
    lax = client_options(settings(kafka_security_protocol="SSL", kafka_ssl_check_hostname=False))["ssl_context"]
    assert lax.verify_mode == ssl.CERT_REQUIRED and not lax.check_hostname


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(CliError, match=r"kafka_ssl_ca_file=.*ca.pem holds no certificate"):
        client_options(settings(kafka_security_protocol="SSL", kafka_ssl_ca_file=tmp_path / "ca.pem"))


@pytest.mark.parametrize(("given", "fits"), [(SECRET, True), ("wrong-" + SECRET, False), (None, False)])
def test_an_encrypted_key_takes_its_password_and_asks_nobody(tmp_path: Path, given: str | None, fits: bool) -> None:
    certificate = trustme.CA().issue_cert("client.test")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))
    (tmp_path / "key.pem").write_bytes(encrypted)
    mine = settings(
        kafka_security_protocol="SSL",
        kafka_ssl_cert_file=tmp_path / "cert.pem",
        kafka_ssl_key_file=tmp_path / "key.pem",
        kafka_ssl_key_password=given,
    )
    if fits:
        assert client_options(mine)["ssl_context"]
        return
    with pytest.raises(CliError, match=r"kafka_ssl_key_file=.*key.pem cannot be used together") as caught:
        client_options(mine)
    assert SECRET not in str(caught.value)


def test_openssl_is_never_left_to_ask_for_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = Mock()
    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: context)
    file = tmp_path / "both.pem"
    file.touch()
    client_options(settings(kafka_security_protocol="SSL", kafka_ssl_cert_file=file, kafka_ssl_key_file=file))
    context.load_cert_chain.assert_called_once_with(file, file, "")


def jwt(**claims: object) -> str:
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return f"{encoded[0]}.{encoded[1]}.c2lnbmF0dXJl"


async def test_a_token_is_read_again_at_every_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    provider = TokenFile(file)
    first, second = (jwt(sub=name, exp=time.time() + 60) for name in ("first", "second"))
    file.write_text(first + "\n")
    assert await provider.token() == first
    (tmp_path / "new").write_text(second)
    (tmp_path / "new").replace(file)
    assert await provider.token() == second


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (jwt(exp=1_700_000_000), r"expired \d{8,9} s ago: renew it"),
        ("", "it is empty"),
        (None, "FileNotFoundError"),
        (b"\xff\xfe", "UnicodeDecodeError"),
    ],
    ids=["expired", "empty", "missing", "not text"],
)
async def test_a_token_of_no_use_is_not_sent(tmp_path: Path, held: str | bytes | None, said: str) -> None:
    file = tmp_path / "token"
    if held is not None:
        file.write_bytes(held if isinstance(held, bytes) else held.encode())
    with pytest.raises(AuthenticationFailedError, match=said):
        await TokenFile(file).token()


@pytest.mark.parametrize("held", ["opaque", jwt(sub="no end"), jwt(exp="soon"), "a.b.c", "a.e30.c", "ä.ö.ü"])
async def test_a_token_that_does_not_say_when_it_ends_is_sent(tmp_path: Path, held: str) -> None:
    (tmp_path / "token").write_text(held)
    assert await TokenFile(tmp_path / "token").token() == held
