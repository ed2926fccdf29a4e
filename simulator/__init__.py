"""What pruning costs on a device: bytes, caches, time.

Geometry, devices and throughput are plain Python; everything that needs numba is loaded when it is
first asked for, so that planning a sweep never waits for a compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simulator.device import Device
from simulator.errors import SimulatorError
from simulator.footprint import (
    GROUPS,
    Allocation,
    Footprint,
    GroupSize,
    allocate,
    footprint,
    weight_bytes,
)
from simulator.geometry import FileBits, Geometry, KVLayers, Storage
from simulator.phases import PhaseCounts, phase_counts, uniform_reads
from simulator.throughput import Throughput, throughput

OFFLINE: frozenset[str]
"""Policies that no device can run, of those known at the moment of asking (see `__getattr__`)."""

if TYPE_CHECKING:
    from simulator.cache import lru_curve, simulate
    from simulator.coactive import coactive
    from simulator.energy import joules
    from simulator.misses import miss_masks
    from simulator.packing import pack, unpack
    from simulator.policies import CACHE_AWARE, POLICIES, Policy, load_policies, register
    from simulator.preload import Preloading, preloading
    from simulator.read_cost import ReadCost
    from simulator.read_plans import gap_counts, read_counts, reads
    from simulator.read_select import lam_for_density, read_aware, read_aware_scan
    from simulator.read_sizes import ReadCounts
    from simulator.selection import Selected, cache_aware, select, top_k
    from simulator.simulation import GroupCounts, simulate_trace, trace_curve
    from simulator.state import CacheState, new_state
    from simulator.trace import Trace
    from simulator.tracefile import TraceFile, TraceWriter, read_trace, write_trace

_LAZY = {
    "simulate": "cache",
    "lru_curve": "cache",
    "pack": "packing",
    "unpack": "packing",
    "POLICIES": "policies",
    "Policy": "policies",
    "load_policies": "policies",
    "register": "policies",
    "CacheState": "state",
    "cache_aware": "selection",
    "new_state": "state",
    "select": "selection",
    "top_k": "selection",
    "Selected": "selection",
    "TraceFile": "tracefile",
    "TraceWriter": "tracefile",
    "read_trace": "tracefile",
    "write_trace": "tracefile",
    "CACHE_AWARE": "policies",
    "GroupCounts": "simulation",
    "simulate_trace": "simulation",
    "trace_curve": "simulation",
    "Trace": "trace",
    "coactive": "coactive",
    "miss_masks": "misses",
    "joules": "energy",
    "Preloading": "preload",
    "preloading": "preload",
    "ReadCost": "read_cost",
    "ReadCounts": "read_sizes",
    "gap_counts": "read_plans",
    "read_counts": "read_plans",
    "reads": "read_plans",
    "lam_for_density": "read_select",
    "read_aware": "read_select",
    "read_aware_scan": "read_select",
}

__all__ = [
    "CACHE_AWARE",
    "GROUPS",
    "OFFLINE",
    "POLICIES",
    "Allocation",
    "CacheState",
    "Device",
    "FileBits",
    "Footprint",
    "Geometry",
    "GroupCounts",
    "GroupSize",
    "KVLayers",
    "PhaseCounts",
    "Policy",
    "Preloading",
    "ReadCost",
    "ReadCounts",
    "Selected",
    "SimulatorError",
    "Storage",
    "Throughput",
    "Trace",
    "TraceFile",
    "TraceWriter",
    "allocate",
    "cache_aware",
    "coactive",
    "footprint",
    "gap_counts",
    "joules",
    "lam_for_density",
    "load_policies",
    "lru_curve",
    "miss_masks",
    "new_state",
    "pack",
    "phase_counts",
    "preloading",
    "read_aware",
    "read_aware_scan",
    "read_counts",
    "read_trace",
    "reads",
    "register",
    "select",
    "simulate",
    "simulate_trace",
    "throughput",
    "top_k",
    "trace_curve",
    "uniform_reads",
    "unpack",
    "weight_bytes",
    "write_trace",
]

importlib.import_module("simulator.engine_policies")  # registers its policies, and loads no numba


def __getattr__(name: str) -> Any:
    if name == "OFFLINE":  # never kept: a user's policy may have been registered since
        return importlib.import_module("simulator.policies").offline_policies()
    if name not in _LAZY:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    return getattr(importlib.import_module(f"simulator.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
