from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from models import sections
from models.cooccurrence import ServingCounts
from models.counts import BLOCK, Channel, Counts, CountsConfig, Learned, Table
from models.recent import RecentItems

ITEMS = 12
CONFIG = CountsConfig(
    channels={
        "near": Channel(window=4, decay=0.8, half_life=100),
        "next": Channel(window=1, decay=1.0, half_life=30, backward=0.0),
        "back": Channel(window=2, decay=0.5, half_life=1e9, forward=0.25, backward=0.75),
    },
    tables={
        "near": Table("near", own_power=0.25, other_power=0.5, read=3, read_decay=0.6),
        "far": Table("near", own_power=0.5, other_power=0.0, read=5),
        "next": Table("next", own_power=1.0, other_power=0.0, read=1),
        "back": Table("back", own_power=0.0, other_power=0.0, read=2, read_decay=1.0),
    },
    neighbours=ITEMS,
    popularity=(50, 1000),
    learned=None,
)
CORRECTED = replace(CONFIG, learned=Learned(rate=0.1, read=2, read_decay=0.5), neighbours=5)


def stream(events: int, seed: int = 0, users: int = 5) -> Iterator[tuple[int, int]]:
    random = np.random.default_rng(seed)
    for _ in range(events):
        yield int(random.integers(users)), int(random.integers(-1, ITEMS))


def learned(log: list[tuple[int, int]], config: CountsConfig = CONFIG, size: int = 64) -> tuple[Counts, RecentItems]:
    counts, recent = Counts(config, ITEMS), RecentItems(config.length)
    for start in range(0, len(log), size):
        teach(counts, recent, log[start : start + size])
    return counts, recent


def teach(counts: Counts, recent: RecentItems, log: list[tuple[int, int]]) -> None:
    users, items = (np.array([event[at] for event in log], np.int64) for at in (0, 1))
    counts.learn(recent.follow(users, items, np.zeros(len(log), np.int64)).recent, items)


def plain(log: list[tuple[int, int]], channel: Channel) -> tuple[dict[tuple[int, int], float], dict[int, float]]:
    """Pairs and own counts of a channel as of the end of the log, by the definition."""
    pairs: defaultdict[tuple[int, int], float] = defaultdict(float)
    own: defaultdict[int, float] = defaultdict(float)
    histories: defaultdict[int, list[int]] = defaultdict(list)
    for at, (user, item) in enumerate(log):
        worth = 0.5 ** ((len(log) - 1 - at) / channel.half_life)
        if item >= 0:
            own[item] += worth
            for age, other in enumerate(histories[user][::-1][: channel.window]):
                if other >= 0 and other != item:
                    pairs[other, item] += worth * channel.decay**age * channel.forward
                    pairs[item, other] += worth * channel.decay**age * channel.backward
        histories[user].append(item)
    return pairs, own


def dense(arrays: dict[str, np.ndarray], table: str) -> np.ndarray:
    neighbours, values = arrays["counts.pairs.neighbours"], arrays[f"counts.pairs.{table}.values"]
    matrix = np.zeros((ITEMS, ITEMS))
    row, place = np.nonzero(neighbours >= 0)
    matrix[row, neighbours[row, place]] = values[row, place]
    return matrix


def test_tables_are_what_the_definition_says() -> None:
    log = list(stream(700))
    arrays = learned(log)[0].arrays()
    for name, table in CONFIG.tables.items():
        pairs, own = plain(log, CONFIG.channels[table.channel])
        expected = np.zeros((ITEMS, ITEMS))
        for (row, column), count in pairs.items():
            expected[row, column] = count * own[row] ** -table.own_power * own[column] ** -table.other_power
        np.testing.assert_allclose(dense(arrays, name), expected, rtol=2e-4, atol=1e-7, err_msg=name)


def test_popularity_is_the_log_of_fading_counts_and_an_unknown_item_has_none() -> None:
    log = list(stream(300))
    arrays = learned(log)[0].arrays()
    for half_life in CONFIG.popularity:
        _, own = plain(log, Channel(half_life=half_life))
        expected = [np.log(own[item] + 0.1) for item in range(ITEMS)] + [np.log(0.1)]
        np.testing.assert_allclose(arrays[f"counts.items.popularity_{half_life}"], expected, rtol=1e-5)


def test_the_arrays_are_the_section_of_a_release() -> None:
    config = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, neighbours=4, repeats=2)
    arrays = learned(list(stream(200)), config)[0].arrays()
    weights = np.zeros((1, len(sections.features(arrays))), np.float32)
    sections.check(arrays | {"blend.weights": weights}, ITEMS, config.source)
    assert {"again1", "again2", "met", "near", "next"} <= set(sections.tables(arrays))


