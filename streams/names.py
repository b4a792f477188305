"""What the topics of one deployment are called. Knows nothing of Kafka or of what the topics hold."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN_NAMES = (
    "events",
    "items",
    "item_vectors",
    "recommendations",
    "decisions",
    "outcomes",
    "state",
    "models",
    "events.dlq",
    "items.dlq",
)


@dataclass(frozen=True)
class Topics:
    """Names of the topics of one deployment: `prefix` + the plain name."""

    prefix: str = ""

    def name(self, plain: str) -> str:
        """The full name of the topic called `plain`."""
        return self.prefix + plain

    @property
    def events(self) -> str:
        return self.name("events")

    @property
    def items(self) -> str:
        return self.name("items")

    @property
    def item_vectors(self) -> str:
        return self.name("item_vectors")

    @property
    def recommendations(self) -> str:
        return self.name("recommendations")

    @property
    def decisions(self) -> str:
        return self.name("decisions")

    @property
    def outcomes(self) -> str:
        return self.name("outcomes")

    @property
    def state(self) -> str:
        return self.name("state")

    @property
    def models(self) -> str:
        return self.name("models")

    @property
    def events_dlq(self) -> str:
        return self.name("events.dlq")

    @property
    def items_dlq(self) -> str:
        return self.name("items.dlq")

    @property
    def all(self) -> tuple[str, ...]:
        """Every name."""
        return tuple(self.name(plain) for plain in PLAIN_NAMES)
