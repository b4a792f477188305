"""What a shell offers for options whose values are known. Asked at every press of a key: imports little."""

from __future__ import annotations


def roles(incomplete: str) -> list[str]:
    """The parts of driftline that have permissions of their own."""
    from streams.acls import ROLES

    return [role for role in ROLES if role.startswith(incomplete)]


def reasons(incomplete: str) -> list[str]:
    """Why an event or an item becomes a dead letter."""
    from streams.deadletters import REASONS

    return [reason for reason in REASONS if reason.startswith(incomplete)]
