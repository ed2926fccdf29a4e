"""What a config.json leaves out, as the config classes of transformers fill it in.

A config.json need not repeat what its class has as a default: Gemma's rarely says that embedding
and head are one, and those of Gemma 3 with pictures hardly say anything of the text model. The
tests hold this table against the classes of the installed transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
    "sliding_window",
    "sliding_window_pattern",
)
"""`sliding_window_pattern` n: every n-th layer sees all tokens; -n: the first and each n-th after
it. None of `num_key_value_heads` is as many as heads, of `head_dim` hidden size over heads."""

_ROWS: Mapping[str, tuple[Any, ...]] = {
    "bitnet": (30, 2560, 6912, 20, 5, None, 128256, False, None, None),
    "cohere": (40, 8192, 22528, 64, None, None, 256000, True, None, None),
    "cohere2": (40, 8192, 22528, 64, None, None, 256000, True, 4096, 4),
    "cwm": (64, 6144, 21504, 48, 8, 128, 128256, False, 8192, -4),
    "diffllama": (16, 2048, 8192, 32, None, None, 32000, False, None, None),
    "ernie4_5": (18, 1024, 3072, 16, 2, 128, 103424, True, None, None),
    "exaone4": (32, 4096, 16384, 32, 32, None, 102400, False, 4096, 4),
    "falcon_h1": (32, 4096, 14336, 32, 8, None, 128000, False, None, None),
    "gemma": (28, 3072, 24576, 16, 16, 256, 256000, True, None, None),
    "gemma2": (26, 2304, 9216, 8, 4, 256, 256000, True, 4096, 2),
    "gemma3_text": (26, 2304, 9216, 8, 4, 256, 262208, True, 4096, 6),
    "gemma3n_text": (35, 2048, 16384, 8, 2, 256, 262400, True, 512, 5),
    "gemma4_text": (30, 2304, 9216, 8, 4, None, 262144, True, 512, 6),
    "glm": (40, 4096, 13696, 32, 2, 128, 151552, False, None, None),
    "glm4": (40, 4096, 13696, 32, 2, 128, 151552, False, None, None),
    "granite": (32, 4096, 11008, 32, None, None, 32000, False, None, None),
    "granite_swa": (24, 2560, 8192, 20, 4, None, 100352, True, 128, -4),
    "helium": (24, 2560, 7040, 20, 20, 128, 48000, False, None, None),
    "hunyuan_v1_dense": (32, 4096, 11008, 32, None, None, 290943, False, None, None),
    "lfm2": (32, 2560, 12288, 32, 8, None, 65536, True, None, None),
    "llama": (32, 4096, 11008, 32, None, None, 32000, False, None, None),
    "ministral": (32, 4096, 14336, 32, 8, None, 32000, False, 4096, None),
    "ministral3": (34, 4096, 14336, 32, 8, 128, 131072, False, None, None),
    "mistral": (32, 4096, 14336, 32, 8, None, 32000, False, 4096, None),
    "mllama_text_model": (40, 4096, 14336, 32, 8, None, 128256, False, None, None),
    "olmo": (32, 4096, 11008, 32, None, None, 50304, False, None, None),
    "olmo2": (32, 4096, 11008, 32, None, None, 50304, False, None, None),
    "olmo3": (32, 4096, 11008, 32, None, None, 50304, False, 4096, 4),
    "phi3": (32, 3072, 8192, 32, None, None, 32064, False, None, None),
    "qwen2": (32, 4096, 22016, 32, 32, None, 151936, False, None, None),
    "qwen3": (32, 4096, 22016, 32, 32, 128, 151936, False, None, None),
    "qwen3_5_text": (32, 4096, 12288, 16, 4, 256, 248320, False, None, None),
    "recurrent_gemma": (26, 2560, 7680, 10, None, None, 256000, True, 2048, None),
    "seed_oss": (64, 4096, 27648, 80, 8, 128, 155136, False, None, None),
    "smollm3": (36, 2048, 11008, 16, 4, None, 128256, True, None, None),
    "stablelm": (32, 2560, 6912, 32, 32, None, 50304, False, None, None),
    "vaultgemma": (26, 2304, 9216, 8, 4, 256, 256000, True, 4096, 2),
}
CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    name: {key: value for key, value in zip(_KEYS, row, strict=True) if value is not None}
    for name, row in _ROWS.items()
}
"""By model_type, what its config class has where a config.json says nothing."""

OFF_BY_DEFAULT = ("qwen2", "qwen3", "smollm3")
"""Families whose sliding window counts only where `use_sliding_window` is true."""

_TEXT_OF = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "llava": "llama",
    "mistral3": "mistral",
    "mllama": "mllama_text_model",
    "qwen3_5": "qwen3_5_text",
}
"""Families of text and pictures: the model_type of their text model, where it is not said."""

UNGATED = (
    *("apertus", "arcee", "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo"),
    *("gpt_neox", "gptj", "jais2", "mpt", "nanochat", "nemotron", "opt", "persimmon", "phi"),
    *("starcoder2", "xglm"),
)
"""Families whose MLP has no gate."""

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the text model with the defaults of its class."""
    text = config.get("text_config") or config
    kind = text.get("model_type") or config.get("model_type") or ""
    kind = _TEXT_OF.get(kind, kind)
    defaults = dict(CLASS_DEFAULTS.get(kind, {}))
    if kind in OFF_BY_DEFAULT:
        defaults["use_sliding_window"] = False
    stated = dict(text)
    if text is not config and "tie_word_embeddings" in config:
        stated.setdefault("tie_word_embeddings", config["tie_word_embeddings"])
    if "sliding_window_pattern" not in stated and "_sliding_window_pattern" in stated:
        stated["sliding_window_pattern"] = stated["_sliding_window_pattern"]
    return defaults | stated | {"model_type": kind}


def kind_of(config: Mapping[str, Any]) -> str:
    """Why a dense gated MLP's sizes are not those of this config; empty if they may be."""
    kind = config.get("model_type") or "the model"
    if any((config.get(key) or 0) > 1 for key in _EXPERTS if isinstance(config.get(key), int)):
        return f"{kind} is a mixture of experts: its sizes are not those of a dense gated MLP"
    if kind in UNGATED:
        return f"the MLP of {kind} has no gate: its sizes are not those of a gated MLP"
    return ""
