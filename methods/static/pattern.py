"""Masks with an exact number of kept weights; ties go to the lower index."""

from __future__ import annotations

from torch import Tensor

from methods.base import MethodError
from methods.density import kept_units
from methods.select import topk_mask
from methods.static.pruning import BLOCKS


def of_matrix(scores: Tensor, kept: int) -> Tensor:
    """Bool mask of the `kept` largest of all scores [rows, columns]."""
    if not kept:
        return scores > float("inf")
    return topk_mask(scores.flatten(), kept).view_as(scores)


def of_rows(scores: Tensor, density: float) -> Tensor:
    """Bool mask of the largest scores of each row, `floor(density * columns)` of them."""
    return topk_mask(scores, kept_units(density, scores.shape[1]))


def of_blocks(scores: Tensor, pattern: str) -> Tensor:
    """Bool mask of the n largest of every m neighbouring scores of a row.

    Raises MethodError where a row is no whole number of blocks.
    """
    block = BLOCKS[pattern]
    assert block is not None
    kept, of = block
    rows, columns = scores.shape
    if columns % of:
        raise MethodError(f"pattern {pattern} does not fit a matrix of {columns} columns")
    return topk_mask(scores.view(rows, -1, of), kept).view(rows, columns)
