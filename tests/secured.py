"""A Kafka that lets nobody in without encryption, a login and a permission; for tests.

Its plaintext address is the super user's. Three others: `SASL_SSL` (SCRAM, PLAIN and unsecured OAUTHBEARER), and `SSL`
with certificates of clients.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ops.kafka import EmbeddedKafka, Listener, ports
from streams.acls import Acl
from streams.cluster import Cluster

SECRET = "correct-horse-battery-staple"
"""Part of every password here: looked for in all that is written."""

_PLAIN_USER = "plain"
_RESOURCES = {"topic": 2, "group": 3, "transactional-id": 5}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
_ALLOW = 3


def password(user: str) -> str:
    return f"{SECRET}-{user}"


def token(user: str, expires: float) -> str:
    """An unsigned JSON web token, which the broker's test handler believes."""
    parts = ({"alg": "none"}, {"sub": user, "iat": expires - 3600, "exp": expires})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@dataclass(frozen=True)
class Secured:
    """The running broker, and how to reach it."""

    super_user: Cluster
    address: str
    mutual: str
    folder: Path
    kafka: EmbeddedKafka

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def settings(self, user: str) -> dict[str, str]:
        """The environment of a process that logs in as `user`."""
        file = self.folder / f"password-of-{user}"
        file.write_text(password(user) + "\n")
        return {
            "DRIFTLINE_BOOTSTRAP_SERVERS": self.address,
            "DRIFTLINE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "DRIFTLINE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "DRIFTLINE_KAFKA_SASL_USERNAME": user,
            "DRIFTLINE_KAFKA_SASL_PASSWORD_FILE": str(file),
            "DRIFTLINE_KAFKA_SSL_CA_FILE": str(self.ca_file),
        }

    def cluster(self, user: str, **others: Any) -> Cluster:
        """The cluster for who logs in as `user` by SCRAM, unless `others` says otherwise."""
        login = {"sasl_plain_username": user, "sasl_plain_password": password(user)}
        context = ssl.create_default_context(cafile=self.ca_file)
        security = {"security_protocol": "SASL_SSL", "ssl_context": context, "sasl_mechanism": "SCRAM-SHA-512"}
        return Cluster(self.address, security | login | others)

    async def allow(self, user: str, acls: Iterable[Acl]) -> None:
        """Give `user` these permissions, and no others than it had."""
        admin = self.super_user.admin()
        await admin.start()
        try:
            answers = await asyncio.gather(*(admin._send_request(_request(user, acl)) for acl in acls))
            assert {code for answer in answers for code, _ in answer.creation_responses} <= {0}, answers
        finally:
            await admin.close()


def _request(user: str, acl: Acl) -> CreateAclsRequest:
    return CreateAclsRequest(
        resource_type=_RESOURCES[acl.resource],
        resource_name=acl.name,
        resource_pattern_type_filter=_PATTERNS[acl.pattern],
        principal=f"User:{user}",
        host="*",
        operation=_OPERATIONS[acl.operation],
        permission_type=_ALLOW,
    )


@contextmanager
def secured_kafka(folder: Path, jar_cache: Path, users: Iterable[str]) -> Iterator[Secured]:
    """Run it for the time of the block; `users` can log in by SCRAM, and may do nothing yet."""
    certificates(folder)
    secure, mutual = ports.free(), ports.free()
    scram = [f"SCRAM-SHA-512=[name={user},password={password(user)}]" for user in users]
    kafka = EmbeddedKafka(
        folder / "kafka",
        jar_cache,
        tied=True,
        listeners=(Listener("SECURE", secure, None, "SASL_SSL"), Listener("MUTUAL", mutual, None, "SSL")),
        properties=properties(folder),
        format_arguments=[argument for one in scram for argument in ("--add-scram", one)],
    )
    plain = kafka.start()
    try:
        yield Secured(Cluster(plain), f"127.0.0.1:{secure}", f"127.0.0.1:{mutual}", folder, kafka)
    finally:
        kafka.purge(force_stop=True)


def certificates(folder: Path) -> None:
    """One authority's for broker and client, and another authority that nobody trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    for name, certificate in (
        ("broker", authority.issue_cert("127.0.0.1", "localhost")),
        ("client", authority.issue_cert("client.test", common_name="driftline-client")),
    ):
        key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
        chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # what Kafka can read
        (folder / f"{name}.pem").write_bytes(pem + chain)


def properties(folder: Path) -> dict[str, str]:
    """Of the broker."""
    security = "org.apache.kafka.common.security"
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.mutual.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN,OAUTHBEARER",
        "listener.name.secure.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'{security}.plain.PlainLoginModule required user_{_PLAIN_USER}="{password(_PLAIN_USER)}";'
        ),
        "listener.name.secure.oauthbearer.sasl.jaas.config": (
            f'{security}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
        ),
    }
