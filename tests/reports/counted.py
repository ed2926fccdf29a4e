"""A results table whose speeds come from the simulator: random masks, simulated and priced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from simulator import Device, Geometry, PhaseCounts, Storage, allocate, footprint, throughput
from simulator.simulation import simulate_trace, trace_curve
from simulator.trace import Trace
from tests.reports import synthetic

GEOMETRY = Geometry("tiny", 2, 250, 640, 4, 2, 10, 64)
STORAGE = Storage(kv_tokens=32)
LENGTHS = (16, 8)
METHODS: Mapping[str, dict[str, float]] = {
    "dip": {"input": 0.6, "intermediate": 0.4},
    "up": {"gate-neuron": 0.5},
    "glu": {"intermediate": 0.3},
    "glu-oracle": {"neuron": 0.5},
}
UNITS = {"input": 250, "intermediate": 640, "gate-neuron": 640, "neuron": 640}
SHARES = (0.2, 0.5, 0.9)  # of the MLP that the simulated DRAM sizes hold beside what is static
FLASH = (0.5, 2.0)
DRAM_GBPS = 6.0


@dataclass(frozen=True)
class Traced:
    """What one method reads, for any cache: the truth that the page is held to."""

    method: str
    threshold: bool
    trace: Trace

    def phases(self, policy: str, dram_gb: float) -> dict[str, PhaseCounts]:
        return {name: counts.phases for name, counts in self.counts(policy, dram_gb).items()}

    def counts(self, policy: str, dram_gb: float) -> dict[str, Any]:
        room = allocate(footprint(GEOMETRY, self.trace.units, STORAGE), dram_gb * 1e9)
        slots = dict.fromkeys(room.slots, 0) if policy == "none" else dict(room.slots)
        return simulate_trace(self.trace, policy, slots)


def dram_sizes() -> tuple[float, ...]:
    whole = footprint(GEOMETRY, METHODS["dip"], STORAGE)
    return tuple((whole.static_bytes + share * whole.pruned_bytes) / 1e9 for share in SHARES)


def traced(method: str, seed: int = 0) -> Traced:
    """Masks with locality; `glu` keeps a number of units that differs from token to token."""
    rng = np.random.default_rng([seed, *method.encode()])
    densities = METHODS[method]
    units = {group: UNITS[group] for group in densities}
    trace = Trace.empty(units, GEOMETRY.layers, LENGTHS)
    for layer in range(GEOMETRY.layers):
        for group, density in densities.items():
            liked = rng.normal(size=units[group])
            for window, length in enumerate(LENGTHS):
                scores = rng.normal(size=(length, units[group])) + 1.5 * liked
                keep = rng.uniform(0.2, 1.6, length) if method == "glu" else np.ones(length)
                edge = np.quantile(scores, 1 - density, axis=1) / keep
                trace.add(layer, group, scores >= edge[:, None], window)
    return Traced(method, method == "glu", trace)


def price(
    phases: Mapping[str, PhaseCounts], dram_gb: float, flash: float, dram: float, timing: str
) -> Any:
    device = Device("phone", dram_gb, flash, dram)
    return throughput(GEOMETRY, device, phases, sum(LENGTHS), STORAGE, timing=timing)


def table(
    timing: str = "overlap", policies: tuple[str, ...] = ("none", "lru", "lfu", "min")
) -> Any:
    """Every method under every policy, DRAM size and Flash speed, and the dense model."""
    found = [row for method in METHODS for row in _rows(traced(method), policies, timing)]
    dense = [_row(None, "none", gb, flash, timing) for gb in dram_sizes() for flash in FLASH]
    return pa.Table.from_pylist([*dense, *found], schema=synthetic.reports.SCHEMA)


def _rows(given: Traced, policies: tuple[str, ...], timing: str) -> Iterator[dict[str, Any]]:
    for policy in policies:
        for gb in dram_sizes():
            for flash in FLASH:
                yield _row(given, policy, gb, flash, timing)


def _row(given: Traced | None, policy: str, gb: float, flash: float, timing: str) -> dict[str, Any]:
    counts = given.counts(policy, gb) if given else {}
    phases = {name: c.phases for name, c in counts.items()}
    priced, dense = (price(p, gb, flash, DRAM_GBPS, timing) for p in (phases, {}))
    sizes = footprint(GEOMETRY, phases, STORAGE)
    room = allocate(sizes, gb * 1e9)
    name = given.method if given else "dense"
    delta = 0.0 if given is None else 0.1 * (1 + list(METHODS).index(name))
    kl = 0.0 if given is None else 0.05 - 0.01 * list(METHODS).index(name)
    identity = f"{name} {policy} {gb} {flash} {timing}"
    return {
        "sweep": "counted",
        "point_key": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "model": "tiny",
        "quant": "4 bit",
        "method": name,
        "selector": "topk",
        "density": 0.5 if given else 1.0,
        "mlp_density": 0.5 if given else 1.0,
        "gamma": 1.0,
        "allocation": "paper" if name == "dip" else "",
        "policy": policy,
        "device": "phone",
        "dram_gb": gb,
        "flash_gbps": flash,
        "dram_gbps": DRAM_GBPS,
        "cache_fraction": priced.cache_fraction,
        "ppl": 15 + delta,
        "ppl_dense": 15.0,
        "delta_ppl": delta,
        "delta_ppl_low": delta - 0.05,
        "delta_ppl_high": delta + 0.05,
        "ppl_ratio_low": 1 + (delta - 0.03) / 15,
        "ppl_ratio_high": 1 + (delta + 0.03) / 15,
        "kl": kl,
        "kl_low": kl * 0.8,
        "kl_high": kl * 1.3,
        "flip_rate": kl * 2,
        "flip_rate_low": kl,
        "flip_rate_high": kl * 3,
        "hit_rate": priced.hit_rate,
        "flash_bytes_per_token": priced.flash_bytes_per_token,
        "dram_bytes_per_token": priced.dram_bytes_per_token,
        "tokens_per_s": priced.tokens_per_s,
        "tokens_per_s_dense": dense.tokens_per_s,
        "overhead_bytes": 0.0,
        "tokens": sum(LENGTHS),
        "seed": 0,
        "status": "done",
        "error": "",
        "timing": timing,
        "cache_start": "empty",
        "cache_scope": "window",
        "window_tokens": 16,
        "windows": len(LENGTHS),
        "text": "embedded-wiki",
        "dtype": "float32",
        "static_bytes": sizes.static_bytes,
        "resident_bytes": room.resident_bytes,
        "excess_bytes": room.excess_bytes,
        "reads": json.dumps(_reads(given, counts, sizes, room, policy)),
        "task_keys": json.dumps([f"{name}-task"]),
    }


def _reads(given: Traced | None, counts: Any, sizes: Any, room: Any, policy: str) -> Any:
    return {
        name: {
            "units": sizes.groups[name].units,
            "layers": sizes.groups[name].layers,
            "unit_bytes": sizes.groups[name].unit_bytes,
            "slots": 0 if policy == "none" else room.slots[name],
            "phases": c.phases.to_json(),
            "used_by_layer": c.used_by_layer.tolist(),
            "hits_by_layer": c.hits_by_layer.tolist(),
            "hits_by_percent": _curve(given.trace, name) if given and policy == "lru" else [],
        }
        for name, c in counts.items()
    }


def _curve(trace: Trace, group: str) -> list[int]:
    curve, units = trace_curve(trace, group), trace.units[group]
    return [int(curve[percent * units // 100]) for percent in range(101)]