def test_repeats_are_counted_by_age_and_in_all() -> None:
    config = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, repeats=3, learned=None)
    counts = ServingCounts(Counts(config, ITEMS).arrays(), "near")
    assert config.length == 5
    sums = counts.sums(np.array([[4, 9, 4, 4, -1, 4, 9]]), np.array([[4, 9, 7]]))
    found = {name: sums[name][0].tolist() for name in ("again1", "again2", "again3", "met")}
    assert found == {"again1": [1, 0, 0], "again2": [0, 1, 0], "again3": [1, 0, 0], "met": [3, 1, 0]}


def test_a_release_may_hold_only_the_items_that_were_met() -> None:
    log = [(user, item) for user, item in stream(300) if item not in (0, 5)]
    counts, _ = learned(log)
    rows = np.array([item for item in range(ITEMS) if item not in (0, 5)])
    arrays, every = counts.arrays(rows), counts.arrays()
    whole = dense(every, "near")[np.ix_(rows, rows)]
    np.testing.assert_array_equal(dense(arrays, "near")[: len(rows), : len(rows)], whole)
    for name in (name for name in arrays if name.startswith("counts.items")):
        np.testing.assert_array_equal(arrays[name], every[name][np.append(rows, ITEMS)])


def test_bounded_rows_keep_the_pairs_that_come_again() -> None:
    """Each item is followed by its own companion, and by chance others: companions stay, and all of their count."""
    companions = [(user, item) for user, first in stream(400) if first >= 0 for item in (first, first ^ 1)]
    bounded = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, neighbours=5)
    whole, cut = (dense(learned(companions, config)[0].arrays(), "near") for config in (CONFIG, bounded))
    assert ((cut > 0).sum(axis=1) == 5).all()
    assert (cut <= whole + 1e-6).all()
    item = np.arange(ITEMS)
    np.testing.assert_allclose(cut[item, item ^ 1], whole[item, item ^ 1], rtol=1e-5)


def test_counts_go_on_after_many_rescalings_as_if_none_had_been() -> None:
    channels = {name: Channel(window=2, half_life=10) for name in ("near", "other")}
    config = CountsConfig(channels=channels, tables={"near": Table("near")}, neighbours=ITEMS, popularity=(2,))
    log = list(stream(2000))
    counts, _ = learned(log, config)
    assert counts._own.worth.max() < 2.0**41 * 2**26
    pairs, own = plain(log[-400:], channels["near"])
    matrix = dense(counts.arrays(), "near")
    for (row, column), count in pairs.items():
        if count > 1e-4:
            assert matrix[row, column] == pytest.approx(count * own[row] ** -0.25 * own[column] ** -0.35, rel=1e-2)


def test_restored_counts_go_on_to_the_same_bits() -> None:
    log = list(stream(900))
    counts, recent = learned(log[:500])
    other = Counts.restore(CONFIG, counts.state())
    others = RecentItems.restore(recent.state())
    for start in range(500, 900, 100):
        teach(counts, recent, log[start : start + 100])
        teach(other, others, log[start : start + 100])
    for name, array in counts.state().items():
        np.testing.assert_array_equal(array, other.state()[name])
    with pytest.raises(ValueError, match="neighbours, channels"):
        Counts.restore(CountsConfig(), counts.state())


def test_items_may_become_more() -> None:
    log = list(stream(400))
    config = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, neighbours=ITEMS)
    counts, recent = Counts(config), RecentItems(config.length)
    for start in range(0, 400, 50):
        counts.grow(max(len(counts), 1 + max(item for _, item in log[: start + 50])))
        teach(counts, recent, log[start : start + 50])
    expected = learned(log, config, size=50)[0].arrays()
    for name, array in counts.arrays().items():
        np.testing.assert_array_equal(array, expected[name])


def test_an_item_beyond_the_room_is_refused() -> None:
    with pytest.raises(ValueError, match="expected rows below 3; call grow"):
        Counts(CONFIG, 3).learn(np.array([[-1]]), np.array([3]))


def test_however_many_events_are_given_at_once_the_same_is_learned() -> None:
    log = list(stream(2 * BLOCK))
    config = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, neighbours=3)
    at_once, in_blocks = (learned(log, config, size)[0].state() for size in (2 * BLOCK, BLOCK))
    for name, array in at_once.items():
        np.testing.assert_array_equal(array, in_blocks[name])


