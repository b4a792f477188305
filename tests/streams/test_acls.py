"""What each part may do: nothing outside its deployment, and nothing that would let it be another part."""

from __future__ import annotations

import pytest

from streams.acls import PURPOSES, ROLES, Acl, acls, topics_of
from streams.names import Topics

SHOP = Topics("shop.")


def may(role: str, operation: str) -> set[str]:
    return {acl.name for acl in acls(role, SHOP, "app") if acl.operation == operation}  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ROLES)
def test_everything_is_named_after_the_prefix_or_the_app(role) -> None:
    rules = acls(role, SHOP, "app")
    assert len(set(rules)) == len(rules)
    for acl in rules:
        if acl.resource == "topic":
            assert acl.name in SHOP.all and acl.pattern == "literal"
        else:
            assert acl.name.startswith("app")


def test_every_role_says_what_it_is_for() -> None:
    assert set(PURPOSES) == set(ROLES)


def test_only_the_admin_creates_only_letters_are_deleted_and_nobody_alters() -> None:
    assert {(role, name) for role in ROLES for name in may(role, "Delete")} == {
        ("purger", "shop.events.dlq"),
        ("purger", "shop.items.dlq"),
    }
    assert {role for role in ROLES if may(role, "Create")} == {"admin"}
    assert {acl.operation for role in ROLES for acl in acls(role, SHOP, "app")} == {
        "Read",
        "Write",
        "Create",
        "Delete",
        "Describe",
        "DescribeConfigs",
    }


def test_each_topic_has_the_writers_it_should_have() -> None:
    writers = {name: {role for role in ROLES if f"shop.{name}" in may(role, "Write")} for name in ("events", "state")}
    assert writers == {"events": {"producer", "eraser", "mender"}, "state": {"worker"}}
    assert {role for role in ROLES if "shop.models" in may(role, "Write")} == {"learner", "trainer"}
    assert "shop.items" not in may("worker", "Read")
    assert not may("subscriber", "Write") and "shop.decisions" not in may("subscriber", "Read")


def test_a_prefixed_rule_ends_where_another_deployment_would_begin() -> None:
    """`app2` or `shop.events2` must not be covered by what `app` may do."""
    prefixed = [acl for role in ROLES for acl in acls(role, SHOP, "app") if acl.pattern == "prefixed"]
    assert prefixed == [Acl("transactional-id", "app-shop.events-", "prefixed", "Write")]


def test_what_a_role_checks_at_its_start_is_what_it_uses() -> None:
    assert topics_of("producer", SHOP) == {"shop.events": False}
    assert topics_of("embedder", SHOP) == dict.fromkeys(["shop.items", "shop.item_vectors", "shop.items.dlq"], True)
    assert set(topics_of("worker", SHOP)) == set(SHOP.all) - {"shop.items", "shop.items.dlq"}
    assert topics_of("admin", SHOP) == dict.fromkeys(SHOP.all, True)
