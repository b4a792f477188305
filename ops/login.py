"""From the settings to what Kafka's client library is told to encrypt a connection and to log in.

Reads certificates, passwords and tokens from their files; the settings have been checked (ops/security.py). What it
raises names settings and files, never what is in them.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
import time
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError

from ops.errors import CliError
from ops.settings import Settings


def client_options(settings: Settings) -> dict[str, Any]:
    """What each client is given beside its addresses; holds secrets, so print it nowhere.

    Raises CliError when a file does not hold what it should.
    """
    protocol = settings.kafka_security_protocol
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_sasl_mechanism is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
    if settings.kafka_sasl_token_file is not None:
        options["sasl_oauth_token_provider"] = TokenFile(settings.kafka_sasl_token_file)
    elif settings.kafka_sasl_username is not None:
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = _password(settings)
    return options


class TokenFile(AbstractTokenProvider):
    """The token of OAUTHBEARER, from a file that somebody else renews.

    Read at every login: logins are rare, the file is small, and a token kept would be the old one some day.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Raises AuthenticationFailedError when there is none, or it is over: the broker would not say so."""
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationFailedError(f"no token in {self._path}: {type(error).__name__}") from None
        if not token:
            raise AuthenticationFailedError(f"no token in {self._path}: it is empty")
        over_since = time.time() - (_expires(token) or time.time())
        if over_since > 0:
            raise AuthenticationFailedError(f"the token in {self._path} expired {over_since:.0f} s ago: renew it")
        return token


def _expires(token: str) -> float | None:
    """When a JSON web token expires, in seconds since the epoch; None when it is none, or does not say."""
    try:
        claims = token.split(".")[1]
        expires = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return float(expires)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def _password(settings: Settings) -> str:
    path = settings.kafka_sasl_password_file
    if path is None:
        return settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password is not None else ""
    try:
        password = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"kafka_sasl_password_file={path} cannot be read: {type(error).__name__}") from None
    if not password:
        raise CliError(f"kafka_sasl_password_file={path} is empty", "Put the password into it, in one line.")
    return password


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CliError(
            f"kafka_ssl_ca_file={settings.kafka_ssl_ca_file} holds no certificate: {error}", "It should be a PEM file."
        ) from None
    context.check_hostname = settings.kafka_ssl_check_hostname
    certificate, key = settings.kafka_ssl_cert_file, settings.kafka_ssl_key_file
    if certificate is not None:
        secret = settings.kafka_ssl_key_password
        try:
            # With an empty password instead of none, OpenSSL does not ask for one at the terminal.
            context.load_cert_chain(certificate, key, secret.get_secret_value() if secret is not None else "")
        except (OSError, ValueError) as error:
            raise CliError(
                f"kafka_ssl_cert_file={certificate} and kafka_ssl_key_file={key} cannot be used together: {error}",
                "They should be a certificate and its private key, in PEM; check kafka_ssl_key_password as well.",
            ) from None
    return context
