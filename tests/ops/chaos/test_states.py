"""States by the log alone, and one version against another."""

from __future__ import annotations

import pytest

from ops.chaos.states import difference
from tests.ops.chaos.topic_contents import Contents, entry, event, hashed, slate, state

TIMES = range(200_000, 206_000, 1_000)


def test_what_leaves_the_ring_is_remembered_as_seen_as_far_as_there_is_room() -> None:
    contents = Contents()
    items = ["a", "a", "b", "c", "d", "e"]  # four stay in the ring; of a, a the first is noted once
    for offset, (item, time) in enumerate(zip(items, TIMES, strict=True), start=8):
        contents.events.append(event(offset, "u3", "interaction", time, item=item))
    contents.slates.append(slate("u3", list(range(8, 14))))
    contents.decisions.append("0-13")
    ring = b"".join(entry(item, time) for item, time in list(zip(items, TIMES, strict=True))[2:])
    contents.states[b"u3"] = state(7, 13, 205_000, ring, ["id11", "id12", "id13"], ["0-13"])
    contents.states[b"u3"][5] = hashed("i3") + hashed("a")
    contents.states[b"u1"][7] = []
    contents.states[b""] = [1, 205_000]
    found = contents.check()
    assert not found.wrong_states, found.wrong_states
    contents.states[b"u3"][5] = hashed("a") + hashed("i3")
    assert len(contents.check().wrong_states) == 1


STATE = [1, 2, 7, 3_000, b"ring", b"", b"ids", [["0-7", 5, 5, ["i1", "i2"], False, True, [0.25, 0.5], None, 3]]]


def changed(*path: int, to: object) -> list[object]:
    import copy

    found = copy.deepcopy(STATE)
    at: list[object] = found
    for step in path[:-1]:
        at = at[step]  # type: ignore[assignment]
    at[path[-1]] = to
    return found


@pytest.mark.parametrize(
    ("path", "to"),
    [((1,), 3), ((4,), b"rings"), ((7, 0, 3, 1), "i3"), ((7, 0, 5), False), ((7, 0, 6, 0), 0.2501), ((7,), [])],
)
def test_a_difference_is_found(path: tuple[int, ...], to: object) -> None:
    assert difference(changed(*path, to=to), STATE, "state") is not None
    assert difference(STATE, changed(*path, to=to), "state") is not None


def test_model_numbers_may_differ_a_little_and_nothing_else() -> None:
    assert difference(changed(7, 0, 6, 0, to=0.25 + 5e-6), STATE) is None
    assert difference(STATE, STATE) is None
    assert difference(changed(1, to=2.0), STATE, "state") == "state[1] is 2.0, expected 2"
    assert difference(changed(7, 0, 6, 0, to=float("nan")), STATE) is not None
