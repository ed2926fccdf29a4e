"""Swaps of kept for pruned weights that bring the error of a row to nothing: what DSnoT does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from methods.static.inputs import (
    Inputs,
    as_arrays,
    mlp_weights,
    on_device,
    remade_layers,
)
from methods.static.stream import Layer
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.static.dsnot import DSnoT


@dataclass(frozen=True, slots=True)
class Swaps:
    """What swaps did to the rows of a matrix: their number, and the rows' errors [rows]."""

    count: int
    before: Tensor
    after: Tensor


def refine(method: DSnoT, model: nn.Module, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """The refined masks of all MLPs, laid over their weights, and what came of the errors."""
    windows = on_device(model, lesson.windows[: method.calibration_windows])
    every: list[Swaps] = []

    def remake(layer: Layer, inputs: Mapping[str, Inputs]) -> dict[str, Tensor]:
        new = {}
        for path, linear in mlp_weights(layer).items():
            kept, swaps = method.mask(linear.weight.detach(), inputs[path])
            every.append(swaps)
            new[f"{path}.weight"] = linear.weight * kept
        return new

    new = dict(remade_layers(model, windows, method.start == "sparsegpt", remake))
    before, after = (torch.cat([getattr(s, name) for s in every]) for name in ("before", "after"))
    kept = sum(method.kept(*weight.shape) for weight in new.values())
    found = {
        "mlp_density": kept / sum(weight.numel() for weight in new.values()),
        "swaps": sum(swaps.count for swaps in every),
        "row_error": [float(before.abs().mean()), float(after.abs().mean())],
    }
    return found, as_arrays(model, new)


def swapped(
    kept: Tensor,
    given: Tensor,
    growth: Tensor,
    cost: Tensor,
    *,
    cycles: int,
    threshold: float,
    width: int | None = None,
    once: bool = False,
    any_sign: bool = False,
) -> tuple[Tensor, Swaps]:
    """The mask `kept` [rows, columns] after the swaps of its rows, all rows a swap at a time.

    `given` is what each weight gives to its row, `growth` what speaks for growing it, `cost` what
    against pruning it. `width` columns are a block, inside of which swaps stay; `once` swaps no
    weight twice; `any_sign` prunes by cost alone, as long as the row's error keeps its sign.
    """
    kept, error = kept.clone(), (given * ~kept).sum(1, keepdim=True)  # e: [rows, 1]
    before, count = error.clone(), 0
    may_grow, may_prune = ~kept, kept.clone()
    going = torch.ones_like(error, dtype=torch.bool)
    for _ in range(cycles):
        going &= error.abs() > threshold
        to_prune = may_prune if any_sign else may_prune & (given * error < 0)
        to_grow = may_grow & (given * error > 0)
        if width:
            to_grow = to_grow & _anywhere(to_prune, width)
        grown = growth.where(to_grow, -1).argmax(1, keepdim=True)
        if width:
            to_prune = to_prune & _same_block(grown, width, kept.shape[1])
        pruned = cost.where(to_prune, torch.inf).argmin(1, keepdim=True)
        going &= to_grow.gather(1, grown) & to_prune.gather(1, pruned)
        after = error - given.gather(1, grown) + given.gather(1, pruned)
        if any_sign:
            going &= after.sign() == before.sign()
        if not going.any():
            break
        kept = _set(_set(kept, grown, going, True), pruned, going, False)
        error = torch.where(going, after, error)
        count += int(going.sum())
        may_grow = _set(may_grow, grown, going, False) if once else ~kept
        may_prune = _set(may_prune, pruned, going, False) if once else kept.clone()
    return kept, Swaps(count, before[:, 0], error[:, 0])


def _anywhere(mask: Tensor, width: int) -> Tensor:
    """For each column, whether any of its block is in the mask [rows, columns]."""
    blocks = mask.view(len(mask), -1, width)
    return blocks.any(-1, keepdim=True).expand_as(blocks).reshape(mask.shape)


def _same_block(column: Tensor, width: int, columns: int) -> Tensor:
    """Mask [rows, columns] of the block that `column` [rows, 1] is in."""
    return torch.arange(columns, device=column.device) // width == column // width


def _set(mask: Tensor, column: Tensor, rows: Tensor, value: bool) -> Tensor:
    """The mask with `value` at one column [rows, 1] of the rows that are told [rows, 1]."""
    old = mask.gather(1, column)
    return mask.scatter(1, column, torch.where(rows, torch.full_like(old, value), old))
