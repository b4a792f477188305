"""`driftline erase --verify` without its printing: reads topics, their configurations and local files, and judges.

Where the parts of a proof meet: `traces.py` finds, `retention.py` dates, `proof.py` judges. What lies in this machine's
stores of states is judged here, what lies in checkpoints of training by `checkpoint_traces.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ops.checkpoint_traces import checkpoint_holdings
from ops.configuration import disk_config
from ops.proof import Holding, Judge, Proof
from ops.retention import retentions
from ops.settings import Settings
from ops.traces import survey
from streams.cluster import Cluster
from streams.contracts import TrainerState
from streams.names import PLAIN_NAMES, Topics
from streams.releases import read_models
from streams.store import StoreDamaged
from streams.store_disk import FLUSH_SECONDS
from streams.stores import UPKEEP_SECONDS, Copy, find_copies
from streams.trainer import CHECKPOINTS

_REACHES_THE_DISK_MS = round(1000 * (FLUSH_SECONDS + 2 * UPKEEP_SECONDS))


async def verify(
    cluster: Cluster,
    settings: Settings,
    users: Sequence[str],
    now: int,
    progress: Callable[[int], None] = lambda left: None,
) -> list[Proof]:
    """Say of each user what still holds his id; `now` is in ms.

    Raises CliError when a topic is missing, or the cluster does not tell its configuration.
    """
    topics = Topics(settings.topic_prefix)
    named = await retentions(cluster, topics.all)
    found = await survey(cluster, topics, users, progress)
    by_plain = {name: named[topics.name(name)] for name in PLAIN_NAMES}
    proofs = [Judge(user, found, by_plain, now).judge() for user in found.users]
    training = (await _training(cluster, topics)) if proofs else None
    for proof in proofs:
        proof.holdings += local_holdings(settings, proof, now)
        proof.holdings += checkpoint_holdings(settings.releases_dir / CHECKPOINTS, proof, training)
    return proofs


async def _training(cluster: Cluster, topics: Topics) -> TrainerState | None:
    """How far training has come; None where nothing says so, or what says so cannot be read."""
    try:
        return (await read_models(cluster, topics.models)).trainer
    except ValueError:
        return None


def local_holdings(settings: Settings, proof: Proof, now: int) -> list[Holding]:
    """What the stores of states on this machine hold of a user; `now` is in ms."""
    disk = disk_config(settings)
    try:
        copies = find_copies(disk.folder, proof.user.encode(), disk.keep_seconds)
    except StoreDamaged as error:
        problem = f"a store cannot be read; stop the workers and delete the folder: {error}"
        return [Holding(str(disk.folder), "stores of states", 1, None, None, problem=problem)]
    return [_judged(copy, proof, now) for copy in copies]


def _judged(copy: Copy, proof: Proof, now: int) -> Holding:
    what = "his state" if copy.has else "bytes of deleted states, perhaps of his"
    until, problem = None if copy.gone_by is None else round(1000 * copy.gone_by), None
    if until is None and copy.has and proof.lives:  # the changelog's state, so what is true of that is of this copy
        problem = _of_the_live(proof)
    if until is None and not proof.lives:  # a worker has the store: it deletes what the changelog deletes
        until = None if proof.deleted is None else proof.deleted + _REACHES_THE_DISK_MS
        if until is None:
            problem = "a worker's store has a state that the changelog has not: stop the worker and delete the folder"
    if until is not None and until < now:
        problem = "should be gone by now: does a worker run here? Without one, delete the folder"
    return Holding(str(copy.path), what, 1, None, until, problem=problem)


def _of_the_live(proof: Proof) -> str | None:
    """Why the state that the changelog has must not be there; None where it is of one who came back."""
    return next((one.problem for one in proof.problems if one.where == "state" and one.until is None), None)
