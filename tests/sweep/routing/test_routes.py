"""Routing rules against plain ones that take a token at a time, with caches of their own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.base import MethodError
from methods.experts.apply import routed
from methods.experts.rules import Rule
from methods.experts.view import Event
from methods.registry import create
from sweep.routing.routes import Routes
from tests import moe

pytestmark = pytest.mark.usefixtures("one_thread")

RULES: dict[str, dict[str, Any]] = {
    "stock": {},
    "cache-prior": {"lam": 0.3, "protected": 1},
    "max-rank": {"protected": 1, "ranks": 3},
    "drop-if-miss": {"least_weight": 0.9},
    "score-gap": {"factor": 0.8},
}
ROUTED = pytest.mark.parametrize("name", RULES)
KINDS = pytest.mark.parametrize("kind", ["mixtral", "deepseek_v3", "gpt_oss", "phimoe"])


class PlainCache:
    """LRU or LFU as docs/semantics.md 4 says it, in lists."""

    def __init__(self, policy: str, slots: int, count: int) -> None:
        self.policy, self.slots, self.cached = policy, slots, list[int]()
        self.last, self.uses, self.token = [-1] * count, [0] * count, 0
        self.order = list(range(count))  # most recently used first

    def use(self, experts: list[int]) -> int:
        hits = sum(expert in self.cached for expert in experts)
        for expert in experts:
            self.uses[expert] += 1
        front = [expert for expert in self.order if expert in experts]
        self.order = front + [expert for expert in self.order if expert not in experts]
        stay = [expert for expert in self.cached if expert in experts]
        for others in (
            [expert for expert in experts if expert not in self.cached],
            [expert for expert in self.cached if expert not in experts],
        ):
            stay += sorted(others, key=self._worst_last)[: self.slots - len(stay)]
        self.cached = stay
        return hits

    def _worst_last(self, expert: int) -> Any:
        by_lfu = (-self.uses[expert], expert)
        return self.order.index(expert) if self.policy == "lru" else by_lfu


class PlainLayer:
    """One layer's rule, token by token, by the words of docs/semantics.md 11."""

    def __init__(self, name: str, k: int, count: int, policy: str, slots: int) -> None:
        self.name, self.k, self.parameters = name, k, RULES[name]
        self.cache, self.mean = PlainCache(policy, slots, count), math.nan
        self.hits = 0

    def choose(self, scores: list[float], shares: Callable[[list[int]], list[float]]) -> list[int]:
        finite = [score for score in scores if score != -math.inf]
        spread = max(finite) - min(finite)
        self.mean = spread if math.isnan(self.mean) else 0.99 * self.mean + 0.01 * spread
        ranked = sorted(range(len(scores)), key=lambda e: (-scores[e], e))
        chosen = sorted(getattr(self, self.name.replace("-", "_"))(scores, ranked, shares))
        self.hits += self.cache.use(chosen)
        return chosen

    def stock(self, scores: list[float], ranked: list[int], _: Any) -> list[int]:
        return ranked[: self.k]

    def cache_prior(self, scores: list[float], ranked: list[int], _: Any) -> list[int]:
        preferred = {*self.cache.cached, *ranked[: self.parameters["protected"]]}
        bias = self.parameters["lam"] * self.mean
        worth = [score + bias * (e in preferred) for e, score in enumerate(scores)]
        return sorted(ranked, key=lambda e: -worth[e])[: self.k]

    def max_rank(self, scores: list[float], ranked: list[int], _: Any) -> list[int]:
        protected, ranks = self.parameters["protected"], self.parameters["ranks"]
        first = ranked[:protected]
        near = [e for e in ranked[protected:ranks] if scores[e] != -math.inf]
        promoted = [e for e in near if e in self.cache.cached]
        rest = [e for e in ranked if e not in first and e not in promoted]
        return (first + promoted + rest)[: self.k]

    def drop_if_miss(self, scores: list[float], ranked: list[int], shares: Any) -> list[int]:
        best = ranked[: self.k]
        weights = shares(best)
        limit = self.parameters["least_weight"] / self.k
        kept = [
            e for e, w in zip(best, weights, strict=True) if e in self.cache.cached or w >= limit
        ]
        top = best[weights.index(max(weights))]
        return sorted({*kept, top})

    def score_gap(self, scores: list[float], ranked: list[int], _: Any) -> list[int]:
        gap = scores[ranked[0]] - scores[ranked[self.k - 1]]
        bonus = self.parameters["factor"] * gap
        worth = [score + bonus * (e in self.cache.cached) for e, score in enumerate(scores)]
        return sorted(ranked, key=lambda e: -worth[e])[: self.k]


