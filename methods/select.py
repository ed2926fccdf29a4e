"""Top-k selection in plain torch: what any device can run, and what kernels are checked against."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.density import kept_units


def topk_mask(scores: Tensor, k: int) -> Tensor:
    """Bool mask [..., units] of the k largest scores of each row; ties go to the lower index."""
    threshold = scores.topk(k, dim=-1).values[..., -1:]
    above, tied = scores > threshold, scores == threshold
    room = k - above.sum(-1, keepdim=True)
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= room))


def topk(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
    """The selector `topk` of SEMANTICS 3: a mask of 0 and 1 in the type of the scores."""
    return topk_mask(scores, kept_units(share, scores.shape[-1])).to(scores.dtype)


class Given:
    """The selector `given`: a unit is used where its score is above 0; the method has decided."""

    @staticmethod
    def mask(layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        """Bool mask [..., units]; a token may use no unit at all."""
        return scores.detach() > 0
