"""What the rules of a method's contract try it with: masks, inputs, and garbage in weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from methods.density import ATTENTION, COVERS
from methods.small_model import tokens

if TYPE_CHECKING:
    from methods.attention import Attention
    from methods.base import Method, Select
    from methods.mlp import GatedMLP


class BrokenError(Exception):
    """A rule does not hold; the text says how."""


def of_mlp(method: Method) -> list[str]:
    """Groups of a method that are the MLP's."""
    return [group for group in method.groups if group not in ATTENTION]


def units(view: GatedMLP, group: str, heads: Attention | None = None) -> int:
    """Units of a group in a layer."""
    if group == "attn-output" and heads:
        return heads.width
    return view.hidden if COVERS[group][1] == "hidden" else view.intermediate


def into_attention(
    method: Method, heads: Attention, select: Select
) -> Iterator[tuple[Tensor, Tensor]]:
    """What W_q, W_k, W_v and then W_o would get, and what the method makes of it."""
    x = tokens(3, heads.hidden)
    yield x, method.attention_input(heads, x, select)
    x = tokens(3, heads.width)
    yield x, method.attention_output(heads, x, select)


def all_kept(group: str, scores: Tensor, density: float) -> Tensor:
    """A selector that keeps every unit."""
    return torch.ones_like(scores)


def every_third(group: str, scores: Tensor, density: float) -> Tensor:
    """A selector that keeps the first of three units."""
    kept = torch.arange(scores.shape[-1]) % 3 == 0
    return kept.expand_as(scores).to(scores.dtype)


def same(got: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Raise BrokenError where outputs differ by more."""
    apart = float((got - expected).abs().max())
    if not apart <= tolerance:
        raise BrokenError(f"{what}: outputs are {apart:.3g} apart")


def overwrite(view: GatedMLP, group: str, units: Tensor) -> None:
    """Garbage in the weights of these units (the table of SEMANTICS 1)."""
    module: Any = view.module
    if hasattr(module, "gate_up_proj"):
        gate, up = module.gate_up_proj.weight.data.chunk(2)
    else:
        gate, up = module.gate_proj.weight.data, module.up_proj.weight.data
    for name, weight in (("gate", gate), ("up", up), ("down", module.down_proj.weight.data)):
        if name in COVERS[group][0]:
            by_column = COVERS[group][1] == "hidden" or name == "down"
            weight[(slice(None), units) if by_column else units] = 7.5
