"""Route traces of others: their forms, and the published conformance trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulator.errors import SimulatorError
from simulator.events import event_counts, pooled_slots, recoverable_gap
from simulator.experts import GROUP
from simulator.packing import unpack
from simulator.pool import simulate_pool
from simulator.routes import read_routes, write_routes
from simulator.simulation import simulate_trace
from simulator.trace import Trace

STEPS = [[0, 1], [0, 2], [0, 1], [0, 3], [0, 1]]
"""The conformance trace of arXiv 2608.07911, asked for in each of three layers of four experts."""


@pytest.fixture
def conformance(tmp_path: Path) -> Path:
    path = tmp_path / "routes.jsonl"
    lines = [
        {"step": step, "layer": layer, "experts": experts}
        for step, experts in enumerate(STEPS)
        for layer in range(3)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_the_conformance_trace(conformance: Path) -> None:
    trace = read_routes(conformance, "jsonl")
    counts = event_counts(trace, GROUP, "lru", 2)
    assert (counts.accesses, counts.hits, counts.misses) == (30, 12, 18)
    assert (counts.compulsory, counts.evictions, counts.insertions) == (12, 12, 18)
    assert counts.missed.T.tolist() == [[2, 2, 2], *[[1, 1, 1]] * 4]
    assert counts.step_misses(95) == 6
    assert counts.event_misses(50) == 1
    assert (counts.asked_per_slot, counts.asked_above_slots) == (1.0, 0.0)
    by_kernel = simulate_trace(trace, "lru", {GROUP: 2})[GROUP]
    assert by_kernel.hits_by_layer.tolist() == [4, 4, 4]
    bound = event_counts(trace, GROUP, "belady", 2)
    assert recoverable_gap([counts], bound) == (18 - bound.misses) / 18


@pytest.mark.parametrize("form", ["jsonl", "moe-cache-eval"])
def test_written_and_read_again(form: str, tmp_path: Path) -> None:
    trace = made_up(experts=9, layers=4, lengths=(6, 3))
    write_routes(trace, tmp_path / "routes", form)
    assert read_routes(tmp_path / "routes", form, experts=9) == trace


def made_up(experts: int, layers: int, lengths: tuple[int, ...], k: int = 2) -> Trace:
    """Uniform routing."""
    rng = np.random.default_rng(7)
    trace = Trace.empty({GROUP: experts}, layers, lengths)
    for _, layer, window, masks in trace.blocks():
        scores = rng.random((len(masks), experts))
        chosen = scores.argsort(axis=1).argsort(axis=1) < k
        trace.add(layer, GROUP, chosen, window)
    return trace


def test_the_stream_of_colibri(tmp_path: Path) -> None:
    """A prompt of two tokens in one pass, then a token alone; layers 1 and 2 have experts."""
    path = tmp_path / "trace.txt"
    path.write_text(
        "0 0 1 3:0.6 0:0.4\n0 1 1 1:0.9 2:0.1\n1 0 2 0:0.5 1:0.5\n1 1 2 3:1.0\n"
        "2 0 1 2:0.7 3:0.3\n3 0 2 1:0.6 2:0.4\n"
    )
    trace = read_routes(path, "colibri")
    assert (trace.units, trace.layers, trace.lengths) == ({GROUP: 4}, 2, (3,))
    rows = [
        [np.flatnonzero(row).tolist() for row in unpack(trace.masks(GROUP, layer), 4)]
        for layer in range(2)
    ]
    assert rows == [[[0, 3], [1, 2], [2, 3]], [[0, 1], [3], [1, 2]]]


def test_events_of_several_tokens_are_their_union(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    write_routes(made_up(4, 1, (2,)), folder, "moe-cache-eval")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model"] == {"num_layers": 1, "num_experts": 4, "top_k": 2}
    (folder / "events.safetensors").write_bytes(b"\0" * 32)
    with pytest.raises(SimulatorError, match="the checksum differs"):
        read_routes(folder, "moe-cache-eval")
    with pytest.raises(SimulatorError, match="is no event trace of moe-cache-eval"):
        read_routes(tmp_path, "moe-cache-eval")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":1: no JSON"),
        ("[]", ":1: a JSON object is expected"),
        ('{"token": true, "layer": 0, "experts": [0]}', "'token' is True; a whole number"),
        ('{"token": 0, "experts": [0]}', "'layer' is None"),
        ('{"token": 0, "layer": 0, "experts": "01"}', "'experts' must be a list"),
        ('{"token": 0, "layer": 0, "experts": [-1]}', "'experts' is -1"),
        ("", "has no routes"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(SimulatorError, match=said):
        read_routes(path, "jsonl")


def test_other_faults(conformance: Path, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="uses expert 3; a layer has 3"):
        read_routes(conformance, "jsonl", experts=3)
    with pytest.raises(SimulatorError, match=r"form of route traces 'json'.*'jsonl'"):
        read_routes(conformance, "json")
    with pytest.raises(SimulatorError, match="call, row, layer and expert:gate"):
        read_routes(conformance, "colibri")
    trace = read_routes(conformance, "jsonl")
    with pytest.raises(SimulatorError, match="slots of 2 layers; the trace has 3"):
        event_counts(trace, GROUP, "lru", [1, 2])
    neurons = Trace.empty({"input": 3}, 1, (2,))
    with pytest.raises(SimulatorError, match="has no experts"):
        write_routes(neurons, tmp_path / "x", "jsonl")


# -- numbers of others that need no weights --------------------------------------------------


def test_the_null_of_uniform_routing() -> None:
    """OLMoE's 64 experts in 16 layers, 8 used, 10 % cached: LRU hits at .0996, the cached share.

    (Beside it stands .297 for Belady, whose rule of admission is not said: with forced admission
    ours is at .12, free to refuse it at .34.)
    """
    slots = pooled_slots(0.1, 64, 16)
    assert (slots[0], slots[-1], sum(slots)) == (7, 6, 102)
    trace = made_up(64, 16, (400,), k=8)
    lru = event_counts(trace, GROUP, "lru", slots)
    assert 1 - lru.miss_rate == pytest.approx(0.0996, abs=0.004)
    belady = event_counts(trace, GROUP, "belady", slots)
    best = event_counts(trace, GROUP, "min", slots)
    assert lru.asked_above_slots == 1
    assert 1 - belady.miss_rate == pytest.approx(0.123, abs=0.005)
    assert 1 - best.miss_rate == pytest.approx(0.336, abs=0.01)


def test_policies_coincide_where_a_token_asks_for_more_than_fits() -> None:
    """r above 1 in every event: whatever admits what was used keeps units of the last token."""
    trace = made_up(16, 2, (200,), k=8)
    rates = {p: event_counts(trace, GROUP, p, 4) for p in ("lru", "lfu", "lfru", "slru")}
    assert {counts.asked_above_slots for counts in rates.values()} == {1.0}
    hits = [counts.hits / counts.accesses for counts in rates.values()]
    assert max(hits) - min(hits) < 0.03


# -- one pool --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "lfu", "lfru", "belady", "min"])
@pytest.mark.parametrize("scope", ["window", "carry"])
def test_one_pool_is_a_cache_of_all_layers(policy: str, scope: str) -> None:
    """Against plain caches that are asked layer after layer."""
    trace = made_up(6, 3, (20, 9))
    counts = simulate_pool(trace, policy, {GROUP: 7}, scope)[GROUP]
    hits = plain_pool(trace, policy, 7, scope)
    assert counts.hits_by_layer.tolist() == hits
    assert counts.used_by_layer.tolist() == [2 * 29] * 3


def plain_pool(trace: Trace, policy: str, capacity: int, scope: str) -> list[int]:
    from simulator.policies import simulate_plainly

    masks = [unpack(trace.masks(GROUP, layer), 6) for layer in range(3)]
    totals = [0, 0, 0]
    windows = [(0, 29)] if scope == "carry" else [(0, 20), (20, 29)]
    for begin, end in windows:
        events: list[Any] = []
        for token in range(begin, end):
            for layer in range(3):
                event = np.zeros(18, np.bool_)
                event[layer * 6 : layer * 6 + 6] = masks[layer][token]
                events.append(event)
        hits = simulate_plainly(np.array(events), capacity, policy)
        for layer in range(3):
            totals[layer] += int(hits[layer::3].sum())
    return totals


def test_a_pool_is_not_smaller_than_an_event() -> None:
    with pytest.raises(SimulatorError, match=r"a pool of 1 units is smaller than one event.*2"):
        simulate_pool(made_up(6, 3, (5,)), "lru", {GROUP: 1})
