"""MovieLens 1M, leave-one-out: our model and our training, beside what is published for offline models.

    python -m bench.ml1m --data ml1m_sasrec_order.txt.gz --out run

A line for each user, items in order, no times (the order of SASRec's preprocessing): the last item of each user is the
test, the one before it the validation. The whole catalogue is ranked, without what the user has had; the epoch is
chosen by validation, and its test figures are told. Every epoch leaves a checkpoint in ``--out``: started again, it
goes on from there and comes to the same weights as one that was never stopped. Leave-one-out looks into the future of
other users, so figures are far above those of a stream: compare them only with leave-one-out on the same order.
"""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from models import trainer_files
from models.batches import Batch, InteractionLog
from models.config import EvolutionConfig, Float32, Int64
from models.features import YEAR_COLUMNS
from models.learner import Learner, TrainConfig
from models.train import warm_up

LATEST, BEST, HISTORY = "latest", "best", "epochs.jsonl"
_STEP_MS = 1000
"""Without times an event's place is its time: one second after the one before."""


@dataclass(frozen=True, slots=True)
class Split:
    """Histories of u users: item rows, in order.

    Attributes:
        histories: u arrays, the two held back items at their ends.
        items: n, size of the catalogue.
    """

    histories: list[Int64]
    items: int

    def training(self) -> InteractionLog:
        """All but everybody's last two."""
        kept = [history[:-2] for history in self.histories]
        users = np.repeat(np.arange(len(kept)), [len(one) for one in kept])
        places = np.concatenate([np.arange(len(one)) for one in kept])
        items, total = np.concatenate(kept), len(users)
        return InteractionLog(users, items, _STEP_MS * places, np.zeros(total, np.uint8), np.ones(total, np.float32))


