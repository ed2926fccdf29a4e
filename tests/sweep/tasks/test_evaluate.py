"""Evaluation: exact for any cut into shards, and for a cache that every mask depends on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from simulator import Trace
from sweep.inputs import models
from sweep.measures import losses
from sweep.tasks.calibrate import calibrate
from sweep.tasks.evaluate import evaluate
from tests.methods.reference import PlainMLP, dip_densities, dip_with, kept, largest, replaced
from tests.sweep.task_call import apart

TOKENS = 24
SLOTS = {"input": 20, "intermediate": 33}
TOPK = {"name": "topk"}


def aware(policy: str, gamma: float = 0.2, scope: str = "window") -> dict[str, Any]:
    named = {"name": "cache-aware", "gamma": gamma, "policy": policy}
    return {**named, "slots": SLOTS, "scope": scope}


@pytest.fixture
def payload(tiny_llama: Path, tiny_text_file: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_llama),
        "text_name": str(tiny_text_file),
        "window_tokens": TOKENS,
        "windows": [0, 1, 2, 3],
        "dtype": "float32",
        "threads": 1,
        "method": "dip",
        "density": 0.5,
        "parameters": {"allocation": "paper"},
        "selector": TOPK,
    }


def run(payload: dict[str, Any], inputs: dict[str, Any] | None = None, **changes: Any) -> Any:
    return evaluate(*apart({**payload, **changes}), inputs or {}, "cpu")


def order_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The hot start of the payload's method, from the first window of the text."""
    return calibrate(*apart({**payload, "windows": [0]}), {}, "cpu")[1]


# -- shards ----------------------------------------------------------------------------------

CUTS = ([[0, 1, 2, 3]], [[0], [1], [2], [3]], [[3], [1, 0], [2]])


@pytest.mark.parametrize("cut", CUTS[1:])
def test_losses_and_masks_do_not_depend_on_the_cut(
    payload: dict[str, Any], cut: list[list[int]]
) -> None:
    whole, trace = run(payload)
    parts = {tuple(shard): run(payload, windows=shard) for shard in cut}
    losses = {w: loss for s, (r, _) in parts.items() for w, loss in zip(s, r["nll"], strict=True)}
    assert [losses[w] for w in range(4)] == whole["nll"]
    for shard, (_, own) in parts.items():
        for place, window in enumerate(shard):
            for group in trace.units:
                for layer in range(trace.layers):
                    expected = trace.masks(group, layer, window)
                    assert np.array_equal(own.masks(group, layer, place), expected)


@pytest.mark.parametrize("selector", [aware("lfu"), aware("lru")], ids=["lfu", "lru"])
@pytest.mark.parametrize("cut", CUTS[1:])
def test_cache_aware_losses_and_hits_do_not_depend_on_the_cut(
    payload: dict[str, Any], cut: list[list[int]], selector: dict[str, Any]
) -> None:
    whole, _ = run(payload, selector=selector)
    parts = {tuple(s): run(payload, windows=s, selector=selector)[0] for s in cut}
    losses = {w: x for s, r in parts.items() for w, x in zip(s, r["nll"], strict=True)}
    assert [losses[w] for w in range(4)] == whole["nll"]
    for group in SLOTS:
        hits = [part["groups"][group]["hits_by_layer"] for part in parts.values()]
        assert np.sum(hits, axis=0).tolist() == whole["groups"][group]["hits_by_layer"]


def test_scope_carry_goes_on_within_a_shard_only(payload: dict[str, Any]) -> None:
    carried, _ = run(payload, selector=aware("lfu", scope="carry"))
    fresh, _ = run(payload, selector=aware("lfu"))
    assert carried["nll"][0] == fresh["nll"][0]
    assert carried["nll"][1:] != fresh["nll"][1:]
    later, _ = run(payload, selector=aware("lfu", scope="carry"), windows=[2, 3])
    assert later["nll"][0] == fresh["nll"][2]


