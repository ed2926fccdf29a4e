"""Keys of a file's architecture: each is found again in the model's configuration, or refused.

A key that nobody reads may change every number without a word. So for each there is a place in the
configuration of transformers; where that has another value, it gets the file's; and a key without
a place is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.errors import InputError
from sweep.gguf import rope
from sweep.gguf.contents import Contents

PLACES: Mapping[str, tuple[str, ...]] = {
    "context_length": ("max_position_embeddings", "n_positions", "n_ctx", "seq_length"),
    "embedding_length": ("hidden_size", "n_embd"),
    "feed_forward_length": ("intermediate_size", "ffn_hidden_size", "n_inner"),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads", "n_head"),
    "attention.head_count_kv": ("num_key_value_heads", "num_kv_heads"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps", "layer_norm_epsilon"),
    "attention.layer_norm_epsilon": (
        "layer_norm_eps",
        "layer_norm_epsilon",
        "norm_epsilon",
        "norm_eps",
    ),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "use_parallel_residual": ("use_parallel_residual",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "shortconv.l_cache": ("conv_L_cache",),
    "full_attention_interval": ("full_attention_interval",),
    "ssm.conv_kernel": ("conv_kernel", "linear_conv_kernel_dim"),
    "ssm.group_count": ("linear_num_key_heads",),
}
"""Keys that are one number of the configuration, and the names that families have for it."""

READ = frozenset(
    {
        "block_count",
        "nextn_predict_layers",
        "attention.key_length",
        "attention.value_length",
        "attention.causal",
        "attention.scale",
        "rope.dimension_sections",
        "ssm.state_size",
        "ssm.time_step_rank",
        "ssm.inner_size",
        "tensor_data_layout",
    }
)
"""Keys that `_check_others` looks at, or that transformers turns into several numbers."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "expert_used_count": (0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
    "rope.scaling.yarn_ext_factor": (1.0,),
    "rope.scaling.yarn_attn_factor": (1.0,),
}
"""Values with which a key changes nothing."""

_CLOSE = 1e-6


def corrections(file: Contents, config: Any) -> dict[str, Any]:
    """Fields of the configuration that must have other values than transformers read.

    Raises InputError for a key that has no place in it.
    """
    if str(file.values.get("general.type", "model")) != "model":
        raise InputError(
            f"{file.name} holds no model: general.type is {file.values['general.type']!r}"
        )
    changes: dict[str, Any] = {}
    for key, value in file.of_model().items():
        if key in READ or key in rope.KEYS or value in NEUTRAL.get(key, ()):
            continue
        field = _field(file, key, value, config)
        if not _same(getattr(config, field), value):
            changes[field] = _one(file, key, value, config)
    head_dim = _head_dim(file, config)
    if head_dim != _own_head_dim(config):
        changes["head_dim"] = head_dim
    changes |= _unsaid(file, config)
    if getattr(config, "rope_parameters", None):
        changes["rope_parameters"] = rope.parameters(file, config.rope_parameters, head_dim)
    return changes


def check(file: Contents, config: Any) -> None:
    """Raise InputError unless the configuration says what the file says, key by key."""
    for key, value in file.of_model().items():
        if key in READ or key in rope.KEYS or value in NEUTRAL.get(key, ()):
            continue
        ours = getattr(config, _field(file, key, value, config))
        if not _same(ours, value):
            raise InputError(
                f"{file.name}: {file.architecture}.{key} is {value}, but {ours} in the model that "
                "was made of it"
            )
    _check_others(file, config)


def _field(file: Contents, key: str, value: Any, config: Any) -> str:
    fields = [name for name in PLACES.get(key, ()) if hasattr(config, name)]
    if not fields:
        raise InputError(
            f"{file.name}: {file.architecture}.{key} is {value!r}, and {type(config).__name__} of "
            "transformers has no place for it; what it changes would be lost"
        )
    return fields[0]


def _same(ours: Any, value: Any) -> bool:
    """Equal as numbers; of a list by layer, equal for the layers that have any."""
    if isinstance(value, list):
        used = {x for x in value if x}
        return bool(used) and (ours in (value, tuple(value)) or used == {ours})
    if isinstance(value, float) and isinstance(ours, int | float):
        return abs(ours - value) <= _CLOSE * abs(value)
    return ours == value


def _one(file: Contents, key: str, value: Any, config: Any) -> Any:
    if not isinstance(value, list):
        return value
    used = {x for x in value if x}
    if len(used) != 1:
        raise InputError(
            f"{file.name}: {file.architecture}.{key} differs by layer ({sorted(used)}), which "
            f"{type(config).__name__} of transformers cannot express"
        )
    return used.pop()


def _own_head_dim(config: Any) -> int:
    heads = getattr(config, "num_attention_heads", None) or 1
    return int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def _head_dim(file: Contents, config: Any) -> int:
    """The width of a head: the file's, else the hidden size over heads, as the format has it."""
    keys = file.of_model()
    heads, hidden = keys.get("attention.head_count"), keys.get("embedding_length")
    if "attention.key_length" in keys and "global_head_dim" not in vars(config):
        return int(keys["attention.key_length"])
    if isinstance(heads, int) and heads and hidden and "global_head_dim" not in vars(config):
        return int(hidden) // heads
    return _own_head_dim(config)


def _unsaid(file: Contents, config: Any) -> dict[str, Any]:
    """What the format fixes by architecture, where a configuration's default is another's."""
    keys, kind = file.of_model(), file.architecture
    changes: dict[str, Any] = {}
    if "attention.sliding_window" not in keys and getattr(config, "sliding_window", None):
        changes["sliding_window"] = None
    if kind in ("gemma2", "gemma3"):
        hidden, heads = int(keys["embedding_length"]), int(keys["attention.head_count"])
        largest = int(keys["block_count"]) == {"gemma2": 46, "gemma3": 62}[kind]  # the 27B models
        changes["query_pre_attn_scalar"] = hidden // heads if largest else _head_dim(file, config)
    if kind == "llama" and any(name.endswith("attn_q.bias") for name in file.tensors):
        changes["attention_bias"] = True
    return changes


def _check_others(file: Contents, config: Any) -> None:
    keys = file.of_model()
    layers = int(keys.get("block_count", 0)) - int(keys.get("nextn_predict_layers", 0))
    wide = getattr(config, "global_head_dim", None) or _own_head_dim(config)
    facts = {
        "block_count": (layers, getattr(config, "num_hidden_layers", layers)),
        "attention.key_length": (keys.get("attention.key_length"), wide),
        "attention.value_length": (keys.get("attention.value_length"), wide),
        "attention.causal": (keys.get("attention.causal"), True),
        "attention.scale": (keys.get("attention.scale"), wide**-0.5),
    }
    for key, (value, ours) in facts.items():
        if key in keys and not _same(ours, value):
            raise InputError(
                f"{file.name}: {file.architecture}.{key} is {keys[key]}, but {ours} in the model "
                "that was made of it"
            )
