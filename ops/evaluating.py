"""Puts an evaluation together: stream, item vectors, arms; plays one arm after the other and collects the result.

Knows what belongs together; the playing is evaluation's. Progress goes to whoever is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evaluation.contenders import CONTENT, LEARNED, recipes
from evaluation.learning import FrozenArm, OnlineArm, RetrainArm, Serving, WarmStart
from evaluation.lists import ListedArm, write_lists
from evaluation.predictions import read_predictions
from evaluation.prequential import Arm, BaselineArm, Sink, play
from evaluation.prequential_report import report
from evaluation.stream import EventStream
from evaluation.trainers import StreamTrainer
from evaluation.tuning import tune
from models.batches import InteractionLog
from models.config import Int64
from models.online_config import OnlineConfig
from models.recipes import RECIPES
from ops.errors import CliError
from streams.contracts import Item, ItemVector

if TYPE_CHECKING:
    from ops.embeddings import StoredEncoder


@dataclass(frozen=True, slots=True)
class Options:
    """What to evaluate; the command's help says what each means."""

    arms: tuple[str, ...]
    warm_up: float = 0.2
    seen: str = "filter"
    k: int = 10
    size: int = 2
    members: int = 1
    recipe: str | None = None
    epochs: int | None = None
    round_size: int = 256
    retrain_every: float = 0.1
    tune: bool = True
    seed: int = 0
    windows: int = 20
    replicates: int = 1000
    device: str = "cpu"
    predictions: Path | None = None
    lists: Path | None = None
    added: tuple[tuple[str, Path], ...] = ()


class Show(Protocol):
    """Where progress goes."""

    def begin(self, what: str) -> Callable[[int, int], None]:
        """A new piece of work; the function takes how much is done, and of how much (0: unknown)."""