def test_a_view_of_some_rows_serves_what_the_release_would() -> None:
    config = CountsConfig(channels=CONFIG.channels, tables=CONFIG.tables, neighbours=8, repeats=2)
    log = list(stream(300))
    counts, recent = learned(log, config)
    asked = recent.follow(np.arange(6), np.zeros(6, np.int64), np.zeros(6, np.int64)).recent
    asked[0, :] = -1
    for of in (asked, asked[asked.min(axis=1) >= 0], asked[:1]):
        view, rows = counts.serving(of)
        whole = ServingCounts(counts.arrays(), config.source)
        barred, available = (np.array([len(of) - 1]), np.array([3])), np.ones(ITEMS, bool)
        found = view.candidates(rows, 5, barred, available)
        np.testing.assert_array_equal(found, whole.candidates(of, 5, barred, available))
        every = np.broadcast_to(np.arange(ITEMS), (len(of), ITEMS))
        expected = whole.sums(of, every)
        for name, sums in view.sums(rows, every).items():
            np.testing.assert_array_equal(sums, expected[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Channel(window=0), "Channel.window is 0"),
        (lambda: Channel(decay=1.5), "Channel.decay is 1.5"),
        (lambda: Channel(half_life=9), "Channel.half_life is 9, expected at least 10"),
        (lambda: Table("near", floor=0), "Table.floor is 0"),
        (lambda: Table("near", read=0), "Table.read is 0"),
        (lambda: CountsConfig(source="none"), "CountsConfig.source is 'none'"),
        (lambda: CountsConfig(tables={"x": Table("y")}), "table x reads 'y'"),
        (lambda: CountsConfig(popularity=(0,)), "CountsConfig.popularity is 0"),
    ],
)
def test_settings_out_of_range_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def some_surplus(events: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    rows = np.argsort(random.random((events, ITEMS)), axis=1)[:, :7]
    rows[:, 5:][random.random((events, 2)) < 0.5] = -1
    return rows, np.where(rows >= 0, random.normal(size=rows.shape), 0).astype(np.float32)


def test_corrections_are_steps_down_the_gradient_in_the_pairs_that_are_kept() -> None:
    log = list(stream(400))
    counts, recent = learned(log, CORRECTED)
    before = recent.follow(np.arange(100) % 9, np.zeros(100, np.int64), np.zeros(100, np.int64)).recent
    rows, surplus = some_surplus(100)
    counts.correct(before, rows, surplus)
    expected = np.zeros((ITEMS, ITEMS))
    for event in range(100):
        for age, other in enumerate(before[event, :2]):
            for row, wrong in zip(rows[event], surplus[event], strict=True):
                if other >= 0 and row >= 0:
                    expected[other, row] -= 0.1 * 0.5**age * wrong
    arrays = counts.arrays()
    kept = np.zeros((ITEMS, ITEMS + 1), bool)
    kept[np.arange(ITEMS)[:, None], arrays["counts.pairs.neighbours"]] = True
    assert kept.sum() < kept.size / 2 and (dense(arrays, "learned") < 0).any()
    np.testing.assert_allclose(dense(arrays, "learned"), np.where(kept[:, :ITEMS], expected, 0), atol=1e-5)
    sums = ServingCounts(arrays, "near").sums(before[:3], np.tile(np.arange(ITEMS), (3, 1)))["learned"]
    by_hand = [
        sum(0.5**age * dense(arrays, "learned")[i] for age, i in enumerate(row[:2]) if i >= 0) for row in before[:3]
    ]
    np.testing.assert_allclose(sums, np.array(by_hand), atol=1e-5)


def test_a_correction_stays_with_its_pair_and_goes_with_it() -> None:
    counts, recent = learned(list(stream(400)), CORRECTED)
    counts.correct(np.arange(ITEMS)[:, None], *some_surplus(ITEMS))
    old = counts.arrays()
    teach(counts, recent, list(stream(300, seed=5)))
    new = counts.arrays()
    was, now = (zip_pairs(arrays) for arrays in (old, new))
    both = was.keys() & now.keys()
    assert 0 < len(both) < len(was) and any(was[pair] for pair in both)
    assert {pair: now[pair] for pair in both} == {pair: was[pair] for pair in both}
    assert not any(now[pair] for pair in now.keys() - was.keys())


def zip_pairs(arrays: dict[str, np.ndarray]) -> dict[tuple[int, int], float]:
    neighbours, values = arrays["counts.pairs.neighbours"], arrays["counts.pairs.learned.values"]
    row, place = np.nonzero(neighbours >= 0)
    return {
        (int(i), int(j)): float(value)
        for i, j, value in zip(row, neighbours[row, place], values[row, place], strict=True)
    }


def test_corrections_go_on_from_a_state() -> None:
    counts, recent = learned(list(stream(300)), CORRECTED)
    again = Counts.restore(CORRECTED, counts.state())
    before = recent.follow(np.arange(40) % 9, np.zeros(40, np.int64), np.zeros(40, np.int64)).recent
    for seed in (1, 2):
        for one in (counts, again):
            one.correct(before, *some_surplus(40, seed))
            one.learn(before, np.full(40, 3))
        again = Counts.restore(CORRECTED, again.state())
    for name, array in counts.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array, err_msg=name)


def test_counts_that_are_made_small_again_leave_corrections_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, recent = learned(list(stream(300)), CORRECTED)
    counts.correct(np.arange(ITEMS)[:, None], *some_surplus(ITEMS))
    before = zip_pairs(counts.arrays())
    worth = counts._own.worth.max()
    monkeypatch.setattr("models.counts._RESCALE_AT", 2.0)
    teach(counts, recent, [(0, 3)])
    assert counts._own.worth.max() < worth
    after = zip_pairs(counts.arrays())
    assert any(before.values()) and {pair: after[pair] for pair in before if pair in after} == before
