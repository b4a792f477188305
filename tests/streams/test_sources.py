"""Candidates of two sources and their terms, beside sets and sums made by hand."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from models.blend import Terms
from policy.slate import PolicyConfig, noise
from streams import sources
from streams.contracts import ItemVector
from streams.recent import Recent
from streams.sources import Candidates
from streams.world import Known, World
from tests import small

USERS = 12
COUNT = 48
"""Items of the catalogue: eight are newer than the release."""


@pytest.fixture
def world() -> World:
    return small.world(count=COUNT, made=small.blended())


def asked(world: World, seed: int = 0) -> tuple[np.ndarray, Recent, tuple[np.ndarray, np.ndarray]]:
    """Vectors, last items and seen ones of some users: the same items in every world, wherever they lie."""
    random = np.random.default_rng(seed)
    slots = np.append(world.catalogue.slots([f"i{number}" for number in range(COUNT)]), -1)
    vectors = random.normal(size=(USERS, world.model.dim + 1)).astype(np.float32)
    last = slots[random.integers(-1, COUNT, (USERS, 5))]
    last[np.arange(5) >= random.integers(0, 8, USERS)[:, None]] = -1
    gaps = random.choice([-1, 0, 5, 500], USERS).astype(np.float32)
    recent = Recent(last, random.integers(1, 20, USERS), gaps, np.zeros_like(last))
    seen = (random.integers(0, USERS, 120), slots[random.integers(0, COUNT, 120)])
    return vectors, recent, seen


def found(world: World, policy: PolicyConfig, seed: int = 0) -> Candidates:
    vectors, recent, seen = asked(world, seed)
    return sources.find(world, policy, vectors, recent, seen, noise(policy, 0, np.arange(USERS)))


def terms_of(world: World, result: Candidates, recent: Recent) -> Terms:
    return sources.terms(world, result.model, recent, result.slots)


def summed(world: World, table: str, recent: np.ndarray) -> dict[str, float]:
    """What each item sums up to for a user, by id, in plain loops over the release's own arrays."""
    release, sums = small.blended(), dict.fromkeys(small.blended().item_ids, 0.0)
    of = "own" if table == "again" else "pairs"
    neighbours, prefix = release.arrays[f"counts.{of}.neighbours"], f"counts.{of}.{table}"
    for slot, age in zip(recent.tolist(), release.arrays[f"{prefix}.ages"].tolist(), strict=False):
        item = world.catalogue.ids([slot])[0] if slot >= 0 else ""
        if item in release.item_ids:
            row = release.item_ids.index(item)
            for neighbour, value in zip(neighbours[row], release.arrays[f"{prefix}.values"][row], strict=True):
                if neighbour >= 0:
                    sums[release.item_ids[neighbour]] += age * value
    return sums


@pytest.mark.parametrize(("neighbours", "candidates"), [(0, 12), (4, 12), (12, 12), (50, 12), (4, 60)])
def test_the_union_is_what_sets_give(world: World, neighbours: int, candidates: int) -> None:
    world.apply([("i3", withdrawn(3)), ("i5", None), ("i11", withdrawn(11))], (COUNT + 3,))
    policy = PolicyConfig(k=5, candidates=candidates, neighbours=neighbours, injected=2)
    vectors, recent, seen = asked(world)
    result = found(world, policy)
    from_counts = 0
    for user in range(USERS):
        barred = {slot for owner, slot in zip(*(side.tolist() for side in seen), strict=True) if owner == user}
        shelf = [slot for slot in np.flatnonzero(world.catalogue.alive).tolist() if slot not in barred]
        ids = dict(zip(world.catalogue.ids(shelf), shelf, strict=True))
        sums = summed(world, "window", recent.slots[user])
        going = sorted((item for item in ids if sums.get(item, 0) > 0), key=lambda item: -sums[item])
        counted = result.slots[user, : result.counted[user]].tolist()
        assert len(counted) == min(len(going), neighbours, candidates)
        # Which of equal sums is taken is the release's affair (tests/models/test_cooccurrence.py).
        own = [sums[item] for item in world.catalogue.ids(counted)]
        assert own == pytest.approx([sums[item] for item in going[: len(counted)]])
        scores = world.index.scores(vectors[[user]], np.array([shelf]))[0]
        nearest = [slot for _, slot in sorted(zip(-scores, shelf, strict=True)) if slot not in counted]
        taken = [slot for slot in result.slots[user, :candidates].tolist() if slot >= 0]
        assert taken == counted + nearest[: candidates - len(counted)]
        injected = [slot for slot in result.slots[user, candidates:].tolist() if slot >= 0]
        assert len(injected) == min(2, len(shelf) - len(taken))
        assert set(injected) <= set(shelf) - set(taken)
        from_counts += len(counted)
    assert (from_counts > 0) == (neighbours > 0)


def withdrawn(number: int) -> ItemVector:
    return msgspec.structs.replace(small.item_vector(number), withdrawn=True)


