"""Tiny random mixtures of experts, one of each family that has a view."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from methods.experts.families import FAMILIES
from tests.zoo import tiny

KINDS = tuple(FAMILIES)
LEFT_OUT = {"deepseek_v2": ("head_dim",), "deepseek_v3": ("head_dim",)}


@functools.cache
def model_of(kind: str, **sizes: Any) -> Any:
    """The model in float32, the same every time; `sizes` are keys of its configuration."""
    config = tiny.small_config(kind, LEFT_OUT.get(kind, ()))
    for name, value in sizes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = tiny._made(kind, config).eval()
    tiny._fill(model)
    model.config.use_cache = False
    return model


def save(kind: str, folder: Path) -> Path:
    """A folder with the model and a tokenizer, as a user's would be."""
    tiny.saved(kind, folder, LEFT_OUT.get(kind, ()))
    return folder


def logits(model: Any) -> torch.Tensor:
    """Logits [tokens, vocabulary] of a few tokens."""
    return tiny.run(model)
