"""Codebooks of pairs of weights: weighted k-means for many groups of rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from methods.static.gptvq import GPTVQ

SAMPLE = 8
"""Points for each entry from which the start is drawn."""
AT_ONCE = 2**25
"""Distances that are held at a time; bounds memory, not the result."""


def codebooks_by_row(vq: GPTVQ, values: Tensor, importance: Tensor, seed: int) -> Tensor:
    """The codebook of each row, [rows, entries, 2], for a span of columns [rows, columns].

    Neighbouring rows share one: as many as make up `vq.weights_per_codebook` weights. `importance`
    [columns] weighs the squared errors of the fit.
    """
    rows, columns = values.shape
    books = max(1, rows * columns // vq.weights_per_codebook)
    per_book = -(-rows // books)
    books = -(-rows // per_book)
    padded = values.new_zeros(books * per_book, columns)
    padded[:rows] = values
    weights = importance.expand(books * per_book, columns).clone()
    weights[rows:] = 0
    points = padded.reshape(books, -1, 2)  # [books, pairs, 2]
    fitted = fit(points, weights.reshape(books, -1, 2), vq.entries, vq.iterations, seed)
    return in_8_bits(fitted).repeat_interleave(per_book, dim=0)[:rows]


def fit(points: Tensor, weights: Tensor, entries: int, iterations: int, seed: int) -> Tensor:
    """Centres [books, entries, 2] that lower sum_i min_c sum_d weights_id (points_id - c_d)^2.

    points and weights are [books, points, 2]. The start is k-means++ on a sample of the points,
    both with `seed`; a centre that no point is nearest to stays where it is.
    """
    sample = _sample(points.shape[1], SAMPLE * entries, seed).to(points.device)
    centres = _spread_start(points[:, sample], weights[:, sample], entries, seed)
    for _ in range(iterations):
        nearest = _nearest(points, weights, centres)  # E: [books, points]
        index = nearest[..., None].expand_as(points)
        total = torch.zeros_like(centres).scatter_add_(1, index, weights)
        sums = torch.zeros_like(centres).scatter_add_(1, index, weights * points)
        centres = torch.where(total > 0, sums / total.clamp_min(1e-30), centres)  # M
    return centres


def in_8_bits(centres: Tensor) -> Tensor:
    """Each codebook rounded to signed 8-bit integers times one 16-bit scale."""
    widest = centres.abs().amax(dim=(1, 2), keepdim=True)
    scale = (widest / 127).clamp(6.0e-8, 65504.0).half().to(centres.dtype)
    return (centres / scale).round().clamp(-128, 127) * scale


def _sample(points: int, wanted: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(points, generator=generator)[:wanted].sort().values


def _spread_start(points: Tensor, weights: Tensor, entries: int, seed: int) -> Tensor:
    """k-means++: each next centre is a point, drawn with odds of its error so far."""
    generator = torch.Generator(points.device).manual_seed(seed)
    centres = points.new_zeros(len(points), entries, 2)
    odds = weights.sum(-1)  # [books, points]
    error = torch.full_like(odds, torch.inf)
    for entry in range(entries):
        drawn = _drawn(odds, generator)  # [books, 1]
        centre = points.take_along_dim(drawn[..., None], dim=1)  # [books, 1, 2]
        centres[:, entry] = centre[:, 0]
        error = torch.minimum(error, (weights * (points - centre).square()).sum(-1))
        odds = torch.where(error.sum(1, keepdim=True) > 0, error, weights.sum(-1))
    return centres


def _drawn(odds: Tensor, generator: torch.Generator) -> Tensor:
    """One index for each row of odds [books, points]; `multinomial` has a limit of categories."""
    reach = odds.double().cumsum(1)
    at = torch.rand(len(odds), 1, generator=generator, device=odds.device, dtype=torch.float64)
    return torch.searchsorted(reach, at * reach[:, -1:], right=True).clamp_max(odds.shape[1] - 1)


def _nearest(points: Tensor, weights: Tensor, centres: Tensor) -> Tensor:
    """Index [books, points] of the nearest centre.

    sum_d w_d (x_d - c_d)^2 without its part that is the same for all centres: w c^2 - 2 w x c.
    """
    left = torch.cat([centres.square(), centres], dim=-1)  # [books, entries, 4]
    right = torch.cat([weights, -2 * weights * points], dim=-1).transpose(
        1, 2
    )  # [books, 4, points]
    books = max(1, AT_ONCE // (points.shape[1] * centres.shape[1]))
    parts = zip(left.split(books), right.split(books), strict=True)
    return torch.cat([(a @ b).min(1).indices for a, b in parts])