def test_every_candidate_has_its_terms_whichever_source_found_it(world: World) -> None:
    policy = PolicyConfig(k=5, candidates=14, neighbours=6, injected=3)
    vectors, recent, _ = asked(world)
    result = found(world, policy)
    terms = terms_of(world, result, recent)
    release = small.blended()
    assert sorted(terms) == ["after", "again", "model", "popularity", "window"]
    model = world.index.scores(vectors, result.slots)
    rows = world.rows.of(recent.slots)
    assert world.blend is not None
    contexts = world.blend.contexts(recent.events, recent.gap_s, rows)
    assert len(set(contexts.tolist())) > 4
    newer = 0
    for user, column in np.ndindex(result.slots.shape):
        slot = int(result.slots[user, column])
        weight = release.arrays["blend.weights"][contexts[user]].tolist()
        if slot < 0:
            assert np.isneginf(terms["model"][user, column])
            continue
        (item,) = world.catalogue.ids([slot])
        newer += item not in release.item_ids
        row = release.item_ids.index(item) if item in release.item_ids else -1
        expected = {
            "model": weight[0] * model[user, column],
            "popularity": weight[7] * release.arrays["counts.items.popularity"][row],
        }
        for at, table in enumerate(("after", "again", "window")):
            sums = summed(world, table, recent.slots[user]).get(item, 0.0)
            expected[table] = weight[1 + 2 * at] * np.log1p(sums / 0.1) + weight[2 + 2 * at] * (sums == 0)
        for name, term in expected.items():
            assert terms[name][user, column] == pytest.approx(term, abs=2e-5)
    assert newer > 5


def test_what_is_gone_never_comes_through_counts_and_comes_back_with_its_item(world: World) -> None:
    policy = PolicyConfig(k=5, candidates=30, neighbours=30, injected=0)

    def from_counts() -> set[str]:
        result = found(world, policy)
        assert set(result.slots[result.slots >= 0].tolist()) <= set(np.flatnonzero(world.catalogue.alive).tolist())
        named = [row[:count] for row, count in zip(result.slots, result.counted, strict=True)]
        return set(world.catalogue.ids(np.concatenate(named)))

    before = from_counts()
    gone = sorted(before)[:6]
    numbers = [int(item[1:]) for item in gone]
    changes = [(item, withdrawn(number)) for item, number in zip(gone[:3], numbers[:3], strict=True)]
    world.apply([*changes, *((item, None) for item in gone[3:])], (60,))
    assert before > set(gone) and not from_counts() & set(gone)
    assert (world.rows.slot[world.model.rows(gone[3:])] == -1).all()
    world.apply([(item, small.item_vector(number)) for item, number in zip(gone, numbers, strict=True)], (70,))
    assert set(gone) <= from_counts()


def test_numbers_do_not_depend_on_slots_columns_or_who_else_is_in_the_batch() -> None:
    """Two worlds told the same in another order, and users one by one."""
    policy = PolicyConfig(k=5, candidates=14, neighbours=6, injected=2)
    one = small.world(count=COUNT, made=small.blended())
    other = World(one.model, small.START, Known(dict(reversed(small.items(COUNT).items())), (COUNT,)))
    together = told(one, found(one, policy), asked(one)[1])
    assert told(other, found(other, policy), asked(other)[1]) == together
    vectors, recent, seen = asked(one)
    for user in range(USERS):
        mine = seen[0] == user
        own, barred = recent.take(np.array([user])), (seen[0][mine] - user, seen[1][mine])
        alone = sources.find(one, policy, vectors[[user]], own, barred, noise(policy, 0, np.array([user])))
        assert told(one, alone, own) == [together[user]]


def told(world: World, result: Candidates, recent: Recent) -> list[dict[str, dict[str, float]]]:
    """Of each user the terms of his candidates by id; the model's up to rounding."""
    made, parts = [], terms_of(world, result, recent)
    for user, slots in enumerate(result.slots):
        there = np.flatnonzero(slots >= 0)
        ids = world.catalogue.ids(slots[there])
        terms = {
            name: [round(float(x), 4) if name == "model" else float(x) for x in term[user, there]]
            for name, term in parts.items()
        }
        made.append({name: dict(zip(ids, term, strict=True)) for name, term in terms.items()})
    return made


def test_a_release_without_counts_has_one_source_and_one_term() -> None:
    world = small.world(count=COUNT)
    policy = PolicyConfig(k=5, candidates=14, neighbours=6, injected=2)
    vectors, recent, seen = asked(world)
    result = found(world, policy)
    slots, scores = world.index.search_excluding(vectors, 14, seen)
    assert np.array_equal(result.slots[:, :14], slots)
    terms = terms_of(world, result, recent)
    assert list(terms) == ["model"] and np.array_equal(terms["model"][:, :14], scores)
    assert not result.counted.any()
