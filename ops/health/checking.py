"""What a check is given, and what it says. Knows no check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ops.settings import Settings
from streams.names import Topics

if TYPE_CHECKING:
    from ops.health.cluster import ClusterFacts
    from ops.health.topics import TopicFacts
    from streams.acls import Role
    from streams.cluster import Cluster

State = Literal["ok", "warning", "failed", "skipped"]
OK: State = "ok"
WARNING: State = "warning"
FAILED: State = "failed"
SKIPPED: State = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and how to mend it; `details`: lines for who wants to know more."""

    state: State
    said: str
    mend: str = ""
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class Patient:
    """What is examined, for programs in these roles; checks note here what later ones need."""

    roles: tuple[Role, ...]
    loaded: Settings | None = None
    connected: Cluster | None = None
    about: ClusterFacts | None = None
    found: Mapping[str, TopicFacts] = field(default_factory=dict)
    encoder: str | None = None

    @property
    def settings(self) -> Settings:
        """Only for checks that need `settings`."""
        if self.loaded is None:
            raise LookupError("a check that reads settings must need them")
        return self.loaded

    @property
    def cluster(self) -> Cluster:
        """Only for checks that need `kafka`."""
        if self.connected is None:
            raise LookupError("a check that asks Kafka must need it")
        return self.connected

    @property
    def names(self) -> Topics:
        return Topics(self.settings.topic_prefix)
