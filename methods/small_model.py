"""Small models to try a method on: two layers with biases, separate or fused, and no words."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from methods.training import Lesson

HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY = 24, 48, 2, 61
HEADS, HEAD_SIZE = 4, 8


def tokens(count: int, hidden: int) -> Tensor:
    """Inputs of an MLP [1, count, hidden]."""
    return torch.linspace(-2, 2, count * hidden).mul(7).sin().reshape(1, count, hidden)


def lesson() -> Lesson:
    """A small lesson without words."""
    windows = np.random.default_rng(0).integers(0, VOCABULARY, (6, 32))
    return Lesson(windows, seed=1, log=lambda text: None)


def small_model(fused: bool = False) -> nn.Module:
    """A language model without attention whose MLPs have biases: the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Model(fused).eval().requires_grad_(False)


SMALL_MODELS = (small_model, partial(small_model, fused=True))
"""Functions that make one with separate, and one with fused projections."""


class _MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, INTERMEDIATE)
        self.up_proj = nn.Linear(HIDDEN, INTERMEDIATE)
        self.down_proj = nn.Linear(INTERMEDIATE, HIDDEN)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class _FusedMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Linear(HIDDEN, 2 * INTERMEDIATE)
        self.down_proj = nn.Linear(INTERMEDIATE, HIDDEN)
        self.activation_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(self.activation_fn(gate) * up)


class _Attention(nn.Module):
    """Heads of another size than hidden / heads, that share keys and values by twos."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        width, keys = HEADS * HEAD_SIZE, HEADS // 2 * HEAD_SIZE
        if fused:
            self.qkv_proj = nn.Linear(HIDDEN, width + 2 * keys)
        else:
            self.q_proj = nn.Linear(HIDDEN, width)
            self.k_proj = nn.Linear(HIDDEN, keys)
            self.v_proj = nn.Linear(HIDDEN, keys)
        self.o_proj = nn.Linear(width, HIDDEN)
        self.sizes = [width, keys, keys]

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        if hasattr(self, "qkv_proj"):
            parts = self.qkv_proj(x).split(self.sizes, dim=-1)
        else:
            parts = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        query, key, value = (part.unflatten(-1, (-1, HEAD_SIZE)).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=True
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), None


class _Layer(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.mlp = _FusedMLP() if fused else _MLP()
        self.self_attn = _Attention(fused)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(x)[0]
        return x + self.mlp(self.norm(x))


class _Model(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(_Layer(fused) for _ in range(LAYERS))
        self.head = nn.Linear(HIDDEN, VOCABULARY, bias=False)

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        x = self.embedding(input_ids)
        for layer in self.layers:
            x = layer(x)
        return SimpleNamespace(logits=self.head(x))
