"""What the KV cache of a model holds, layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from simulator.geometry import KVLayers
from sweep.sizes.parts import Layer, Parts
from sweep.sizes.tensor import SizesError, Tensor

Config = Mapping[str, Any]

_FUSED = ("qkv_proj", "query_key_value", "Wqkv", "c_attn", "qkv", "attn_qkv")
_OUT = ("o_proj", "out_proj", "dense", "c_proj", "Wo", "wo")
_LATENT = ("kv_a_proj_with_mqa", "kv_a_proj")
_SLIDING = ("sliding_attention", "sliding", "local")
_STATES = ("conv", "linear_attention", "mamba", "recurrent", "short_conv")


def of_parts(parts: Parts, config: Config) -> tuple[KVLayers, ...]:
    """The KV cache by the shapes of keys and values; windows and sharing by the config."""
    values = [_values(i, layer, config) for i, layer in enumerate(parts.layers)]
    return _grouped(values, config)


def of_config(config: Config) -> tuple[KVLayers, ...]:
    """The KV cache as far as the config alone tells it."""
    layers = int(config["num_hidden_layers"])
    kinds = config.get("layer_types") or [""] * layers
    if len(kinds) != layers:
        raise SizesError(f"layer_types names {len(kinds)} layers of {layers}")
    return _grouped([0 if kind in _STATES else _configured(config) for kind in kinds], config)


def windows(config: Config) -> list[int | None]:
    """Of each layer, the tokens that its attention sees at most; None if it sees all."""
    layers = int(config["num_hidden_layers"])
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    if kinds is not None:
        chunk = config.get("attention_chunk_size") or window
        sizes = dict.fromkeys(_SLIDING, window) | {"chunked_attention": chunk}
        return [_whole(sizes.get(kind)) for kind in kinds]
    if not window or config.get("use_sliding_window") is False:
        return [None] * layers
    return [_whole(window) if slides(config, i) else None for i in range(layers)]


def slides(config: Config, layer: int) -> bool:
    """Whether a layer has a sliding window, where no list says it."""
    pattern = config.get("sliding_window_pattern", config.get("_sliding_window_pattern"))
    if isinstance(pattern, str) and pattern:  # EXAONE: LLLG
        return pattern[layer % len(pattern)] == "L"
    if isinstance(pattern, Sequence) and pattern:
        return bool(pattern[layer % len(pattern)])
    if isinstance(pattern, int) and pattern:
        return bool((layer + 1) % pattern if pattern > 0 else layer % -pattern)
    if config.get("use_sliding_window") and config.get("max_window_layers") is not None:
        return layer >= int(config["max_window_layers"])
    return True


def _whole(window: Any) -> int | None:
    return int(window) if window else None


def _grouped(values: Sequence[int], config: Config) -> tuple[KVLayers, ...]:
    """Layers with equal caches together; those that share the cache of another hold nothing."""
    shared = int(config.get("num_kv_shared_layers") or 0)
    unshared = len(values) - shared
    alike = Counter(
        (value, window)
        for i, (value, window) in enumerate(zip(values, windows(config), strict=True))
        if value and i < unshared
    )
    return tuple(KVLayers(count, value, window) for (value, window), count in alike.items())


def _values(index: int, layer: Layer, config: Config) -> int:
    """Numbers that a layer keeps of a token; 0 if it keeps a state in place of a cache."""
    matrices = layer.attention
    latent = next((matrices[name] for name in _LATENT if name in matrices), None)
    if latent is not None:
        return latent.rows
    if "k_proj" in matrices:
        keys = matrices["k_proj"].rows
        return keys + (matrices["v_proj"].rows if "v_proj" in matrices else keys)
    fused = next((matrices[name] for name in _FUSED if name in matrices), None)
    if fused is not None:
        return fused.rows - _query_width(matrices, config)
    if not matrices:
        return 0
    if "q_proj" in matrices or "linear_y" in matrices:  # it shares a cache, or is recurrent
        return 0
    raise SizesError(f"layer {index}: {', '.join(sorted(matrices))} have no keys and values")


def _query_width(matrices: Mapping[str, Tensor], config: Config) -> int:
    out = next((matrices[name] for name in _OUT if name in matrices), None)
    return out.length if out is not None else int(config["num_attention_heads"]) * _head(config)


def _configured(config: Config) -> int:
    if config.get("kv_lora_rank"):
        return int(config["kv_lora_rank"]) + int(config.get("qk_rope_head_dim") or 0)
    heads = int(config.get("num_key_value_heads") or config["num_attention_heads"])
    return 2 * heads * _head(config)


def _head(config: Config) -> int:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return int(config.get("head_dim") or hidden // heads)
