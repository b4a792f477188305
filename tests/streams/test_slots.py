"""Folders that processes share: which one the next owner goes on with, and that none stays held by nobody."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from streams.slots import Slot, sweep, take_slot


def left(folder: Path, number: int, position: int) -> Slot:
    """A slot with something in it, noted to go as far as `position`, that nobody holds any more."""
    folder.mkdir(exist_ok=True)
    slot = Slot.hold(folder / f"slot-{number}.lock")
    assert slot is not None
    slot.path.mkdir()
    (slot.path / "states").write_bytes(b"x")
    slot.note(position)
    slot.release()
    return slot


def is_free(folder: Path, number: int) -> bool:
    slot = Slot.hold(folder / f"slot-{number}.lock")
    if slot is not None:
        slot.release()
    return slot is not None


def test_goes_on_with_what_goes_furthest_and_empties_the_rest(tmp_path: Path):
    for number, position in enumerate((7, 1000, 30)):
        left(tmp_path, number, position)
    slot = take_slot(tmp_path)
    assert (slot.path.name, slot.noted) == ("slot-1", 1000)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["slot-1"]
    assert is_free(tmp_path, 0) and is_free(tmp_path, 2) and not is_free(tmp_path, 1)
    slot.release()


def test_the_note_of_a_slot_that_was_emptied_counts_no_more(tmp_path: Path):
    """Its next holder may have died before he wrote down how far he came."""
    folder = tmp_path / "state-0"
    left(folder, 0, 1000)
    assert sweep(tmp_path, -1) == [folder / "slot-0"]
    (folder / "slot-0").mkdir()
    left(folder, 1, 5)
    slot = take_slot(folder)
    assert (slot.path.name, slot.noted) == ("slot-1", 5)
    slot.release()


def test_nor_does_the_note_of_one_that_was_deleted_by_hand(tmp_path: Path):
    shutil.rmtree(left(tmp_path, 0, 1000).path)
    left(tmp_path, 1, 5)
    slot = take_slot(tmp_path)
    assert (slot.path.name, slot.noted) == ("slot-1", 5)
    slot.release()


def test_a_lock_that_cannot_be_opened_leaves_the_others_free(tmp_path: Path):
    left(tmp_path, 0, 5)
    (tmp_path / "slot-1.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        take_slot(tmp_path)
    assert is_free(tmp_path, 0)


def test_a_slot_that_cannot_be_emptied_leaves_all_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    left(tmp_path, 0, 5)
    left(tmp_path, 1, 6)

    def full(slot: Slot) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Slot, "empty", full)
    with pytest.raises(OSError, match="no space"):
        take_slot(tmp_path)
    assert is_free(tmp_path, 0) and is_free(tmp_path, 1)
