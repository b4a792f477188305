"""What evaluations train with: the online trainer, on a stream whose items become known as it goes.

Rows of items are the stream's all along, so that nothing is renumbered. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.batches import InteractionLog
from models.online import OnlineConfig, OnlineTrainer
from models.release import Release
from models.train import Progress
from streams.contracts import ItemVector
from streams.world import features_of


class StreamTrainer:
    """An online trainer that is told of the stream's items when they are there.

    ``vectors`` are all items of the stream by row, the later ones included; ``items`` says how many there are by now.
    """

    def __init__(
        self,
        log: InteractionLog,
        items: int,
        vectors: Sequence[ItemVector],
        config: OnlineConfig,
        *,
        seed: int,
        progress: Progress | None = None,
        device: str = "cpu",
    ) -> None:
        """Warm up on ``log``, whose items are rows of ``vectors``."""
        self._vectors = vectors
        known = vectors[:items]
        self._trainer = OnlineTrainer(
            log,
            [vector.item for vector in known],
            features_of(known),
            config,
            seed=seed,
            text_encoder=vectors[0].encoder,
            progress=progress,
            device=device,
        )

    def learn(self, log: InteractionLog, items: int) -> None:
        """One round."""
        new = self._vectors[len(self._trainer.item_ids) : items]
        if new:
            self._trainer.put_items([vector.item for vector in new], features_of(new))
        self._trainer.learn(log)

    def release(self) -> Release:
        """What was learned so far."""
        return self._trainer.release()