def main(
    data: Annotated[Path, typer.Option(help="A line of item numbers for each user.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="Folder of checkpoints and figures.")],
    epochs: Annotated[int, typer.Option(help="In all, those done before included.", min=1)] = 100,
    dim: Annotated[int, typer.Option(help="Width of the model.")] = 64,
    layers: Annotated[int, typer.Option(help="Blocks.")] = 2,
    heads: Annotated[int, typer.Option(help="Attention heads of a block.")] = 2,
    window: Annotated[int, typer.Option(help="Events a block looks back on.")] = 100,
    dropout: Annotated[float, typer.Option(help="In training.")] = 0.2,
    batch: Annotated[int, typer.Option(help="Pieces of histories a step.")] = 32,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    average: Annotated[float, typer.Option(help="Decay a step of the averaged weights.")] = 0.998,
    temperature: Annotated[float, typer.Option(help="At the start.")] = 0.07,
    negatives: Annotated[int, typer.Option(help="Draws a step; 0: the whole catalogue competes.", min=0)] = 0,
    every: Annotated[int, typer.Option(help="Epochs between two looks at validation and test.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Of weights, batches, dropout.")] = 0,
    device: Annotated[str, typer.Option(help="A torch device.")] = "cpu",
) -> None:
    """Train, and tell figures as they come; Ctrl-C and a second start lose one epoch at most."""
    model = EvolutionConfig(
        dim=dim,
        layers=layers,
        heads=heads,
        window=window,
        hidden=4 * dim,
        dropout=dropout,
        temperature=temperature,
    )
    config = TrainConfig(
        model=model,
        epochs=epochs,
        batch_size=batch,
        learning_rate=rate,
        tie_shuffle=0.0,
        id_dropout=0.0,
        average=average,
        full_softmax_items=0 if negatives else 1_000_000,
        negatives=negatives or 1,
    )
    run(read(data), config, out, every=every, seed=seed, device=device)


def run(split: Split, config: TrainConfig, out: Path, *, every: int = 1, seed: int = 0, device: str = "cpu") -> None:
    """Epochs from where ``out`` left off up to ``config.epochs``; a line of figures for each look."""
    log = split.training()
    learner = Learner(np.zeros((split.items, YEAR_COLUMNS), np.float32), config, seed=seed, device=device)
    learner.count(log.items)
    random = np.random.default_rng(seed)
    done, best = _resume(out / LATEST, learner, random)
    for epoch in range(done + 1, config.epochs + 1):
        began = time.process_time()
        loss = warm_up(learner, log, random, epochs=range(epoch, epoch + 1))
        line: dict[str, Any] = {"epoch": epoch, "loss": loss, "cpu_s": time.process_time() - began}
        if epoch % every == 0 or epoch == config.epochs:
            line |= figures(learner, split)
            best = max(best, line["validation"]["ndcg"])
        _save(out / LATEST, learner, random, epoch, best, config)
        if line.get("validation", {}).get("ndcg") == best:
            _save(out / BEST, learner, random, epoch, best, config)
        _note(out / HISTORY, line)


def read(path: Path) -> Split:
    """Raises ValueError: a user has fewer than three items, or a line holds something else than numbers."""
    with gzip.open(path, "rt") as lines:
        histories = [np.array(line.split(), np.int64) for line in lines]
    short = [at for at, history in enumerate(histories, 1) if len(history) < 3]
    if short:
        raise ValueError(f"{path}: line {short[0]} holds fewer than three items, which leave-one-out needs")
    _, rows = np.unique(np.concatenate(histories), return_inverse=True)
    return Split(np.split(rows, np.cumsum([len(one) for one in histories])[:-1]), int(rows.max()) + 1)


def figures(learner: Learner, split: Split) -> dict[str, Any]:
    """HR@10 and NDCG@10 of validation and test, without items a user has had, and of the test with them."""
    items = learner.item_vectors()
    ranks = {"validation": [], "test": [], "test_unfiltered": []}  # type: dict[str, list[Int64]]
    for part, held in (("validation", 2), ("test", 1)):
        for histories in _chunks([one[: len(one) - held + 1] for one in split.histories], 64):
            scores = learner.user_vectors(last_of(histories, learner.config.model.history), items) @ items.T
            target = np.array([one[-1] for one in histories])
            if part == "test":
                ranks["test_unfiltered"].append(_rank(scores, target))
            for row, history in enumerate(histories):
                scores[row, history[:-1][history[:-1] != history[-1]]] = -np.inf
            ranks[part].append(_rank(scores, target))
    return {part: _at_10(np.concatenate(found)) for part, found in ranks.items()}


def last_of(histories: list[Int64], length: int) -> Batch:
    """The last event of each as the only target, with up to ``length`` events before it."""
    parts = [one[-length - 1 :] for one in histories]
    lengths = np.array([len(one) for one in parts])
    place = np.arange(lengths.max())
    present = place < lengths[:, None]
    items = np.full(present.shape, -1, np.int64)
    items[present] = np.concatenate(parts)
    return Batch(
        items=items,
        times_ms=np.broadcast_to(_STEP_MS * place, items.shape).copy(),
        actions=np.zeros(items.shape, np.uint8),
        weights=np.ones(items.shape, np.float32),
        lengths=lengths,
        firsts=np.array([len(one) <= length + 1 for one in histories]),
        targets=place == lengths[:, None] - 1,
        worth=np.ones(items.shape, np.float32),
    )


def _rank(scores: Float32, target: Int64) -> Int64:
    """Places from 0; of equal scores the target's is the last, so that nothing is won by a tie."""
    own = scores[np.arange(len(target)), target]
    place: Int64 = (scores >= own[:, None]).sum(axis=1) - 1
    return place


def _at_10(ranks: Int64) -> dict[str, float]:
    hit = ranks < 10
    gain = np.where(hit, 1 / np.log2(ranks + 2), 0)
    return {
        "hit_rate": float(hit.mean()),
        "ndcg": float(gain.mean()),
        "ndcg_error": float(gain.std() / len(gain) ** 0.5),
    }


def _chunks(histories: list[Int64], size: int) -> Iterator[list[Int64]]:
    """Of like length together: a batch is padded to its longest."""
    order = sorted(histories, key=len)
    return (order[at : at + size] for at in range(0, len(order), size))


def _resume(folder: Path, learner: Learner, random: np.random.Generator) -> tuple[int, float]:
    """Epochs done and the best validation so far."""
    if not (folder / trainer_files.STATE).is_file():
        return 0, -1.0
    state, arrays = trainer_files.read(folder)
    if state["model"] != asdict(learner.config.model):
        raise ValueError(f"{folder} was trained with {state['model']}, asked for is {asdict(learner.config.model)}")
    learner.restore(arrays)
    random.bit_generator.state = state["random"]
    return state["epoch"], state["best"]


def _save(
    folder: Path, learner: Learner, random: np.random.Generator, epoch: int, best: float, config: TrainConfig
) -> None:
    """Aside first: one that is stopped while it writes has the epoch before."""
    state = {"epoch": epoch, "best": best, "model": asdict(config.model), "random": random.bit_generator.state}
    trainer_files.write(aside := folder.with_suffix(".part"), state, learner.state())
    if folder.exists():
        folder.rename(old := folder.with_suffix(".old"))
        aside.rename(folder)
        shutil.rmtree(old)
    else:
        aside.rename(folder)


def _note(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    typer.echo(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
