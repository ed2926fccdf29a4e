"""How routers of the families score experts and weigh the chosen ones, as transformers 5 has them.

A router gives logits. From them come the scores by which the k best are chosen, and the weights
with which the chosen ones are mixed. Both are written here a second time, for choices that are not
the router's own; for its own it is asked itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NOWHERE = float("-inf")
"""The score of an expert that the router does not allow to be chosen."""

Scores = Callable[[Any, Tensor], Tensor]
"""scores(router, logits [tokens, experts]) -> float32 [tokens, experts]."""
Weights = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""weights(router, logits, chosen [tokens, k], valid bool [tokens, k]) -> float32 [tokens, k], 0
where not valid; `chosen` are experts by falling score."""


@dataclass(frozen=True, slots=True)
class Family:
    """Where a decoder layer has its experts, and how its router scores and weighs them."""

    block: str
    """Name of the module in a layer, which has the router and `experts`."""
    router: str
    scores: Scores
    weights: Weights


def _logits(router: Any, logits: Tensor) -> Tensor:
    return logits.float()


def _softmax_of_all(router: Any, logits: Tensor, chosen: Tensor, valid: Tensor) -> Tensor:
    """Of all experts; over the sum of the chosen, where the router says so (Mixtral: always)."""
    weights = torch.softmax(logits.float(), dim=-1).gather(1, chosen) * valid
    if getattr(router, "norm_topk_prob", True):
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights


def _softmax_of_chosen(router: Any, logits: Tensor, chosen: Tensor, valid: Tensor) -> Tensor:
    return torch.softmax(logits.gather(1, chosen).masked_fill(~valid, NOWHERE).float(), dim=-1)


def _scaled_softmax(router: Any, logits: Tensor, chosen: Tensor, valid: Tensor) -> Tensor:
    weights = torch.softmax(logits.float(), dim=-1).gather(1, chosen) * valid
    return weights * router.routed_scaling_factor


def _grouped_logits(router: Any, logits: Tensor) -> Tensor:
    """DeepSeek-V2: with `group_limited_greedy`, only in the groups with the largest scores."""
    if router.topk_method == "greedy":
        return logits.float()
    by_group = logits.float().unflatten(-1, (router.num_group, -1))
    return _in_best_groups(router, by_group, by_group.max(dim=-1).values)


def _sigmoid(router: Any, logits: Tensor) -> Tensor:
    """DeepSeek-V3: sigmoids with a bias that is for choosing alone, in the best groups."""
    scores = logits.sigmoid() + router.e_score_correction_bias
    by_group = scores.float().unflatten(-1, (router.num_group, -1))
    return _in_best_groups(router, by_group, by_group.topk(2, dim=-1).values.sum(dim=-1))


def _in_best_groups(router: Any, by_group: Tensor, of_groups: Tensor) -> Tensor:
    best = of_groups.topk(router.topk_group, dim=-1, sorted=False).indices
    allowed = torch.zeros_like(of_groups, dtype=torch.bool).scatter_(1, best, True)
    return by_group.masked_fill(~allowed[..., None], NOWHERE).flatten(1)


def _sigmoid_weights(router: Any, logits: Tensor, chosen: Tensor, valid: Tensor) -> Tensor:
    weights = logits.float().sigmoid().gather(1, chosen) * valid
    if router.norm_topk_prob:
        weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
    return weights * router.routed_scaling_factor


def _sparse_mixer(router: Any, logits: Tensor, chosen: Tensor, valid: Tensor) -> Tensor:
    """Phi: each expert after the other by a softmax over those left whose logit is near the best.

    A chosen one that is not near is counted in; of the router's own choice all are.
    """
    left, weights = logits.clone(), []
    for place in range(chosen.shape[1]):
        expert = chosen[:, place : place + 1]
        best = left.max(dim=-1, keepdim=True).values
        far = (best - logits) / logits.abs().clamp(min=best) > 2 * router.router_jitter_noise
        gates = left.masked_fill(far, NOWHERE).scatter(1, expert, left.gather(1, expert))
        weights.append(torch.softmax(gates, dim=-1).gather(1, expert))
        left = left.scatter(1, expert, NOWHERE)
    return torch.where(valid, torch.cat(weights, dim=-1).float(), 0.0)


_SIGMOID = Family("mlp", "gate", _sigmoid, _sigmoid_weights)
_SOFTMAX = Family("mlp", "gate", _logits, _softmax_of_all)
_GRANITE = Family("block_sparse_moe", "router", _logits, _softmax_of_chosen)

FAMILIES: Mapping[str, Family] = {
    "mixtral": _SOFTMAX,
    "qwen2_moe": _SOFTMAX,
    "qwen3_moe": _SOFTMAX,
    "olmoe": _SOFTMAX,
    "granitemoe": _GRANITE,
    "granitemoeshared": _GRANITE,
    "phimoe": Family("mlp", "router", _logits, _sparse_mixer),
    "deepseek_v2": Family("mlp", "gate", _grouped_logits, _scaled_softmax),
    "deepseek_v3": _SIGMOID,
    "glm4_moe": _SIGMOID,
    "gpt_oss": Family("mlp", "router", _logits, _softmax_of_chosen),
}
"""By model_type."""
