"""Networks of the transformers library by name, built offline from a configuration.

`bert-base` and the like are rows of `ROWS`; beside these any model type of the library (`roberta`,
`opt`, …) works with its default configuration, if that is not one of billions of weights. Models
run without a key-value cache: one call, one pass over all tokens.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from sol.bench import zoo
from sol.core.errors import InputError

_MOST_PARAMETERS = 2_000_000_000
_TOKENS = 128

# the sizes of toys: two layers of width 64 with four heads, a thousand words
_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
_TINY_DECODER = {**_TINY, "num_key_value_heads": 2}
_TINY_DISTILBERT = {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 1000}
_TINY_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}
_TINY_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
_TINY_WHISPER = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_mel_bins": 16,
    "max_source_positions": 32,
    "vocab_size": 1000,
    "decoder_start_token_id": 3,
}
_LLAMA_160M = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # inside a small vocabulary


@dataclass(frozen=True)
class Row:
    """A name: model type of the library, what differs from its default configuration, tokens."""

    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    tokens: int = _TOKENS


ROWS: Mapping[str, Row] = {
    "bert-base": Row("bert"),
    "bert-tiny": Row("bert", _TINY, 16),
    "distilbert-base": Row("distilbert"),
    "distilbert-tiny": Row("distilbert", _TINY_DISTILBERT, 16),
    "gpt2-small": Row("gpt2"),
    "gpt2-tiny": Row("gpt2", {**_TINY_GPT2, **_SPECIAL}, 16),
    "llama-160m": Row("llama", _LLAMA_160M),
    "llama-tiny": Row("llama", _TINY_DECODER, 16),
    "qwen3-tiny": Row("qwen3", {**_TINY_DECODER, "head_dim": 16}, 16),
    "vit-base": Row("vit"),
    "vit-tiny": Row("vit", {**_TINY, "image_size": 32, "patch_size": 8}),
    "t5-small": Row("t5"),
    "t5-tiny": Row("t5", {**_TINY_T5, "vocab_size": 1000}, 16),
    "whisper-tiny": Row("whisper"),
    "whisper-toy": Row("whisper", {**_TINY_WHISPER, **_SPECIAL}, 16),
}


def names() -> list[str]:
    """All names: the rows, then the library's model types."""
    return [*ROWS, *_library().CONFIG_MAPPING.keys()]


def make(name: str, batch: int) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The model, and keyword inputs of `batch` samples. Raises InputError if it is too large."""
    row = ROWS.get(name) or Row(name)
    library = _library()
    config = library.CONFIG_MAPPING[row.model_type](**row.config)
    config.use_cache = False
    with torch.device("meta"):
        count = sum(p.numel() for p in library.AutoModel.from_config(config).parameters())
    if count > _MOST_PARAMETERS:
        raise InputError(
            f"{name} has {count / 1e9:.1f} billion weights in its default configuration",
            expected=f"at most {_MOST_PARAMETERS / 1e9:.0f} billion",
            do="write a function that builds a smaller one, and name it as package.module:function",
        )
    module = library.AutoModel.from_config(config)
    return module, _inputs(module, config, row, batch)


def _inputs(module: Any, config: Any, row: Row, batch: int) -> dict[str, torch.Tensor]:
    """Tokens, pixels or sound, by the name of the model's main input."""
    main = module.main_input_name
    inputs: dict[str, torch.Tensor] = {}
    match main:
        case "input_ids" if hasattr(config, "vocab_size"):
            inputs[main] = _tokens(config, row, batch)
        case "pixel_values":
            side = getattr(config, "image_size", None) or 224
            height, width = side if isinstance(side, (tuple, list)) else (side, side)
            inputs[main] = torch.randn(batch, getattr(config, "num_channels", 3), height, width)
        case "input_features" if hasattr(config, "num_mel_bins"):
            frames = 2 * config.max_source_positions  # a convolution of stride 2 halves them
            inputs[main] = torch.randn(batch, config.num_mel_bins, frames)
        case "input_values":
            inputs[main] = torch.randn(batch, 16000)
        case _:
            raise InputError(
                f"no example input is known for {type(module).__name__}, which takes {main!r}",
                do="write a function that returns (model, inputs); name it as module:function",
            )
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _tokens(config, row, batch)
    return inputs


def _tokens(config: Any, row: Row, batch: int) -> torch.Tensor:
    return torch.randint(4, config.vocab_size, (batch, row.tokens))


@functools.cache
def _library() -> Any:
    zoo.import_torchvision()
    return importlib.import_module("transformers")