def rule(name: str, **parameters: Any) -> Rule:
    made = create(name, **(RULES[name] | parameters))
    assert isinstance(made, Rule)
    return made


def in_one_pass(model: Any, one: Rule, policy: str, slots: int, dense: int = 0) -> Any:
    payload: Any = {"name": "cache-aware", "policy": policy, "slots": {"expert": slots}}
    routes = Routes(one, payload)
    with routed(model, routes):
        routes.begin_window(moe.tiny.TOKENS, dense)
        return moe.logits(model), routes


def token_by_token(model: Any, name: str, policy: str, slots: int) -> Any:
    """The model fed one token after the other, with the KV cache of transformers."""
    layers: dict[int, PlainLayer] = {}
    chosen: dict[int, list[list[int]]] = {}

    def choose(event: Event) -> Tensor:
        view = event.view
        layer = layers.setdefault(
            view.index, PlainLayer(name, view.chosen, view.count, policy, slots)
        )

        def shares(best: list[int]) -> list[float]:
            mask = torch.zeros_like(event.stock)
            mask[0, best] = True
            return event.shares(mask)[0, best].double().tolist()

        experts = layer.choose(event.scores[0].double().tolist(), shares)
        chosen.setdefault(view.index, []).append(experts)
        mask = torch.zeros_like(event.stock)
        mask[0, experts] = True
        return mask

    logits, past = [], None
    with torch.inference_mode(), routed(model, choose):
        for token in moe.tiny.prompt()[0]:
            out = model(input_ids=token[None, None], past_key_values=past, use_cache=True)
            past = out.past_key_values
            logits.append(out.logits[0, -1].float())
    return torch.stack(logits), chosen, sum(layer.hits for layer in layers.values())


@KINDS
@ROUTED
@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_one_pass_is_token_by_token(kind: str, name: str, policy: str) -> None:
    model = moe.model_of(kind)
    logits, routes = in_one_pass(model, rule(name), policy, 2)
    plain, chosen, hits = token_by_token(model, name, policy, 2)
    assert torch.allclose(logits, plain, atol=2e-5)
    trace = routes.trace()
    for layer in range(trace.layers):
        rows = [np.flatnonzero(row).tolist() for row in masks(trace, layer)]
        assert rows == chosen[layer]
    counted = routes.groups()["expert"]
    assert sum(counted["hits_by_layer"]) == hits


def masks(trace: Any, layer: int) -> Any:
    from simulator.packing import unpack

    return unpack(trace.masks("expert", layer), trace.units["expert"])


@KINDS
@pytest.mark.parametrize("name", ["cache-prior", "drop-if-miss", "score-gap"])
def test_without_a_bias_it_is_the_router(kind: str, name: str) -> None:
    parameter = {"cache-prior": "lam", "drop-if-miss": "least_weight", "score-gap": "factor"}[name]
    model = moe.model_of(kind)
    none = rule(name, **{parameter: 0})
    logits, routes = in_one_pass(model, none, "lru", 2)
    assert torch.equal(logits, moe.logits(model))
    assert routes.figures()["swapped"] == 0
    assert none.plain() == create("stock")


@KINDS
@pytest.mark.parametrize("lam", [0.1, 1.0, 50.0])
def test_a_cache_of_all_makes_the_bias_irrelevant(kind: str, lam: float) -> None:
    model = moe.model_of(kind)
    payload: Any = {"name": "cache-aware", "policy": "lru", "slots": {"expert": 4}}
    order = np.tile(np.arange(4), (4, 1))
    routes = Routes(rule("cache-prior", lam=lam), payload, order)
    with routed(model, routes):
        routes.begin_window(moe.tiny.TOKENS)
        logits = moe.logits(model)
    assert torch.equal(logits, moe.logits(model))
    counted = routes.groups()["expert"]
    assert counted["hits_by_layer"] == counted["used_by_layer"]


@ROUTED
def test_the_first_tokens_are_left_to_the_router(name: str) -> None:
    model = moe.model_of("mixtral")
    stock = moe.logits(model)
    logits, _ = in_one_pass(model, rule(name), "lru", 2, dense=10)
    assert torch.allclose(logits[:10], stock[:10], atol=1e-6)
    if name != "stock":
        assert not torch.allclose(logits[10:], stock[10:], atol=1e-4)


def test_fewer_experts_are_the_best_of_the_router() -> None:
    model = moe.model_of("qwen3_moe")
    routes = Routes(rule("stock", experts=1), {"name": "topk"})
    seen: list[Event] = []

    def both(event: Event) -> Tensor | None:
        seen.append(event)
        return routes(event)

    routes.begin_window(moe.tiny.TOKENS)
    with routed(model, both):
        moe.logits(model)
    trace, figures = routes.trace(), routes.figures()
    for event in seen:
        assert (
            masks(trace, event.view.index).argmax(axis=1).tolist()
            == event.scores.argmax(dim=-1).tolist()
        )
    assert figures == {"used": 4 * 24, "swapped": 0, "stock": 2 * 4 * 24}


