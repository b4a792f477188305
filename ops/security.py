"""Whether the settings of encryption and login fit together; what does not is told before anybody connects.

Looks at values and at whether files can be read, not into them, and knows nothing of Kafka's client library.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.settings import Settings

BY_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_TOKEN = "kafka_sasl_token_file"  # noqa: S105 (the name of a setting)
_LOGIN = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password", "kafka_sasl_password_file")
_TLS = ("kafka_ssl_ca_file", "kafka_ssl_cert_file", "kafka_ssl_key_file", "kafka_ssl_key_password")
_FILES = tuple(name for name in (*_LOGIN, _TOKEN, *_TLS) if name.endswith("_file"))


def problem(settings: Settings) -> str | None:
    """The first thing that is wrong with the settings `kafka_…`, in a sentence without any secret; None: all is well.

    A setting that would have no effect is wrong too: whoever gives a password expects it to be asked for.
    """
    return next(_problems(settings), None)


def _problems(settings: Settings) -> Iterator[str]:
    protocol = settings.kafka_security_protocol
    if protocol != "PLAINTEXT" and not settings.bootstrap_servers:
        yield f"kafka_security_protocol={protocol} needs bootstrap_servers: the embedded Kafka speaks plaintext"
    if not protocol.startswith("SASL_"):
        for name in _given(settings, *_LOGIN, _TOKEN):
            yield f"{name} needs kafka_security_protocol=SASL_SSL (or SASL_PLAINTEXT) instead of {protocol}"
    else:
        yield from _login_problems(settings)
    if not protocol.endswith("SSL"):
        for name in _given(settings, *_TLS):
            yield f"{name} needs kafka_security_protocol=SSL or SASL_SSL instead of {protocol}"
    yield from _certificate_problems(settings)
    for name in _given(settings, *_FILES):
        if (complaint := _unreadable(getattr(settings, name))) is not None:
            yield f"{name}={getattr(settings, name)}: {complaint}"


def _login_problems(settings: Settings) -> Iterator[str]:
    mechanism = settings.kafka_sasl_mechanism
    if mechanism is None:
        yield (
            f"kafka_security_protocol={settings.kafka_security_protocol} needs kafka_sasl_mechanism: "
            f"{', '.join(BY_PASSWORD)} or OAUTHBEARER"
        )
    elif mechanism == "OAUTHBEARER":
        for name in _given(settings, "kafka_sasl_username", "kafka_sasl_password", "kafka_sasl_password_file"):
            yield f"{name} is not for kafka_sasl_mechanism=OAUTHBEARER: that takes kafka_sasl_token_file"
        if settings.kafka_sasl_token_file is None:
            yield "kafka_sasl_mechanism=OAUTHBEARER needs kafka_sasl_token_file"
    else:
        if settings.kafka_sasl_token_file is not None:
            yield f"kafka_sasl_token_file is for kafka_sasl_mechanism=OAUTHBEARER instead of {mechanism}"
        if settings.kafka_sasl_username is None:
            yield f"kafka_sasl_mechanism={mechanism} needs kafka_sasl_username"
        passwords = list(_given(settings, "kafka_sasl_password", "kafka_sasl_password_file"))
        if len(passwords) != 1:
            found = "both are set" if passwords else "neither is set"
            yield (f"kafka_sasl_mechanism={mechanism} needs kafka_sasl_password or kafka_sasl_password_file: {found}")


def _certificate_problems(settings: Settings) -> Iterator[str]:
    if (settings.kafka_ssl_cert_file is None) != (settings.kafka_ssl_key_file is None):
        given, missing = ("cert", "key") if settings.kafka_ssl_cert_file is not None else ("key", "cert")
        yield f"kafka_ssl_{given}_file needs kafka_ssl_{missing}_file (one file may hold both: then name it twice)"
    if settings.kafka_ssl_key_password is not None and settings.kafka_ssl_key_file is None:
        yield "kafka_ssl_key_password needs kafka_ssl_key_file"


def _given(settings: Settings, *names: str) -> Iterator[str]:
    return (name for name in names if getattr(settings, name) is not None)


def _unreadable(path: Path) -> str | None:
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "it is not a file"
    return None if os.access(path, os.R_OK) else "it cannot be read"
