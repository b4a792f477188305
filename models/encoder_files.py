"""Writes a text encoder's folder with one more linear layer after its pooling, as sentence-transformers would.

The encoder itself is copied as it is; formats that are not read here are left behind. Knows nothing of how the layer
came about.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.config import Float32
from models.encoder_config import EncoderConfig, read_json

_LEFT = ("*.bin", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "onnx", "openvino", ".git", ".cache")
_MODULES = "modules.json"
_KIND = "sentence_transformers.models."


def with_layer(source: Path, weight: Float32, target: Path, facts: dict[str, Any]) -> EncoderConfig:
    """Copy an encoder and put a layer x · weightᵀ last; what the new folder says.

    Args:
        source: an encoder's folder.
        weight: [outputs, inputs]; inputs are the width of its vectors.
        target: made, all of it or nothing.
        facts: how the layer was made, JSON values, kept beside it.

    Raises:
        FileExistsError: the target is there.
        FileNotFoundError, ValueError: the source is none that can be read.
    """
    config = EncoderConfig.read(source)
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=target.parent))
    try:
        shutil.copytree(source, aside, ignore=shutil.ignore_patterns(*_LEFT), dirs_exist_ok=True)
        modules = _modules(aside, config)
        name = f"{len(modules)}_Dense"
        _write_layer(aside / name, weight, facts)
        last = [at for at, module in enumerate(modules) if not module["type"].endswith("Normalize")][-1]
        modules.insert(last + 1, {"path": name, "type": f"{_KIND}Dense"})
        numbered = [{"idx": at, "name": str(at), **module} for at, module in enumerate(modules)]
        (aside / _MODULES).write_text(json.dumps(numbered, indent=2))
        aside.chmod(0o755)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return EncoderConfig.read(target)


def _modules(folder: Path, config: EncoderConfig) -> list[dict[str, str]]:
    """Those that it has, in order; where it says nothing, what is done with it anyway, which is written there."""
    told = [{"path": module["path"], "type": module["type"]} for module in read_json(folder / _MODULES) or []]
    if any(module["type"].endswith("Pooling") for module in told):
        return told
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    flag = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}[config.pooling]
    said = {f"pooling_mode_{flag}": True, "include_prompt": config.pool_prompt}
    (pooling / "config.json").write_text(json.dumps(said, indent=2))
    return [*(told or [{"path": "", "type": f"{_KIND}Transformer"}]), {"path": pooling.name, "type": f"{_KIND}Pooling"}]


def _write_layer(folder: Path, weight: Float32, facts: dict[str, Any]) -> None:
    folder.mkdir()
    said = {
        "in_features": weight.shape[1],
        "out_features": weight.shape[0],
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "config.json").write_text(json.dumps(said, indent=2))
    (folder / "tuning.json").write_text(json.dumps(facts, indent=2))
    save_file({"linear.weight": np.ascontiguousarray(weight)}, folder / "model.safetensors")
