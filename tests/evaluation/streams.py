"""Streams made by hand: one line an event, "user item [seconds]"."""

from __future__ import annotations

import numpy as np

from evaluation.stream import EventStream
from tests.small import START


def stream(lines: str, listed: tuple[str, ...] = ()) -> EventStream:
    """Events a second apart unless they say when; rows of items and users in order of first events."""
    users: dict[str, int] = {}
    items = {item: row for row, item in enumerate(listed)}
    columns: list[tuple[int, int, int]] = []
    for number, line in enumerate(line for line in lines.split("\n") if line.strip()):
        user, item, *seconds = line.split()
        time = START + 1000 * int(seconds[0] if seconds else number)
        columns.append((users.setdefault(user, len(users)), items.setdefault(item, len(items)), time))
    table = np.array(columns, np.int64)
    return made(table[:, 0], table[:, 1], table[:, 2], list(users), list(items), len(listed))


def made(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    user_ids: list[str],
    item_ids: list[str],
    listed: int = 0,
) -> EventStream:
    """A stream of views of weight 1."""
    size = len(users)
    return EventStream(
        users, items, times, np.zeros(size, np.uint8), np.ones(size, np.float32), user_ids, item_ids, ("view",), listed
    )


def random_stream(users: int, items: int, events: int, seed: int = 0, listed: int = 0) -> EventStream:
    """Uniform events a second apart; ids `u<n>` and `i<n>` in order of first events, after the listed ones."""
    random = np.random.default_rng(seed)
    codes: list[np.ndarray] = []
    for size, known in ((users, 0), (items, listed)):
        drawn = random.integers(0, size, events)
        order = {row: row for row in range(known)}
        codes.append(np.array([order.setdefault(int(one), len(order)) for one in drawn], np.int64))
        names = len(order)
        if size is users:
            user_ids = [f"u{row}" for row in range(names)]
    times = START + 1000 * np.arange(events)
    return made(codes[0], codes[1], times, user_ids, [f"i{row}" for row in range(names)], listed)
