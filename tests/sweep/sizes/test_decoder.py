"""Sizes of families by the names and shapes of their tensors, against the modules themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers

from simulator import Storage, weight_bytes
from simulator.geometry import Geometry, KVLayers
from sweep.sizes import decoder
from sweep.sizes.defaults import CLASS_DEFAULTS, OFF_BY_DEFAULT, UNGATED, completed
from sweep.sizes.parts import parts_of
from sweep.sizes.tensor import SizesError, Tensor

SMALL: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Gemma": {"head_dim": 16},
    "Gemma2": {"head_dim": 16, "sliding_window": 32},
    "Gemma3Text": {"head_dim": 16, "sliding_window": 32},
    "Cohere": {},
    "Cohere2": {"head_dim": 16, "sliding_window": 32},
    "Phi3": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 16},
    "Glm": {"head_dim": 16},
    "Olmo2": {},
    "Olmo3": {"sliding_window": 32},
    "Mistral": {"sliding_window": 32},
    "Lfm2": {"layer_types": ["conv", "full_attention"] * 3, "block_multiple_of": 16},
    "FalconH1": {
        "mamba_d_ssm": 128,
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 32,
    },
}
MODELS = {"Gemma3Text": "Gemma3ForCausalLM"}


def built(family: str) -> tuple[Any, torch.nn.Module]:
    config = getattr(transformers, f"{family}Config")(**{**SMALL, **FAMILIES[family]})
    model_class = getattr(transformers, MODELS.get(family, f"{family}ForCausalLM"))
    with torch.device("meta"):
        return config, model_class(config)


def tensors(model: torch.nn.Module) -> list[Tensor]:
    return [Tensor(n, tuple(p.shape), 2 * p.numel()) for n, p in model.named_parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_those_of_the_modules(family: str) -> None:
    config, model = built(family)
    parts = parts_of(tensors(model))
    sizes = decoder.of_parts(parts, config.to_dict(), family, parts.head is None)
    matrices = {
        name: p.numel()
        for name, p in model.named_parameters()
        if p.dim() == 2 and ".layers." in name
    }
    mlp = sum(n for name, n in matrices.items() if re.search(r"\.(mlp|feed_forward)\.", name))
    assert sizes.layers * sizes.mlp_weights == mlp
    assert sizes.mixer_weights == sum(matrices.values()) - mlp
    ends: Any = model
    tied = ends.get_output_embeddings().weight is ends.get_input_embeddings().weight
    assert sizes.tied_embeddings == tied
    assert sizes.embedding_weights == (1 if tied else 2) * 264 * 64


@pytest.mark.parametrize("family", ["Gemma2", "Gemma3Text", "Cohere2", "Olmo3", "Mistral", "Qwen2"])
def test_windows_are_those_of_the_class(family: str) -> None:
    """With layer_types and without, when the defaults of the class must say which layers slide."""
    config, model = built(family)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * 6
    slides = sum(kind == "sliding_attention" for kind in kinds)
    mapping = config.to_dict()
    bare = {k: v for k, v in mapping.items() if k not in ("layer_types", "sliding_window_pattern")}
    for given in (mapping, bare):
        parts = parts_of(tensors(model))
        held = decoder.of_parts(parts, given, family, True).kv or (KVLayers(6, 64),)
        assert sum(one.layers for one in held if one.window == 32) == slides
        assert sum(one.layers for one in held) == 6
        assert {one.values for one in held} == {64}


def test_convolutions_keep_no_cache() -> None:
    config, model = built("Lfm2")
    sizes = decoder.of_parts(parts_of(tensors(model)), config.to_dict(), "lfm2", True)
    assert sizes.kv == (KVLayers(3, 64),)


def test_a_latent_cache_holds_latents() -> None:
    config = transformers.MiniCPM3Config(
        **{**SMALL, "num_key_value_heads": 4, "q_lora_rank": 24, "kv_lora_rank": 16},
        qk_nope_head_dim=8,
        qk_rope_head_dim=4,
        v_head_dim=8,
    )
    with torch.device("meta"):
        model = transformers.MiniCPM3ForCausalLM(config)
    parts = parts_of(tensors(model))
    sizes = decoder.of_parts(parts, config.to_dict(), "x", parts.head is None)
    assert sizes.kv == (KVLayers(6, 20),)


def test_layers_that_share_a_cache_hold_none() -> None:
    config, model = built("Gemma3Text")
    shared = config.to_dict() | {"num_kv_shared_layers": 2}
    sizes = decoder.of_parts(parts_of(tensors(model)), shared, "x", True)
    assert sum(one.layers for one in sizes.kv or ()) == 4


def layer(i: int, width: int = 160, **more: tuple[int, ...]) -> list[Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (64, 64),
        "self_attn.k_proj": (32, 64),
        "self_attn.v_proj": (32, 64),
        "self_attn.o_proj": (64, 64),
        "mlp.gate_proj": (width, 64),
        "mlp.up_proj": (width, 64),
        "mlp.down_proj": (64, width),
    }
    shapes |= {name.replace("__", "."): shape for name, shape in more.items()}
    return [Tensor(f"model.layers.{i}.{name}.weight", s, 1) for name, s in shapes.items()]


EMBEDDING = Tensor("model.embed_tokens.weight", (264, 64), 1)
CONFIG = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([*layer(0), *layer(1, 320), *layer(2)], "layer 1 has another intermediate size .320."),
        ([*layer(0), *layer(1, 320), *layer(2, 320), *layer(3), *layer(4)], "layers 1 and 2 have"),
        (layer(0, mlp__experts__0__up_proj=(8, 64)), "layers.0.mlp is a mixture of experts"),
        (layer(0, mlp__c_fc=(8, 64)), "is not a gated MLP: c_fc"),
        (layer(0, rwkv__key=(64, 64)), "layers.0.rwkv is no part that is known"),
        (layer(0, self_attn__heads=(4, 16, 16)), "has 3 dimensions"),
        ([*layer(0), *layer(2)], "layers lacks 1"),
        (layer(0)[:4], "has no gated MLP"),
    ],
)
def test_what_is_no_such_decoder_is_refused_by_name(members: list[Tensor], message: str) -> None:
    with pytest.raises(SizesError, match=message):
        decoder.of_parts(parts_of([EMBEDDING, *members]), CONFIG, "x", True)


def test_a_decoder_without_embedding_is_refused() -> None:
    with pytest.raises(SizesError, match="no embedding"):
        parts_of(layer(0))


def test_towers_are_left_out_and_further_embeddings_count() -> None:
    tower = Tensor("vision_tower.encoder.layers.0.mlp.fc1.weight", (9, 9), 1)
    further = Tensor("model.embed_tokens_per_layer.weight", (264, 8), 1)
    sizes = decoder.of_parts(parts_of([EMBEDDING, tower, further, *layer(0)]), CONFIG, "x", True)
    assert sizes == Geometry("x", 1, 64, 160, 4, 2, 16, 264, True, other_embeddings=264 * 8)


@pytest.mark.parametrize(("rows", "head_rows"), [(272, 264), (264, 272)])
def test_rows_that_only_embedding_or_head_has_count_once(rows: int, head_rows: int) -> None:
    """As of Mllama, whose embedding has some for pictures."""
    embedding = Tensor("model.embed_tokens.weight", (rows, 64), rows * 64 * 2)
    head = Tensor("lm_head.weight", (head_rows, 64), head_rows * 64 * 2)
    parts = parts_of([embedding, head, *layer(0)])
    sizes = decoder.of_parts(parts, CONFIG, "x", False)
    assert sizes.vocabulary == 264
    assert sizes.embedding_weights == (264 + 272) * 64
    bits = decoder.bits_of(parts, False)
    counted = weight_bytes(sizes, Storage(file=bits))
    assert counted["embedding"] + counted["head"] == (264 + 272) * 64 * 2


# -- what a config leaves out ----------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASS_DEFAULTS)
def test_defaults_are_those_of_the_class(kind: str) -> None:
    config: Any = transformers.CONFIG_MAPPING[kind]()
    known = CLASS_DEFAULTS[kind]
    for name in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
        assert getattr(config, name) == known[name], name
    assert bool(config.tie_word_embeddings) == known["tie_word_embeddings"]
    heads = known.get("num_key_value_heads", known["num_attention_heads"])
    assert (getattr(config, "num_key_value_heads", None) or config.num_attention_heads) == heads
    width = config.intermediate_size
    assert (width[0] if isinstance(width, list) else width) == known["intermediate_size"]
    if "head_dim" in known:
        assert config.head_dim == known["head_dim"]


@pytest.mark.parametrize(
    "kind", [k for k in CLASS_DEFAULTS if "sliding_window_pattern" in CLASS_DEFAULTS[k]]
)
@pytest.mark.parametrize("layers", [6, 13])
def test_layers_slide_as_the_class_lets_them(kind: str, layers: int) -> None:
    from sweep.sizes.kv import windows

    config_class: Any = transformers.CONFIG_MAPPING[kind]
    config = config_class(num_hidden_layers=layers)
    known = completed({"model_type": kind, "num_hidden_layers": layers})
    slides = [window is not None for window in windows(known)]
    expected = [kind == "sliding_attention" for kind in config.layer_types]
    if kind.startswith("gemma4"):  # its last layer sees all tokens, whatever their number
        slides, expected = slides[:-1], expected[:-1]
    assert slides == expected


def test_families_whose_windows_are_off() -> None:
    for kind in OFF_BY_DEFAULT:
        assert transformers.CONFIG_MAPPING[kind]().use_sliding_window is False
        assert completed({"model_type": kind})["use_sliding_window"] is False


def test_a_config_of_text_and_pictures_is_that_of_its_text() -> None:
    config = {"model_type": "gemma3", "text_config": {"hidden_size": 64, "num_hidden_layers": 3}}
    known = completed(config)
    assert (known["num_attention_heads"], known["head_dim"]) == (8, 256)
    assert known["tie_word_embeddings"] is True
    assert decoder.of_config(config, "x").heads == 8


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "qwen3_moe", "num_experts": 4}, "qwen3_moe is a mixture of experts"),
        ({"model_type": "gpt2"}, "the MLP of gpt2 has no gate"),
    ],
)
def test_a_config_says_that_it_is_of_something_else(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SizesError, match=message):
        decoder.of_config(config, "x")
    assert "gpt2" in UNGATED
