"""The geometry of a mixture of experts, from its config.json.

Files of experts come in two shapes, one tensor an expert or all of a layer in one, and say nothing
that the config does not. Families are those whose experts have a view (`methods.experts.families`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simulator.experts import Experts
from simulator.geometry import Geometry, KVLayers, merged_rows
from sweep.sizes import kv
from sweep.sizes.decoder import vars_of
from sweep.sizes.defaults import completed
from sweep.sizes.tensor import SizesError

Config = Mapping[str, Any]

_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts")


def family_of(config: Config) -> str:
    """The family of a mixture of experts whose sizes are known here; empty for other models."""
    complete = completed(config)
    kind = str(complete.get("model_type") or "")
    return kind if kind in _SHARED and _count(complete) > 1 else ""


def of_config(config: Config, name: str) -> Geometry:
    """The geometry of one of these families. Raises SizesError where a size is missing."""
    complete = completed(config)
    try:
        experts = _experts(complete)
        width = int(complete.get("intermediate_size") or experts.intermediate)
        plain = Geometry.from_config({**complete, "intermediate_size": width}, name)
        mixers = _latent_mixers(complete) if complete.get("kv_lora_rank") else None
        caches = kv.of_config(complete)
    except (KeyError, TypeError) as error:
        raise SizesError(f"its config.json does not say {error}") from None
    usual = (KVLayers(plain.layers, 2 * plain.kv_heads * plain.head_dim),)
    return Geometry.load(
        plain.to_mapping()
        | {
            "mixers": mixers,
            "kv": None if caches == usual else [vars_of(cached) for cached in caches],
            "experts": experts.to_mapping(),
        }
    )


def _experts(config: dict[str, Any]) -> Experts:
    hidden, count = int(config["hidden_size"]), _count(config)
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    kind = config["model_type"]
    router = count * hidden
    router += {"qwen2_moe": hidden, "gpt_oss": count}.get(kind, 0)  # gate of the shared one; biases
    layers = sum(_has_experts(config, layer) for layer in range(int(config["num_hidden_layers"])))
    if not layers:
        raise SizesError(f"no layer of this {kind} has experts")
    chosen = int(config["num_experts_per_tok"])
    return Experts(layers, count, chosen, width, _SHARED[kind](config), router)


def _count(config: Config) -> int:
    counts = (config.get(key) for key in _COUNTS)
    return next((count for count in counts if isinstance(count, int)), 0)


def _has_experts(config: Config, layer: int) -> bool:
    if layer < int(config.get("first_k_dense_replace") or 0):
        return False
    if layer in (config.get("mlp_only_layers") or ()):
        return False
    return (layer + 1) % int(config.get("decoder_sparse_step") or 1) == 0


def _none(config: Config) -> int:
    return 0


def _several(config: Config) -> int:
    return int(config.get("n_shared_experts") or 0) * int(config["moe_intermediate_size"])


_SHARED: Mapping[str, Callable[[Config], int]] = {
    **dict.fromkeys(("mixtral", "qwen3_moe", "olmoe", "granitemoe", "phimoe", "gpt_oss"), _none),
    "qwen2_moe": lambda config: int(config["shared_expert_intermediate_size"]),
    "granitemoeshared": lambda config: int(config.get("shared_intermediate_size") or 0),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe"), _several),
}
"""By family, how many neurons the shared experts of a layer have together."""


def _latent_mixers(config: Config) -> tuple[tuple[int, int], ...]:
    """Matrices of latent attention, of all layers: (length of a row, rows)."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    plain, turned = int(config["qk_nope_head_dim"]), int(config["qk_rope_head_dim"])
    values, latent = int(config["v_head_dim"]), int(config["kv_lora_rank"])
    queries = int(config.get("q_lora_rank") or 0)
    wide = heads * (plain + turned)
    matrices = [(hidden, queries), (queries, wide)] if queries else [(hidden, wide)]
    matrices += [(hidden, latent + turned), (latent, heads * (plain + values))]
    matrices.append((heads * values, hidden))
    layers = int(config["num_hidden_layers"])
    return merged_rows((length, layers * rows) for length, rows in matrices)