@pytest.mark.parametrize("rows", [1, 7, 10_000])
def test_losses_do_not_depend_on_how_many_are_taken_at_once(
    payload: dict[str, Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = run(payload)
    monkeypatch.setattr(losses, "ROWS", rows)
    assert run(payload)[0]["nll"] == pytest.approx(expected["nll"], rel=1e-6)


def test_evaluating_twice_gives_the_same_bits(payload: dict[str, Any]) -> None:
    first = run(payload, selector=aware("lru"))
    run(payload, method="up", density=0.5, parameters={})
    assert run(payload, selector=aware("lru")) == first


# -- what comes out --------------------------------------------------------------------------


@pytest.mark.parametrize("selector", [TOPK, aware("lfu")], ids=["topk", "cache-aware"])
def test_the_result_is_json_and_complete(payload: dict[str, Any], selector: dict[str, Any]) -> None:
    result, trace = run(payload, selector=selector)
    assert json.loads(json.dumps(result)) == result
    assert result["predicted"] == [TOKENS - 1] * 4
    assert result["tokens"] == 4 * TOKENS
    assert result["device"] == "cpu"
    d_in, d_mid = dip_densities(0.5, "paper")
    realised = (2 * kept(d_in, 48) / 48 + kept(d_mid, 96) / 96) / 3
    assert result["mlp_density"] == pytest.approx(realised, abs=1e-12)
    assert (trace is None) == (selector["name"] == "cache-aware")


def test_a_trace_is_that_of_the_windows(payload: dict[str, Any]) -> None:
    _, trace = run(payload, windows=[1, 3])
    assert isinstance(trace, Trace)
    assert (dict(trace.units), trace.layers) == ({"input": 48, "intermediate": 96}, 2)
    assert trace.lengths == (TOKENS, TOKENS)


def test_dense_needs_no_selector(payload: dict[str, Any]) -> None:
    result, trace = run(payload, method="dense", density=1.0, parameters={}, selector={})
    assert trace is None
    assert (result["mlp_density"], result["groups"]) == (1.0, {})


def test_bfloat16_is_near_float32(payload: dict[str, Any]) -> None:
    exact, _ = run(payload)
    rounded, trace = run(payload, dtype="bfloat16")
    assert rounded["nll"] != exact["nll"]
    assert sum(rounded["nll"]) == pytest.approx(sum(exact["nll"]), rel=0.1)
    assert trace is not None
    again, _ = run(payload, dtype="bfloat16", selector=aware("lfu", gamma=1.0))
    assert again["nll"] == rounded["nll"]


def test_gamma_one_gives_the_losses_of_topk(payload: dict[str, Any]) -> None:
    plain, _ = run(payload)
    assert run(payload, selector=aware("lru", gamma=1.0))[0]["nll"] == plain["nll"]


def test_a_model_that_overflows_is_an_error(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load(payload["model"], "float32")
    model.lm_head.weight.data.fill_(float("inf"))
    monkeypatch.setattr(models, "loaded", lambda *_: model)
    with pytest.raises(FloatingPointError, match="the loss of a window is"):
        run(payload, method="dense", density=1.0, parameters={}, selector={})


# -- Algorithm 1, written out -----------------------------------------------------------------


class PlainCache:
    """SEMANTICS 4 for one layer and group: what is cached, and what the policy would evict."""

    def __init__(self, units: int, capacity: int, policy: str, start: Sequence[int] | None) -> None:
        self.capacity, self.policy = capacity, policy
        self.order = list(range(units)) if start is None else list(start)
        self.uses = [0] * units
        self.cached = set() if start is None else set(self.order[:capacity])
        self.hits = self.requests = 0

    def worth(self, unit: int) -> tuple[int, int]:
        if self.policy == "lfu":
            return self.uses[unit], -unit
        return -self.order.index(unit), 0

    def request(self, used: set[int]) -> None:
        self.hits += len(used & self.cached)
        self.requests += len(used)
        for unit in used:
            self.uses[unit] += 1
        front = [unit for unit in self.order if unit in used]
        self.order = front + [unit for unit in self.order if unit not in used]
        kept_units = self.cached & used
        for candidates in (used - self.cached, self.cached - used):
            best = sorted(candidates, key=self.worth, reverse=True)
            kept_units = kept_units | set(best[: self.capacity - len(kept_units)])
        self.cached = kept_units

    def choose(self, magnitudes: Sequence[float], k: int, gamma: float) -> set[int]:
        """Eq. 10, top-k, and the request."""
        peak = max(magnitudes)
        weighed = [
            x * (1.0 if unit in self.cached else gamma) / peak for unit, x in enumerate(magnitudes)
        ]
        used = largest(weighed, k)
        self.request(used)
        return used


def one_token_at_a_time(
    payload: dict[str, Any], policy: str, gamma: float, start: dict[str, Any] | None
) -> tuple[list[float], list[dict[tuple[int, str], PlainCache]]]:
    """Losses and caches of the first two windows: generation with a KV cache, teacher-forced."""
    model = models.load(payload["model"], "float32")
    words = models.tokenizer(payload["model"])
    ids = words(Path(payload["text_name"]).read_text())["input_ids"]
    d_in, d_mid = dip_densities(payload["density"], "paper")
    caches: dict[tuple[int, str], PlainCache] = {}
    sessions: list[dict[tuple[int, str], PlainCache]] = []

    def dip(layer: int, mlp: PlainMLP, x: torch.Tensor) -> torch.Tensor:
        inputs = caches[layer, "input"].choose(x.abs().tolist(), kept(d_in, 48), gamma)
        own, k = caches[layer, "intermediate"], kept(d_mid, 96)
        return dip_with(mlp, x, inputs, lambda glu: own.choose(glu, k, gamma))

    losses = []
    with replaced(model, dip), torch.no_grad():
        for window in (ids[:TOKENS], ids[TOKENS : 2 * TOKENS]):
            for layer in range(2):
                for group, units in (("input", 48), ("intermediate", 96)):
                    order = None if start is None else start[group][layer].tolist()
                    caches[layer, group] = PlainCache(units, SLOTS[group], policy, order)
            past, loss = None, 0.0
            for token, following in itertools.pairwise(window):
                out = model(input_ids=torch.tensor([[token]]), past_key_values=past, use_cache=True)
                past = out.past_key_values
                loss -= float(torch.log_softmax(out.logits[0, -1].double(), -1)[following])
            losses.append(loss)
            sessions.append(dict(caches))
    return losses, sessions


@pytest.mark.parametrize("hot", [False, True], ids=["cold", "hot"])
@pytest.mark.parametrize("gamma", [0.2, 0.7])
@pytest.mark.parametrize("policy", ["lfu", "lru"])
def test_cache_aware_is_algorithm_1_token_by_token(
    payload: dict[str, Any], policy: str, gamma: float, hot: bool
) -> None:
    """One forward pass a window is exact: the same as generation, one token after the other."""
    start = order_of(payload) if hot else None
    losses, sessions = one_token_at_a_time(payload, policy, gamma, start)
    inputs = {"start": start} if start else {}
    got, _ = run(payload, inputs, windows=[0, 1], selector=aware(policy, gamma))
    assert got["nll"] == pytest.approx(losses, rel=1e-5)
    assert math.exp(sum(got["nll"]) / 46) == pytest.approx(math.exp(sum(losses) / 46), rel=1e-5)
    plain, _ = run(payload, windows=[0, 1])
    assert got["nll"] != pytest.approx(plain["nll"], rel=1e-4)
    for group in SLOTS:
        used = sum(session[layer, group].requests for session in sessions for layer in range(2))
        # the last token of a window predicts nothing, so generation never asks for it
        assert sum(got["groups"][group]["used_by_layer"]) == used * TOKENS // (TOKENS - 1)


@pytest.mark.parametrize("policy", ["lfu", "lru"])
def test_cache_aware_hits_are_those_of_algorithm_1(payload: dict[str, Any], policy: str) -> None:
    """Of a window one token shorter, which ends where generation ends."""
    _, sessions = one_token_at_a_time(payload, policy, 0.2, None)
    shorter = {"window_tokens": TOKENS - 1, "windows": [0]}
    got, _ = run(payload, selector=aware(policy), **shorter)
    for group in SLOTS:
        hits = [sessions[0][layer, group].hits for layer in range(2)]
        assert got["groups"][group]["hits_by_layer"] == hits


# -- calibration -----------------------------------------------------------------------------


def test_the_hot_order_is_by_mean_score(payload: dict[str, Any]) -> None:
    result, orders = calibrate(*apart({**payload, "windows": [0, 1]}), {}, "cpu")
    assert result["tokens"] == 2 * TOKENS
    assert (orders["input"].shape, orders["intermediate"].shape) == ((2, 48), (2, 96))
    sums = np.zeros((2, 96))
    model = models.load(payload["model"], "float32")
    words = models.tokenizer(payload["model"])
    ids = words(Path(payload["text_name"]).read_text())["input_ids"]

    def dense(layer: int, mlp: PlainMLP, x: torch.Tensor) -> torch.Tensor:
        sums[layer] += (mlp.up_of(x) * mlp.gate_of(x)).abs().numpy()
        return mlp.dense(x)

    with replaced(model, dense), torch.no_grad():
        for window in (ids[:TOKENS], ids[TOKENS : 2 * TOKENS]):
            model(input_ids=torch.tensor([window]))
    expected = [sorted(range(96), key=lambda u: (-row[u], u)) for row in sums.tolist()]
    assert orders["intermediate"].tolist() == expected


def test_an_lru_simulation_gives_the_hits_of_every_cache_size() -> None:
    """One task, no further evaluation: each point of its curve is a simulation of that size."""
    from simulator.simulation import simulate_trace
    from simulator.trace import Trace
    from sweep.tasks.simulate import simulate

    units, generator = 70, np.random.default_rng(0)
    trace = Trace.empty({"input": units}, 2, (30, 20))
    for layer, window in ((0, 0), (0, 1), (1, 0), (1, 1)):
        masks = generator.random((trace.lengths[window], units)) < 0.3
        trace.add(layer, "input", masks, window)
    payload = {"policy": "lru", "slots": {"input": 10}, "scope": "window"}
    result, _ = simulate(*apart(payload), {"trace": trace}, "cpu")
    curve = result["groups"]["input"]["hits_by_percent"]
    assert len(curve) == 101
    assert curve[0] == 0
    for percent in (1, 15, 50, 99, 100):
        counts = simulate_trace(trace, "lru", {"input": percent * units // 100})["input"]
        assert curve[percent] == counts.hits_by_layer.sum()
