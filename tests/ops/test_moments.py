"""Times as people write them."""

from __future__ import annotations

import pytest

from ops.errors import CliError
from ops.moments import millis

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000000", 1_700_000_000_000),
        ("2h", NOW - 7_200_000),
        ("90 min", NOW - 5_400_000),
        ("90m", NOW - 5_400_000),
        ("7d", NOW - 604_800_000),
        ("1w", NOW - 604_800_000),
        ("30s", NOW - 30_000),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14T23:13:20+01:00", NOW),
        ("2023-11-14", 1_699_920_000_000),
    ],
)
def test_a_moment_or_a_span_before_now(text: str, expected: int) -> None:
    assert millis("--since", text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2 fortnights", "-3h", "2023-13-01", "h", "９h"])
def test_anything_else_is_an_error_that_names_the_option(text: str) -> None:
    with pytest.raises(CliError, match="--since is ") as error:
        millis("--since", text, NOW)
    assert "7d" in error.value.next_step
