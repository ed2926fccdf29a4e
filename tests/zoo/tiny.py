"""A tiny random model of a family, saved as a user's folder would be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_PARAMETERS = 20_000_000
TOKENS = 24

VOCABULARY = 264
SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("vocab_size",), VOCABULARY),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_dim"), 64),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner"), 96
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "n_layer",
            "n_layers",
            "num_layers",
            "decoder_layers",
            "encoder_layers",
        ),
        4,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads",
            "n_head",
            "n_heads",
            "num_heads",
            "decoder_attention_heads",
            "encoder_attention_heads",
        ),
        4,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "kv_n_heads"), 2),
    **dict.fromkeys(("head_dim", "global_head_dim", "v_head_dim", "attention_head_dim"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 256),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32
    ),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "num_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "lora_rank"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "index_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_d_state", "ssm_state_size"), 16),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), 32),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 16),
    **dict.fromkeys(("hidden_size_per_layer_input", "lru_width", "word_embed_proj_dim"), 64),
    "mamba_d_ssm": 128,
    "vocab_size_per_layer_input": VOCABULARY,
    "first_k_dense_replace": 1,
    "block_multiple_of": 16,
    "rotary_dim": 8,
    "state_size": 16,
    "num_kv_shared_layers": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Small sizes under every name that families have for them; each gets those that it knows."""


TEXT_PARTS = ("text_config", "decoder")
"""Names under which a configuration of several parts has that of its text model."""

OTHER_PARTS: Mapping[str, Any] = {"image_size": 28, "patch_size": 14, "num_channels": 3}
"""Further sizes, of parts for pictures and sound."""

_INDEXER: Mapping[str, Any] = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
}
_DOTS3: Mapping[str, Any] = {
    "num_key_value_heads": 4,
    "layer_types": ["indexed_attention"] * 4,
    "index_topk": 16,
}
_EVERY_OTHER: Mapping[str, Any] = {"layer_types": ["sliding_attention", "full_attention"] * 2}

_DEFAULT_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_SMALL_BLT: Mapping[str, Any] = {"hidden_size": 64, "hidden_size_global": 64, "cross_attn_k": 1}

EXTRA: Mapping[str, Mapping[str, Any]] = {
    "blt": {
        "encoder_hash_byte_group_vocab": 64,
        "encoder_config": _SMALL_BLT,
        "decoder_config": _SMALL_BLT,
        "cross_attn_k": 1,
    },
    "cohere_compass_text": _EVERY_OTHER
    | {
        "rope_parameters": {
            kind: _DEFAULT_ROPE | {"mrope_section": [4, 2, 2]}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"hidden_size": 64, "ffn_hidden_size": 96},
    },
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {
            "mlp_layer_types": ["dense"] * 4,
            "per_layer_config": {},
            "adapter_in_dim": 64,
            "adapter_out_dim": 64,
        },
        "audio_config": {
            "adapter_input_size": 64,
            "adapter_out_dim": 64,
            "downsample_hidden_size": 8,
        },
    },
    "dots3_note_text": _DOTS3,
    "emu3": {
        "vocabulary_map": {"<|extra_200|>": 5, "<image>": 6, "<|visual token 000000|>": 7},
        "vq_config": {"base_channels": 32, "hidden_size": 32, "codebook_size": 8},
    },
    "falcon_h1": {"mlp_multipliers": [0.884, 0.586]},
    "gemma4_text": _EVERY_OTHER | {"num_kv_shared_layers": 2, "use_double_wide_mlp": True},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8, "num_key_value_heads": 4},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2},
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [16, 16],
        "axial_pos_embds_dim": [32, 32],
        "attention_head_size": 16,
        "feed_forward_size": 96,
        "hash_seed": 0,
        "attn_layers": ["local", "local"],
        "num_hidden_layers": 2,
    },
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "zamba2": {
        "_needed": ("num_hidden_layers", "layers_block_type"),
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""What makes a family itself, or makes it possible, beside small sizes."""

WITHOUT: Mapping[str, str] = {
    "gemma3n": "its tower for pictures needs the package timm; its text model is `gemma3n_text`",
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"),
        "it drafts for another model, from that one's hidden states: no text goes into it",
    ),
    **dict.fromkeys(
        ("musicgen", "musicgen_melody"),
        "its tokens are of sound, several at a time: no text goes into it",
    ),
}
"""Families of which no tiny instance can be made or run here, and why."""

LEFT_OUT: tuple[tuple[str, ...], ...] = (
    (),
    ("head_dim",),
    ("head_dim", "num_key_value_heads", "num_kv_heads"),
    ("max_position_embeddings",),
)
"""Sizes that are left to the family, tried in turn until one makes a model that runs."""


def run(model: Any) -> Any:
    """Logits [tokens, vocabulary] of a few tokens."""
    import torch

    with torch.inference_mode():
        return model(input_ids=prompt()).logits[0].float()


def prompt() -> Any:
    """Token ids [1, tokens] without special ones."""
    import torch

    return torch.arange(3, 3 + TOKENS)[None] * 7 % 250 + 3


def saved(kind: str, folder: Path, left_out: tuple[str, ...] = (), tied: bool = False) -> Any:
    """Save a tiny random model with a tokenizer in `folder`; the model as transformers makes it.

    Raises whatever a family raises that needs more than is known here.
    """
    import torch

    config = small_config(kind, left_out, tied)
    with torch.device("meta"):
        count = sum(p.numel() for p in _made(kind, config).parameters())
    if count > MOST_PARAMETERS:
        raise ValueError(f"{count:,} parameters with the sizes that are known here")
    torch.manual_seed(0)
    model = _made(kind, config).eval()
    _fill(model)
    model.config.use_cache = False
    if not torch.isfinite(run(model)).all():
        raise ValueError("random weights give no finite logits")
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    return model


def _made(kind: str, config: Any) -> Any:
    """The model whose files are published under this kind: of text and pictures, both."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    whole = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    name = str(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
    if hasattr(config, "text_config") and whole is not None:
        name = str(whole)
    model_class = getattr(transformers, name)
    if hasattr(config, "decoder") and not isinstance(config, model_class.config_class):
        config = config.decoder
    return model_class(config)


def small_config(kind: str, left_out: tuple[str, ...] = (), tied: bool = False) -> Any:
    """The family's configuration with small sizes, those of its parts too."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    config_class: Any = CONFIG_MAPPING[kind]
    extra = dict(EXTRA.get(kind, {}))
    sizes: dict[str, Any] = {**SIZES, "tie_word_embeddings": tied}
    needed = {key: extra[key] for key in extra.get("_needed", ())}
    extra.pop("_needed", None)
    usual = config_class(**needed)
    parts = {n: one for n, one in vars(usual).items() if isinstance(one, PreTrainedConfig)}
    own = _known(usual, sizes, left_out) | extra
    for name, part in parts.items():
        part_sizes = sizes if name in TEXT_PARTS else {**sizes, **OTHER_PARTS}
        given = _known(part, part_sizes, left_out) | extra.get(name, {})
        own[name] = type(part)(**given).to_dict()
    return config_class(**own)


def _known(usual: Any, sizes: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    """Of these sizes those that a configuration has."""
    names = set(vars(usual)) | set(usual.attribute_map) | set(usual.to_dict())
    return {name: value for name, value in sizes.items() if name in names - set(left_out)}


def _fill(model: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for key, parameter in sorted(model.named_parameters()):
        if parameter.dim() > 1 and "norm" not in key:
            values = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.data.copy_(values)


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
