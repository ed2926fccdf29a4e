"""Tensors of a GGUF file under names as a transformers model has them, and their bytes.

llama.cpp's names say the same as those of transformers: `blk.3.ffn_gate.weight` is
`layers.3.mlp.gate_proj.weight`. Types of tensors have blocks of so many weights and bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sweep.sizes.tensor import SizesError, Tensor

BLOCKS: dict[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}
"""Weights and bytes of a block, by ggml's number of the type; tests hold it against `gguf`."""

_LAYER = re.compile(r"^blk\.(?P<layer>\d+)\.(?P<part>.+)\.weight$")
_PARTS = {
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_k_b": "self_attn.k_b_proj",
    "attn_v_b": "self_attn.v_b_proj",
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
}
_OUTSIDE = {
    "token_embd.weight": "embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "per_layer_token_embd.weight": "embed_tokens_per_layer.weight",
}
_EXPERTS = re.compile(r"_exps$|ffn_gate_inp|_shexp$")


def tensor(name: str, dimensions: Iterable[int], kind: int) -> Tensor:
    """A tensor under its name of transformers; `dimensions` as ggml counts them, rows last.

    Raises SizesError for a type that is not known.
    """
    shape = tuple(reversed(tuple(dimensions)))
    if kind not in BLOCKS:
        raise SizesError(f"{name} has type {kind} of ggml, which is not known")
    weights, size = BLOCKS[kind]
    unsized = Tensor(_name(name), shape, 0)
    return Tensor(unsized.name, shape, unsized.weights / weights * size)


def _name(name: str) -> str:
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    match = _LAYER.match(name)
    if match is None:
        return name
    part, layer = match["part"], f"layers.{match['layer']}"
    if _EXPERTS.search(part):
        return f"{layer}.mlp.experts.{part}.weight"
    if part.startswith("ssm_"):
        return f"{layer}.mamba.{part}.weight"
    if part.startswith("shortconv."):
        return f"{layer}.conv.{part.partition('.')[2]}.weight"
    return f"{layer}.{_PARTS.get(part, part)}.weight"


def fused(tensors: Iterable[Tensor]) -> list[Tensor]:
    """With an up projection that holds the gate too, as Phi-3's does, under the name of both."""
    every = list(tensors)
    names = {part.name for part in every}
    return [
        Tensor(part.name.replace(".up_proj.", ".gate_up_proj."), part.shape, part.bytes)
        if ".up_proj." in part.name and part.name.replace(".up_proj.", ".gate_proj.") not in names
        else part
        for part in every
    ]
