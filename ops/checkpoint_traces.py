"""What training still holds of a user: the checkpoints beside the releases, judged by how far training has come.

A checkpoint knows users by 64-bit hashes only. Once training has read an erasure, the checkpoint it wrote afterwards
must not have its user, unless he came back; older ones go with the next. Reads files; knows nothing of topics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from models.continual import TRAINER
from models.trainer_files import ARRAYS
from ops.proof import Holding, Proof
from streams.contracts import TrainerState
from streams.rounds import user_code

_BLANK_ITEM = -2
"""Of an exemplar whose user was forgotten (models/exemplars.py)."""


def checkpoint_holdings(folder: Path, proof: Proof, state: TrainerState | None) -> list[Holding]:
    """What the checkpoints in a folder hold of a user.

    state: what is published of how far training has come; None: nothing.
    """
    found = []
    for path in _checkpoints(folder):
        try:
            held = _held(path / TRAINER / ARRAYS, user_code(proof.user))
        except (OSError, SafetensorError) as error:
            problem = f"a checkpoint cannot be read; delete it if no learner goes on from it: {error}"
            found.append(Holding(str(path), "a checkpoint of training", 1, None, None, problem=problem))
            continue
        if held:
            found.append(_judged(path, held, proof, state))
    return found


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Those that were being written when their writer died, too."""
    found = {*folder.glob(f"*/{TRAINER}/{ARRAYS}"), *folder.glob(f".*/{TRAINER}/{ARRAYS}")}
    return (path.parent.parent for path in sorted(found))


def _held(path: Path, code: int) -> int:
    """Interactions and histories of a user in a file of a trainer; only the columns asked for are read."""
    with safe_open(path, framework="np") as file:
        names = set(file.keys())
        held = 0
        if "exemplars.users" in names:
            his = file.get_tensor("exemplars.users") == code
            held += int(np.count_nonzero(his & (file.get_tensor("exemplars.items") != _BLANK_ITEM)))
        if "blended.recent.users" in names:
            held += int(np.count_nonzero(file.get_tensor("blended.recent.users") == code))
    return held


def _judged(path: Path, held: int, proof: Proof, state: TrainerState | None) -> Holding:
    def holding(removed_by: str = "", problem: str | None = None) -> Holding:
        what = "what training goes back to, under his hash"
        return Holding(str(path), what, held, None, None, problem=problem, removed_by=removed_by)

    if not proof.erased:
        return holding(problem="no erasure of him is in the log; run `driftline erase` for him")
    if path.name.startswith("."):
        return holding(problem="a checkpoint whose writer died: delete the folder")
    if proof.returned:
        return holding()
    if state is None or path.name != state.checkpoint:
        return holding("the next two checkpoints (`driftline learn`), or delete the folder")
    if all(state.at.events.get(str(partition), 0) > offset for partition, offset in proof.erased):
        return holding(problem="training has read the erasure, and has kept him")
    return holding("the next checkpoint once training has read the erasure (`driftline learn`)")
