"""What evaluations train with: the recipe of models/train.py, as a trainer. Knows nothing of streams or scores."""

from __future__ import annotations

from collections.abc import Sequence

from models.batches import InteractionLog
from models.release import Release
from models.train import Progress, TrainConfig, train
from streams.contracts import ItemVector
from streams.world import features_of


class Offline:
    """Trained once, when it is made; it cannot go on learning."""

    def __init__(
        self,
        log: InteractionLog,
        items: Sequence[ItemVector],
        config: TrainConfig,
        *,
        seed: int,
        progress: Progress | None = None,
    ) -> None:
        """``log.items`` are rows of ``items``."""
        self._release = train(
            log,
            [item.item for item in items],
            features_of(items),
            config,
            seed=seed,
            text_encoder=items[0].encoder,
            progress=progress,
        )

    def release(self) -> Release:
        """What was learned."""
        return self._release

    def learn(self, log: InteractionLog, items: int) -> None:
        """Not this one."""
        raise TypeError("a release trained offline does not learn")
