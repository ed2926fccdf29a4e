"""Between torch, where scores are, and the kernels that choose by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scan:
    """`k` units of each row are chosen; `target` gets the mask, or with `prune` the values."""

    rows: NDArray[np.float32]  # [tokens, units]
    k: int
    target: NDArray[np.float32]  # [tokens, units]
    prune: bool


def rows_of(values: Tensor) -> Tensor:
    """[1, tokens, units] -> [tokens, units] on the host, without a gradient."""
    return values.detach().reshape(-1, values.shape[-1]).cpu()


def floats_of(scores: Tensor) -> NDArray[np.float32]:
    """[1, tokens, units] of any float type and device -> float32 [tokens, units] on the host."""
    return rows_of(scores).to(torch.float32).contiguous().numpy()


def mask_like(mask: NDArray[np.float32], scores: Tensor) -> Tensor:
    """What a kernel wrote, in the shape and type of the scores, where they are."""
    return torch.from_numpy(mask).to(scores.device, scores.dtype).reshape(scores.shape)