class Evaluation:
    """One stream, several arms.

    `told` are the items by row of ``stream.item_ids`` (None: without text), `encoder` is called only when it is needed.
    """

    def __init__(
        self,
        stream: EventStream,
        told: Sequence[Item | None],
        options: Options,
        encoder: Callable[[], StoredEncoder],
        show: Show,
    ) -> None:
        self.stream, self.options, self._show = stream, options, show
        self._told, self._encoder = told, encoder
        try:
            self.cut = stream.cut(options.warm_up)
        except ValueError as error:
            raise CliError(str(error), "Choose another --warm-up: a share, or a number of events.") from error
        self._vectors: list[ItemVector] | None = None
        self._start: WarmStart | None = None
        if CONTENT in options.arms and not self.has_text:
            raise CliError("arm content needs texts", "Give --items, or columns title and text in the events.")

    @property
    def has_text(self) -> bool:
        """Whether any item has one."""
        return any(item is not None for item in self._told)

    def run(self) -> dict[str, Any]:
        """Play every arm; the report, with the settings it was made with."""
        options = self.options
        arms = {name: partial(self._arm, name) for name in options.arms}
        # Those first: a file that cannot be used should be known before an hour has passed.
        added = {name: self._added(name, path) for name, path in options.added}
        played = {}
        for name in [*added, *arms]:
            arm: Arm = added[name] if name in added else arms[name]()
            with self._sink(name) as sink:
                follow = self._show.begin(name)
                played[name] = play(
                    self.stream, self.cut, arm, round_size=options.round_size, progress=follow, sink=sink
                )
        self._show.begin("intervals")(0, 0)
        found = report(
            self.stream, self.cut, played, windows=options.windows, replicates=options.replicates, seed=options.seed
        )
        settings = {name: value for name, value in asdict(options).items() if name not in ("predictions", "lists")}
        settings["added"] = {name: path.name for name, path in options.added}
        return {"settings": settings} | found

    # -- arms ---------------------------------------------------------------------------------------

    def _arm(self, name: str) -> Arm:
        if name in LEARNED:
            return self._learned(name)
        return self._counted(name)

    def _learned(self, name: str) -> Arm:
        options = self.options
        if self._start is None:
            self._start = WarmStart(self.stream, self.cut, self._fit)
        serving = Serving(
            self.vectors(), options.k, filter_seen=options.seen == "filter", users_at_once=max(512, options.round_size)
        )
        if name == "retrain":
            return RetrainArm(self._start, serving, max(1, round(options.retrain_every * len(self.stream))))
        return OnlineArm(self._start, serving) if name == "online" else FrozenArm(self._start, serving)

    def _fit(self, log: InteractionLog, items: int) -> StreamTrainer:
        options = self.options
        follow = self._show.begin(f"training on {len(log):,} events")
        return StreamTrainer(
            log,
            items,
            self.vectors(),
            self._recipe(),
            seed=options.seed,
            progress=lambda epoch, epochs, loss: follow(epoch, epochs),
            device=options.device,
        )

    def _recipe(self) -> OnlineConfig:
        """The one asked for, by default the one for data with or without repeats."""
        options = self.options
        recipe = RECIPES[options.recipe or ("histories" if options.seen == "filter" else "sessions")]
        asked = {} if options.epochs is None else {"epochs": options.epochs}
        config = recipe(options.size, members=options.members, **asked)
        training = replace(config.training, mask_seen=options.seen == "filter")
        # Nothing is asked about later times.
        return replace(config, training=training, round_events=options.round_size, horizon=None)

    def _counted(self, name: str) -> Arm:
        options, filtered = self.options, self.options.seen == "filter"
        recipe = self._recipes()[name]
        settings, trials = dict(recipe.start), []
        if options.tune:
            follow = self._show.begin(f"tuning {name}")
            tuned = tune(
                recipe, self.stream, self.cut, k=options.k, exclude_seen=filtered, progress=lambda n: follow(n, 0)
            )
            settings, trials = tuned.settings, tuned.trials
        facts = {"settings": settings, "tuning": [{"settings": one, "ndcg": value} for one, value in trials]}
        return BaselineArm(
            self.stream, self.cut, recipe.make(**settings), k=options.k, exclude_seen=filtered, facts=facts
        )

    def _recipes(self) -> dict[str, Any]:
        ids: list[str] = []
        text = None
        if CONTENT in self.options.arms:
            rows = [row for row, item in enumerate(self._told) if item is not None]
            vectors = self.vectors()
            ids = [vectors[row].item for row in rows]
            text = np.stack([np.frombuffer(vectors[row].vector_f32, "<f4") for row in rows])
        return recipes(ids, text, repeats=self.options.seen == "keep", seed=self.options.seed)

    # -- items --------------------------------------------------------------------------------------

    def vectors(self) -> list[ItemVector]:
        """All items of the stream as their topic would have them; without any text, vectors of no numbers."""
        if self._vectors is None:
            self._vectors = self._encode() if self.has_text else [_bare(item) for item in self.stream.item_ids]
        return self._vectors

    def _encode(self) -> list[ItemVector]:
        """Vectors of the items that have a text; others get the mean of all, which says nothing."""
        from streams.embedder import VectorCache

        items = [item for item in self._told if item is not None]
        follow = self._show.begin("encoding texts")
        encoder = self._encoder()
        cache = VectorCache(encoder, size=0)
        found: dict[str, ItemVector] = {}
        for begin in range(0, len(items), 64):
            follow(begin, len(items))
            found |= {vector.item: vector for vector in cache.vectors(items[begin : begin + 64])}
        mean = np.mean([np.frombuffer(one.vector_f32, "<f4") for one in found.values()], axis=0).astype("<f4")
        blank = _blank(encoder.fingerprint, mean)
        return [found.get(item) or blank(item) for item in self.stream.item_ids]

    # -- lists in files -----------------------------------------------------------------------------

    @contextmanager
    def _sink(self, name: str) -> Iterator[Sink]:
        """What writes the lists of an arm to the files that ask for them."""
        options = self.options
        paths = [options.lists / f"{name}.jsonl"] if options.lists is not None else []
        if options.predictions is not None and name == "online":
            paths.append(options.predictions)
        with ExitStack() as files:
            opened = [files.enter_context(path.open("w", encoding="utf-8")) for path in paths]

            def write(first: int, lists: Int64) -> None:
                for file in opened:
                    write_lists(file, self.stream, first, lists)

            yield write

    def _added(self, name: str, path: Path) -> ListedArm:
        expected = "Expected a line for each test event, in order, as --predictions writes it."
        try:
            lists = read_predictions(path, self.stream, self.cut, self.options.k)
        except (OSError, ValueError) as error:
            raise CliError(str(error), expected) from error
        if self.cut + len(lists) < len(self.stream):
            raise CliError(f"{path}: event {self.cut + len(lists)} has no line", expected)
        return ListedArm(lists, self.cut, {"added": path.name})


def _bare(item: str) -> ItemVector:
    return ItemVector(item, "", "", b"", "")


def _blank(encoder: str, vector: np.ndarray[Any, np.dtype[np.float32]]) -> Callable[[str], ItemVector]:
    """A function from an item without text to its vector."""
    return lambda item: ItemVector(item, encoder, "", vector.tobytes(), "")
