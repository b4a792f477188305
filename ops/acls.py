"""The permissions of each part, written for a person, for a program, and as commands of Kafka's own `kafka-acls`.

Knows how rules are written down, not which there are (streams/acls.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from streams.acls import PURPOSES, ROLES, Acl, Operation, Pattern, Resource, Role, acls
from streams.names import Topics

PROLOGUE = """\
# As a person who may alter access rules, with KAFKA=host:port and admin.properties for the login:"""
_COMMAND = 'kafka-acls --bootstrap-server "$KAFKA" --command-config admin.properties --add --force'


def rules(roles: Iterable[str], topics: Topics, app_id: str) -> dict[Role, tuple[Acl, ...]]:
    """What each of `roles` needs."""
    return {role: acls(role, topics, app_id) for role in ROLES if role in set(roles)}


def plain(found: Mapping[Role, tuple[Acl, ...]], principals: Mapping[Role, str]) -> dict[str, Any]:
    """The rules as JSON values."""
    return {
        role: {"principal": principals[role], "for": PURPOSES[role], "acls": [acl._asdict() for acl in of_role]}
        for role, of_role in found.items()
    }


def commands(principal: str, of_role: Iterable[Acl]) -> list[str]:
    """The `kafka-acls` commands that add the rules, one for each operation and kind of pattern."""
    together: dict[tuple[Operation, Pattern], list[tuple[Resource, str]]] = {}
    for acl in of_role:
        together.setdefault((acl.operation, acl.pattern), []).append((acl.resource, acl.name))
    return [
        " ".join(
            [
                f"{_COMMAND} --allow-principal {shlex.quote(principal)} --operation {operation}",
                *([f"--resource-pattern-type {pattern}"] if pattern != "literal" else []),
                *(f"--{resource} {shlex.quote(name)}" for resource, name in resources),
            ]
        )
        for (operation, pattern), resources in together.items()
    ]


def text(found: Mapping[Role, tuple[Acl, ...]], principals: Mapping[Role, str]) -> str:
    """A shell script that a person can read: the rules of each role in comments, then the commands."""
    parts = [PROLOGUE]
    for role, of_role in found.items():
        lines = [f"# {role}, {principals[role]}: {PURPOSES[role]}"]
        for operation in dict.fromkeys(acl.operation for acl in of_role):
            names = [_worded(acl) for acl in of_role if acl.operation == operation]
            lines.append(f"#   {operation}: {', '.join(names)}")
        parts.append("\n".join([*lines, *commands(principals[role], of_role)]))
    return "\n\n".join(parts)


def _worded(acl: Acl) -> str:
    kind = "" if acl.resource == "topic" else f"{acl.resource} "
    return f"{kind}{acl.name}{'*' if acl.pattern == 'prefixed' else ''}"
