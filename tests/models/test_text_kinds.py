"""Encoders of other kinds than the bundled one: tiny ones with random weights, saved as their makers save them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from models.encoder_config import EncoderConfig, Pooling
from models.text import TextEncoder

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "<s>", "</s>"]
WORDS += ["a", "film", "about", "rebels", "bread", "at", "home", "find", ":", "cats", "and", "dogs"]
TEXTS = ["a film about rebels", "bread", "cats and dogs and bread at home"]


def save_tokenizer(folder: Path, *, decoder: bool = False) -> None:
    inner = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder:
        made = PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="[UNK]", padding_side="left"
        )
    else:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
        made = PreTrainedTokenizerFast(
            tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
        )
    made.save_pretrained(folder)


def bert(folder: Path, positions: int = 64) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
    )
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def llama(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    LlamaModel(config).save_pretrained(folder)
    save_tokenizer(folder, decoder=True)
    return folder


def write(path: Path, told: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))


def with_modules(folder: Path, *kinds: tuple[str, str]) -> None:
    write(
        folder / "modules.json",
        [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds],
    )


@pytest.mark.parametrize("flag, pooling", [("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")])
def test_pooling_is_read_from_the_folder_and_can_be_overridden(tmp_path: Path, flag: str, pooling: Pooling) -> None:
    folder = bert(tmp_path)
    with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    write(folder / "1_Pooling/config.json", {"word_embedding_dimension": 16, f"pooling_mode_{flag}": True})
    read = TextEncoder(folder)
    assert read.config.pooling == pooling
    np.testing.assert_allclose(read.encode(TEXTS), TextEncoder(folder, pooling=pooling).encode(TEXTS), atol=1e-6)
    other: Pooling = "cls" if pooling != "cls" else "mean"
    assert not np.allclose(read.encode(TEXTS), TextEncoder(folder, pooling=other).encode(TEXTS), atol=1e-3)


def test_a_decoder_gives_its_last_tokens_state_whatever_shares_its_batch(tmp_path: Path) -> None:
    """Its tokenizer has no token for padding and pads on the left: both would be wrong here."""
    encoder = TextEncoder(llama(tmp_path), pooling="last")
    alone = [encoder.encode([text])[0] for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-5)
    with torch.inference_mode():
        model = LlamaModel.from_pretrained(tmp_path, dtype=torch.float32)
        state = model(torch.tensor([[WORDS.index("bread")]])).last_hidden_state[0, -1].numpy()
    np.testing.assert_allclose(alone[1], state / np.linalg.norm(state), atol=1e-5)


def test_of_an_encoder_with_a_decoder_the_encoder_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    encoder = TextEncoder(tmp_path)
    ids = [1, WORDS.index("bread"), 2]
    with torch.inference_mode():
        states = T5EncoderModel.from_pretrained(tmp_path)(torch.tensor([ids])).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(encoder.encode(["bread"])[0], states / np.linalg.norm(states), atol=1e-5)


def test_the_prompt_for_documents_is_read_and_its_tokens_may_be_left_out_of_the_mean(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    write(folder / "config_sentence_transformers.json", {"prompts": {"query": "cats : ", "document": "find : "}})
    pooled = TextEncoder(folder)
    assert pooled.config.prompt == "find : "
    assert TextEncoder(folder, prompt="").config.prompt == ""
    np.testing.assert_allclose(
        pooled.encode(["bread"]), TextEncoder(folder, prompt="").encode(["find : bread"]), atol=1e-6
    )
    with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
    write(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False})
    left_out = TextEncoder(folder)
    with torch.inference_mode():
        ids = [1, WORDS.index("find"), WORDS.index(":"), WORDS.index("bread"), 2]
        states = BertModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0, 3:].mean(dim=0).numpy()
    np.testing.assert_allclose(left_out.encode(["bread"])[0], states / np.linalg.norm(states), atol=1e-5)
    assert left_out.fingerprint != pooled.fingerprint


def test_layers_after_pooling_are_applied(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    plain = TextEncoder(folder)
    with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"))
    write(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(folder / "2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"})
    weight, bias = torch.randn(4, 16), torch.randn(4)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense/model.safetensors")
    encoder = TextEncoder(folder)
    with torch.inference_mode():
        ids = torch.tensor([[1, WORDS.index("bread"), 2]])
        state = BertModel.from_pretrained(folder)(ids).last_hidden_state[0].mean(dim=0)
    expected = torch.tanh(weight @ state + bias).numpy()
    np.testing.assert_allclose(encoder.encode(["bread"])[0], expected / np.linalg.norm(expected), atol=1e-5)
    assert (encoder.dim, plain.dim) == (4, 16) and encoder.fingerprint != plain.fingerprint


def test_texts_are_cut_to_the_positions_that_there_are(tmp_path: Path) -> None:
    encoder = TextEncoder(bert(tmp_path, positions=8))
    assert np.isfinite(encoder.encode(["bread " * 50])).all()


def test_the_transformer_may_lie_in_a_folder_of_its_own_and_say_its_length(tmp_path: Path) -> None:
    bert(tmp_path / "0_Transformer")
    with_modules(tmp_path, ("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"))
    write(tmp_path / "1_Pooling/config.json", {"pooling_mode_cls_token": True})
    write(tmp_path / "0_Transformer/sentence_bert_config.json", {"max_seq_length": 5})
    config = EncoderConfig.read(tmp_path)
    assert (config.pooling, config.max_tokens) == ("cls", 5)
    found = TextEncoder(tmp_path).encode(["a film about rebels", "a film about cats"])
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_what_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = bert(tmp_path)
    with_modules(folder, ("Transformer", ""), ("Pooling", "1_Pooling"))
    write(folder / "1_Pooling/config.json", {"pooling_mode_max_tokens": True})
    with pytest.raises(ValueError, match="pooling_mode_max_tokens"):
        EncoderConfig.read(folder)
    assert EncoderConfig.read(folder, pooling="mean").pooling == "mean"
    with_modules(folder, ("Transformer", ""), ("CNN", "1_CNN"))
    with pytest.raises(ValueError, match="CNN"):
        EncoderConfig.read(folder)
