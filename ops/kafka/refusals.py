"""Turns what a Kafka cluster refuses into one line: no answer, no trust in a certificate, no login, no permission.

Knows nothing about settings objects or commands; prints no secret, and the cluster's own words hold none.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ops.errors import CliError

if TYPE_CHECKING:
    from streams.cluster import Cluster

PERMISSIONS = "`driftline topics acls` prints what each part of driftline must be allowed to do."

_CLOSING_S = 0.1  # for connections to close that the library has given up: the loop ends here
_PROTOCOL = "DRIFTLINE_KAFKA_SECURITY_PROTOCOL"
_MECHANISM = "DRIFTLINE_KAFKA_SASL_MECHANISM"
_CA_FILE = "DRIFTLINE_KAFKA_SSL_CA_FILE"


@contextlib.contextmanager
def reachable(cluster: Cluster) -> Iterator[None]:
    """Turn "cannot connect", "not there" and "not allowed" within the block into one line that says what, to whom."""
    from aiokafka.errors import (
        ClusterAuthorizationFailedError,
        GroupAuthorizationFailedError,
        KafkaConnectionError,
        TopicAuthorizationFailedError,
        TransactionalIdAuthorizationFailed,
    )

    from streams.job import NotNow
    from streams.restore import TopicMissing

    if "sasl_oauth_token_provider" in cluster.security and (failure := _tried(cluster)) is not None:
        raise _worded(cluster, failure)  # clients would not notice a refused token, and wait
    try:
        yield
    except KafkaConnectionError as error:
        raise explained(cluster) from error
    except TopicMissing as error:
        what, _, step = str(error).partition(": ")
        raise CliError(what, f"{step[:1].upper()}{step[1:]}.") from error
    except NotNow as error:
        raise CliError(str(error), "Try again when it is back; `driftline doctor` asks whether it is.") from error
    except (
        ClusterAuthorizationFailedError,
        GroupAuthorizationFailedError,
        TopicAuthorizationFailedError,
        TransactionalIdAuthorizationFailed,
    ) as error:
        what = ", ".join(_names(error))
        raise CliError(f"Kafka at {cluster} refuses {cluster.login} a permission on {what}", PERMISSIONS) from error


def explained(cluster: Cluster) -> CliError:
    """Connect once more, to learn why it does not work (the client library only logs that)."""
    failure = _tried(cluster)
    if failure is None:
        return CliError(f"the connection to Kafka at {cluster} failed, and works again now", "Try once more.")
    return _worded(cluster, failure)


def _tried(cluster: Cluster) -> Exception | None:
    with ThreadPoolExecutor(1) as apart:  # the caller may be in an event loop
        return apart.submit(lambda: asyncio.run(_failure(cluster))).result()


async def _failure(cluster: Cluster) -> Exception | None:
    from aiokafka.errors import KafkaError

    try:
        await cluster.check()
    except (KafkaError, OSError, TimeoutError) as error:
        return error
    finally:
        await asyncio.sleep(_CLOSING_S)
    return None


def _worded(cluster: Cluster, failure: Exception) -> CliError:
    from aiokafka.errors import (
        AuthenticationFailedError,
        IllegalSaslStateError,
        KafkaConnectionError,
        SaslAuthenticationFailed,
        UnsupportedSaslMechanismError,
    )

    if isinstance(failure, ssl.SSLCertVerificationError):
        problem = f"the certificate of Kafka at {cluster} is not trusted: {failure.verify_message}"
        return CliError(problem, f"Check {_CA_FILE}, and that the address is the name in the certificate.")
    if isinstance(failure, ssl.SSLError):
        problem = f"no encrypted connection to Kafka at {cluster}: {failure.reason or failure}"
        return CliError(problem, f"Check {_PROTOCOL}, and the client's certificate if brokers ask for one.")
    if isinstance(failure, SaslAuthenticationFailed | AuthenticationFailedError):
        problem = f"Kafka at {cluster} does not let {cluster.login} log in: {_said(failure)}"
        return CliError(problem, f"Check {_MECHANISM}, and the user name and password, or the token, that go with it.")
    if isinstance(failure, UnsupportedSaslMechanismError | IllegalSaslStateError):
        problem = f"Kafka at {cluster} does not log in that way: {_said(failure)}"
        return CliError(problem, f"Check {_MECHANISM} and {_PROTOCOL}.")
    if isinstance(failure, KafkaConnectionError | ConnectionResetError):
        problem = f"Kafka at {cluster} ends the connection at the first request"
        return CliError(problem, f"It may expect encryption or a login, or none: check {_PROTOCOL}.")
    problem = f"no Kafka answers at {cluster}"
    return CliError(problem, "See `driftline kafka status`, or check DRIFTLINE_BOOTSTRAP_SERVERS.")


def _said(failure: Exception) -> str:
    """The cluster's words, without those that the client library puts before them."""
    words = [argument for argument in failure.args if isinstance(argument, str)]
    return ": ".join(words) or str(getattr(failure, "description", type(failure).__name__))


def _names(error: Exception) -> list[str]:
    names: list[str] = []
    for argument in error.args:
        names += sorted(map(str, argument)) if isinstance(argument, set | list | tuple) else [str(argument)]
    # Some requests are answered without a name: TopicAuthorizationFailedError, say.
    return names or [f"what it does not name ({type(error).__name__.partition('Auth')[0].lower()})"]
