"""A release: weights, shapes and ids of one trained model as an immutable directory. Knows nothing about torch.

Two files, neither of them pickled: ``weights.safetensors`` and ``release.json``. The id is derived from the
content, so two releases with one id are the same release.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as dump_safetensors

from models import horizon, sections
from models.config import ACTIONS, EvolutionConfig
from models.features import FeatureSpace

FORMAT = 5
"""Written with a table that is learned; for a model of several members it is 4, with a head for later times 3, with
counts and a blend 2, else 1."""
WEIGHTS, MANIFEST = "weights.safetensors", "release.json"


@dataclass(frozen=True, eq=False)
class Release:
    """One trained model.

    Attributes:
        config: shape of the evolution model.
        space: where item features become columns.
        item_ids: n items that the training saw; row i of ``tower.residual`` belongs to item i.
        arrays: float32 weights by name, as in ``expected_shapes``; counts and blend besides, as in models/sections.py,
            and a head for later times, as in models/horizon.py.
        text_encoder: fingerprint of the encoder that made the text vectors.
        facts: how it was trained, for people: JSON values only.
        source: of the tables of counts the one that gives candidates; none in a release without counts.

    Raises:
        ValueError: an array is missing, unexpected, not finite, or of another shape or type.
    """

    config: EvolutionConfig
    space: FeatureSpace
    item_ids: tuple[str, ...]
    arrays: dict[str, npt.NDArray[Any]]
    text_encoder: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if len(set(self.item_ids)) != len(self.item_ids):
            raise ValueError("Release.item_ids holds an id twice, expected distinct ids")
        expected = expected_shapes(self.config, self.space.columns, len(self.item_ids))
        optional = sections.optional(self.arrays) | horizon.optional(self.arrays)
        if odd := sorted((self.arrays.keys() - optional) ^ expected.keys()):
            raise ValueError(f"Release.arrays: missing or unexpected {odd}")
        for name, shape in expected.items():
            array = self.arrays[name]
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, expected float32 {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity, expected finite weights")
        sections.check(self.arrays, len(self.item_ids), self.source)
        horizon.check(self.arrays, self.config.dim, len(self.space.vocabulary))

    @property
    def format(self) -> int:
        """The oldest format that can say all of it, so that what an older version can read it does read."""
        if not all(sections.floors(self.arrays).values()):
            return FORMAT
        if self.config.members > 1:
            return 4
        if horizon.optional(self.arrays):
            return 3
        return 2 if self.source else 1

    @cached_property
    def id(self) -> str:
        """``d64l2w50-`` and twelve hexadecimal digits of a digest over weights and manifest."""
        return self._manifest(hashlib.sha256(self._weights()).hexdigest())["id"]  # type: ignore[no-any-return]

    def save(self, directory: Path) -> Path:
        """Write ``directory/<id>/``, aside first and then renamed: a reader sees all of it or nothing.

        Returns the path, also when it was there before (same id, same content).
        """
        target = directory / self.id
        directory.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=directory))
        try:
            weights = self._weights()
            _write(aside / WEIGHTS, weights)
            manifest = self._manifest(hashlib.sha256(weights).hexdigest())
            _write(aside / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1).encode())
            aside.chmod(0o755)
            _rename(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return target

    @classmethod
    def load(cls, path: Path) -> Release:
        """Read a release and verify it.

        Raises:
            FileNotFoundError: the directory or one of its files is missing.
            ValueError: damaged, changed since it was written, or of another format.
        """
        for name in (MANIFEST, WEIGHTS):
            if not (path / name).is_file():
                raise FileNotFoundError(f"no release at {path}: {name} is missing")
        try:
            manifest = json.loads((path / MANIFEST).read_bytes())
            if not 1 <= manifest["format"] <= FORMAT:
                raise ValueError(f"{path}: format {manifest['format']}, this version reads 1 to {FORMAT}")
            weights = (path / WEIGHTS).read_bytes()
            if (digest := hashlib.sha256(weights).hexdigest()) != manifest["weights_sha256"]:
                raise ValueError(f"{path}: sha256 of {WEIGHTS} is {digest}, expected {manifest['weights_sha256']}")
            release = cls._of(manifest, parse_safetensors(weights))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(f"{path}: not a release that can be read: {error!r}") from error
        if release.id != manifest["id"]:
            raise ValueError(f"{path}: content gives the id {release.id}, expected {manifest['id']}")
        return release

    @classmethod
    def _of(cls, manifest: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Release:
        space = FeatureSpace(
            text_mean=arrays.pop("space.text_mean"),
            vocabulary=tuple(manifest["vocabulary"]),
            year_mean=manifest["year_mean"],
            year_scale=manifest["year_scale"],
        )
        return cls(
            config=EvolutionConfig(**manifest["config"]),
            space=space,
            item_ids=tuple(manifest["item_ids"]),
            arrays=arrays,
            text_encoder=manifest["text_encoder"],
            facts=manifest["facts"],
            source=manifest.get("source", ""),
        )

    def _weights(self) -> bytes:
        arrays = self.arrays | {"space.text_mean": self.space.text_mean}
        # asarray, because ascontiguousarray turns a scalar into a vector.
        content: bytes = dump_safetensors({name: np.asarray(array, order="C") for name, array in arrays.items()})
        return content

    def _manifest(self, weights_sha256: str) -> dict[str, Any]:
        content = {
            "format": self.format,
            "config": _shape(self.config),
            "vocabulary": list(self.space.vocabulary),
            "year_mean": self.space.year_mean,
            "year_scale": self.space.year_scale,
            "text_encoder": self.text_encoder,
            "facts": self.facts,
            "weights_sha256": weights_sha256,
            "item_ids": list(self.item_ids),
        } | ({"source": self.source} if self.source else {})
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        shape = f"d{self.config.dim}l{self.config.layers}w{self.config.window}"
        return {"id": f"{shape}-{digest[:12]}"} | content


def expected_shapes(config: EvolutionConfig, columns: int, items: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of a release: f feature columns, n items."""
    d, heads = config.dim, config.heads
    width, inner = d // config.members, config.hidden // config.members
    shapes: dict[str, tuple[int, ...]] = {
        "tower.project": (columns, d),
        "tower.project_bias": (d,),
        "tower.popularity": (columns,),
        "tower.popularity_bias": (),
        "tower.residual": (items, d),
        "tower.item_bias": (items,),
        "tower.new_item_bias": (),
        "evolution.start": (d,),
        "evolution.gap": (config.time_buckets + 1, d),
        "evolution.action": (ACTIONS, d),
        "evolution.weight": (d,),
        "evolution.final_norm": (d,),
        "evolution.log_temperature": (),
    }
    for at in range(config.layers):
        shapes |= {
            f"evolution.layers.{at}.attention_norm": (d,),
            f"evolution.layers.{at}.qkv": (d, 3 * width),
            f"evolution.layers.{at}.out": (d, width),
            f"evolution.layers.{at}.distance": (heads, config.window),
            f"evolution.layers.{at}.time": (heads, config.time_buckets),
            f"evolution.layers.{at}.forward_norm": (d,),
            f"evolution.layers.{at}.up": (d, inner),
            f"evolution.layers.{at}.down": (config.hidden, width),
        }
    return shapes


def _shape(config: EvolutionConfig) -> dict[str, Any]:
    """As in the manifest. One member is not mentioned: ids of older releases are digests without it."""
    return {name: value for name, value in asdict(config).items() if name != "members" or value > 1}


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError:
        # A directory of that id exists: the id is made of the content, so it is this one.
        if not target.is_dir():
            raise
