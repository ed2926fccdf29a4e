"""Optimal brain surgery, column after column: what GPTQ, GPTVQ and SparseGPT share.

All three replace a weight W [rows, columns] by one of a poorer format, V, so that the layer's
output on inputs X changes little: they lower tr((W - V) H (W - V)') with H = X'X + damping. Columns
are settled from left to right. When some are settled, those to their right move to where the
objective, given all that is settled, is smallest. With H^-1 = U'U, U upper triangular, that is

    E = (W_now - V) U_PP^-1            of the columns P that are settled now
    W_rest = W_rest - E U_P,rest

and the objective grows by the sum of E^2 (Frantar et al. 2022, eq. 2 to 5 and the Cholesky form).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Settle = Callable[[int, Tensor], Tensor]
"""settle(column, rest) -> new values [rows, step] of the columns from `column` on.

`rest` [rows, to the end of the block] holds the values that these columns have now."""


def inverse_factor(moments: Tensor, damping: float) -> Tensor:
    """U, upper triangular with U'U = (H + damping * mean diagonal of H)^-1, in float64.

    An input that is always 0 has a zero row in H; with the damping its weights stay as they are.
    """
    h = moments.double()
    mean = h.diagonal().mean()
    h = h + torch.eye(len(h), dtype=h.dtype, device=h.device) * (damping * mean if mean > 0 else 1)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    return torch.linalg.cholesky(inverse, upper=True)


def propagated(
    weight: Tensor, factor: Tensor, settle: Settle, step: int = 1, block: int = 128
) -> Tensor:
    """The settled weight [rows, columns]; `step` columns are settled at a time.

    Columns to the right of a block of `block` columns are moved once, when the block is done: the
    same sums in larger products.
    """
    now, factor = weight.clone(), factor.to(weight.dtype)
    for start in range(0, weight.shape[1], block):
        end = min(start + block, weight.shape[1])
        now[:, end:] -= (
            _settled(now[:, start:end], start, factor, settle, step) @ (factor[start:end, end:])
        )
    return now


def _settled(now: Tensor, start: int, factor: Tensor, settle: Settle, step: int) -> Tensor:
    """Settle a block in place; returns its errors E [rows, columns of the block]."""
    width = now.shape[1]
    u = factor[start : start + width, start : start + width]
    errors = torch.zeros_like(now)
    for left in range(0, width, step):
        here, rest = slice(left, left + step), slice(left + step, width)
        values = settle(start + left, now[:, left:])
        errors[:, here] = scaled_errors(now[:, here] - values, u[here, here])
        now[:, here] = values
        now[:, rest] -= errors[:, here] @ u[here, rest]
    return errors


def scaled_errors(change: Tensor, u: Tensor) -> Tensor:
    """E = change U_PP^-1 for change [..., P] and U_PP [P, P], which is 1 by 1 or 2 by 2."""
    return change / u if len(u) == 1 else change @ torch.linalg.inv(u)
