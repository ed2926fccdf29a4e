"""Selection in plain torch operations, a token at a time: for a device without Triton.

Masks and counts are those of the kernels, which are checked against this too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweep.gpu.state import Caches

_BIT = 1 << torch.arange(8)


def top_k(
    values: Tensor,
    k: int,
    magnitude: bool,
    target: Tensor | None = None,
    ones: bool = False,
) -> Tensor:
    """Masks as words `[..., words]` of the k largest of each row, or of their magnitudes; ties go
    to the lower unit. `target` gets what is selected (or ones) and 0 elsewhere."""
    words = packed(_best((values.abs() if magnitude else values).float(), k))
    if target is not None:
        target.copy_(kept(values, words, ones))
    return words


def cache_aware(values: Tensor, k: int, gamma: float, caches: Caches) -> tuple[Tensor, Tensor]:
    """Algorithm 1 for values `[sequences, tokens, units]`: masks as words, hits int64 `[sequences,
    tokens]`; `caches` are updated in place."""
    masks = torch.empty(values.shape, dtype=torch.bool, device=values.device)
    hits = torch.empty(values.shape[:2], dtype=torch.int64, device=values.device)
    penalty = torch.tensor(gamma, dtype=torch.float32, device=values.device)
    step = _lfu_step if caches.policy == "lfu" else _lru_step
    for token in range(values.shape[1]):
        sizes = values[:, token].float().abs()
        cached = _content(caches)
        used = _best(torch.where(cached, sizes, penalty * sizes), k)
        masks[:, token] = used
        hits[:, token] = (used & cached).sum(-1)
        step(caches, used, cached)
        caches.tokens += 1
    return packed(masks), hits


def packed(masks: Tensor) -> Tensor:
    """Masks bool `[..., units]` as int64 `[..., words]`: bit i % 64 of word i // 64 is unit i."""
    units = masks.shape[-1]
    words = -(-units // 64)
    padded = torch.nn.functional.pad(masks, (0, words * 64 - units))
    octets = (padded.unflatten(-1, (-1, 8)) * _BIT.to(masks.device)).sum(-1).to(torch.uint8)
    return octets.contiguous().view(torch.int64)


def unpacked(words: Tensor, units: int) -> Tensor:
    """Bool `[..., units]` of words."""
    octets = words.contiguous().view(torch.uint8)
    bits = (octets[..., None] >> torch.arange(8, device=words.device, dtype=torch.uint8)) & 1
    return bits.flatten(-2)[..., :units].bool()


def kept(values: Tensor, words: Tensor, ones: bool = False) -> Tensor:
    """Values where their bits are set (or ones), 0 elsewhere."""
    masks = unpacked(words, values.shape[-1])
    return masks.to(values.dtype) if ones else torch.where(masks, values, 0)


def _best(keys: Tensor, k: int | Tensor) -> Tensor:
    """Bool of the k largest of each row; ties go to the lower unit. `k` may differ by row."""
    order = keys.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(keys.shape[-1], device=keys.device).expand_as(order)
    chosen = torch.empty(keys.shape, dtype=torch.bool, device=keys.device)
    return chosen.scatter_(-1, order, places < k)


def _content(caches: Caches) -> Tensor:
    """Bool `[sequences, units]`: what is cached."""
    if caches.policy == "lfu":
        return (caches.states & 1).bool()
    full = caches.seen.clamp(max=caches.capacity)[:, None]
    places = torch.arange(caches.units, device=caches.states.device)[None]
    cached = torch.zeros_like(caches.states, dtype=torch.bool)
    return cached.scatter_(-1, caches.states.long(), (places < full).expand_as(caches.states))


def _lfu_step(caches: Caches, used: Tensor, cached: Tensor) -> None:
    """Hits stay first, then what was missing, then what else was cached, by uses; ties as ever."""
    uses = caches.states // 2 + used
    rank = used.long() + (used & cached).long()  # 2: hit, 1: missing, 0: unused
    worth = torch.where(used | cached, (rank << 40) + uses, -1)
    kept = _best(worth, caches.capacity) & (worth >= 0)
    caches.states.copy_(uses * 2 + kept)


def _lru_step(caches: Caches, used: Tensor, cached: Tensor) -> None:
    """Used units go to the front of the list, the others behind them, both in their order."""
    order = caches.states.long()
    asked = used.gather(-1, order)
    fresh = asked & (torch.arange(caches.units, device=order.device) >= caches.seen[:, None])
    front = (~asked).to(torch.uint8).argsort(dim=-1, stable=True)
    caches.states.copy_(order.gather(-1, front))
    caches.seen += fresh.sum(-1).to(torch.int32)