def test_all_experts_at_once() -> None:
    model = moe.model_of("mixtral")
    routes = Routes(rule("stock", experts=4), {"name": "topk"})
    routes.begin_window(moe.tiny.TOKENS)
    with routed(model, routes):
        moe.logits(model)
    assert routes.figures()["used"] == 4 * 4 * 24


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("cache-prior", {"lam": -1}, "lam -1 of cache-prior: a number from 0 on"),
        ("cache-prior", {"protected": 1.5}, "protected 1.5 of cache-prior: a whole number from 0"),
        ("drop-if-miss", {"least_weight": 2}, "least_weight 2 of drop-if-miss: a number from 0 to"),
        ("max-rank", {"ranks": 0}, "ranks 0 of max-rank: a whole number from 1 on"),
        ("stock", {"inside": "cats"}, "inside 'cats' of stock: none or glu, gate, up, dip, teal"),
        ("stock", {"experts": -1}, "experts -1 of stock: a whole number from 0 on"),
    ],
)
def test_parameters_out_of_reach_are_named(name: str, parameters: Any, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        create(name, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("cache-prior", {"protected": 3}, "protected 3 of cache-prior: a token uses 2 experts"),
        ("max-rank", {"protected": 1, "ranks": 1}, "ranks 1 of max-rank: a token uses 2 experts"),
        ("stock", {"experts": 9}, "experts 9 of stock: the model has 4"),
    ],
)
def test_rules_that_do_not_fit_the_model(name: str, parameters: Any, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        rule(name, **parameters).check(4, 2)


@pytest.mark.parametrize(
    ("name", "parameters"), [("stock", {"prefetch": 1}), ("cache-prior", {"lam": 0.0})]
)
def test_of_equal_scores_the_routers_own_choice_stays(name: str, parameters: Any) -> None:
    """Routers that score all experts alike, whose top-k may take any."""
    model = copy.deepcopy(moe.model_of("mixtral"))
    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__.endswith("Router"):
                module.weight.zero_()
    plain = moe.logits(model)
    logits, routes = in_one_pass(model, rule(name, **parameters), "lru", 2)
    assert torch.equal(logits, plain)
    assert routes.figures()["swapped"] == 0


@pytest.mark.parametrize("name", ["stock", "cache-prior"])
def test_announced_experts_are_the_next_routers_best(name: str) -> None:
    """Against sets, one token and one layer after the other."""
    model = moe.model_of("mixtral")
    payload: Any = {"name": "cache-aware", "policy": "lru", "slots": {"expert": 2}}
    routes = Routes(rule(name, prefetch=2), payload)
    hidden: dict[int, Tensor] = {}

    def both(event: Event) -> Tensor | None:
        hidden[event.view.index] = event.hidden
        return routes(event)

    with routed(model, both) as layers:
        routes.layers = layers
        routes.begin_window(moe.tiny.TOKENS)
        logits = moe.logits(model)
    plain_logits, _ = in_one_pass(model, rule(name), "lru", 2)
    assert torch.equal(logits, plain_logits)
    trace, found = routes.trace(), routes.announced()
    used = [[set(np.flatnonzero(row)) for row in masks(trace, layer)] for layer in range(4)]
    announced: list[list[set[int]]] = [[set() for _ in used[0]]]
    for layer in range(3):
        scores = hidden[layer].clone() @ cast("Tensor", layers[layer + 1].router.weight).detach().T
        announced.append([set(row) for row in scores.topk(2, dim=-1).indices.tolist()])
    overlap = sum(len(a & u) for a, u in pairs(announced[1:], used[1:]))
    assert found["announced"] == {"expert": {"1": [overlap, 2 * 3 * 24, 2 * 3 * 24]}}
    demanded = wasted = 0
    for layer in range(4):
        cache = PlainCache("lru", 2, 4)
        for a, u in zip(announced[layer], used[layer], strict=True):
            cached = set(cache.cached)
            demanded += len(u - cached - a)
            wasted += len(a - cached - u)
            cache.use([int(unit) for unit in sorted(u)])
    assert found["prefetch"]["wasted"] == wasted
    assert sum(units * count for units, count in found["prefetch"]["demanded"]) == demanded


def pairs(one: list[list[Any]], other: list[list[Any]]) -> list[tuple[Any, Any]]:
    return [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
