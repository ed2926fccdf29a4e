"""The contract of a device as rules that anyone can run, on a preset or on a mapping of fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from simulator.device import TIMINGS, Device
from simulator.footprint import allocate, footprint
from simulator.geometry import Geometry
from simulator.phases import uniform_reads
from simulator.throughput import Throughput, throughput
from simulator.verdicts import BrokenError, Verdict, try_rules

Source: TypeAlias = "str | Mapping[str, Any] | Device"
"""A device as `Device.load` takes it."""
Rule: TypeAlias = Callable[[Source], None]
"""A function of a device that raises BrokenError where the rule does not hold."""

MODELS = ("phi-3-mini", "smollm2-135m")
GROUPS = ((), ("input", "intermediate"))  # the dense model, and DIP
FACTORS = (1.0, 1.25, 2.0, 8.0)


def check(source: Source) -> list[Verdict]:
    """Every rule, tried on a device."""
    return try_rules(RULES, source)


def speeds(device: Device) -> Iterator[Throughput]:
    """Of some models, dense and half pruned with hits by the cached share, in both timings."""
    for model in MODELS:
        geometry = Geometry.load(model)
        for groups in GROUPS:
            sizes = footprint(geometry, groups)
            rate = allocate(sizes, device.dram_bytes).fraction
            reads = {
                group: uniform_reads(0.5, rate, size.units, size.layers)
                for group, size in sizes.groups.items()
            }
            for timing in TIMINGS:
                yield throughput(geometry, device, reads, 1, timing=timing)


def it_loads_and_comes_back(source: Source) -> None:
    """It loads; its mapping makes it again, and another value of a field changes that alone."""
    device = Device.load(source)
    if isinstance(source, str) and device.name != source:
        raise BrokenError(f"its name comes back as {device.name!r}")
    mapping = device.to_mapping()
    if Device.load(mapping) != device:
        raise BrokenError(f"{mapping} makes another device")
    more = dataclasses.replace(device, dram_gb=2 * device.dram_gb)
    if Device.load({**mapping, "dram_gb": 2 * device.dram_gb}) != more:
        raise BrokenError("more DRAM changes other fields too")


def its_dram_is_faster_than_its_flash(source: Source) -> None:
    """Its DRAM is at least as fast as its Flash; else the two are exchanged."""
    device = Device.load(source)
    if device.flash_gbps > device.dram_gbps:
        raise BrokenError(f"Flash {device.flash_gbps:g} GB/s, DRAM {device.dram_gbps:g} GB/s")


def more_bandwidth_is_never_slower(source: Source) -> None:
    """With a faster Flash or DRAM no model is slower."""
    for field in ("flash_gbps", "dram_gbps"):
        rates = [[speed.tokens_per_s for speed in speeds(d)] for d in _stronger(source, field)]
        _rising(rates, f"tokens per second with more {field}")


def more_dram_reads_less(source: Source) -> None:
    """With more DRAM no model reads more from Flash, nor is slower where the reads add up."""
    devices = _stronger(source, "dram_gb")
    reads = [[-speed.flash_bytes_per_token for speed in speeds(device)] for device in devices]
    _rising(reads, "bytes read less from Flash with more dram_gb")
    serial = TIMINGS.index("serial")  # where reads overlap, the longer of the two may be DRAM's
    rates = [[speed.tokens_per_s for speed in speeds(device)] for device in devices]
    _rising([of[serial :: len(TIMINGS)] for of in rates], "tokens per second with more dram_gb")


def a_model_that_fits_reads_no_flash(source: Source) -> None:
    """Where DRAM is as large as a dense model, it is read at the speed of DRAM, and no Flash."""
    device = Device.load(source)
    for model in MODELS:
        geometry = Geometry.load(model)
        size = footprint(geometry, ()).total_bytes
        fits = dataclasses.replace(device, dram_gb=size / 1e9, compute_gbps=0, head_ms=0)
        speed = throughput(geometry, fits, {}, 1)
        expected = device.dram_gbps * 1e9 / size
        if speed.flash_bytes_per_token > 1e-6 * size:
            raise BrokenError(f"{model} reads {speed.flash_bytes_per_token:g} bytes from Flash")
        if abs(speed.tokens_per_s / expected - 1) > 1e-6:
            raise BrokenError(f"{model} makes {speed.tokens_per_s:g} tokens/s, not {expected:g}")


RULES: tuple[Rule, ...] = (
    it_loads_and_comes_back,
    its_dram_is_faster_than_its_flash,
    more_bandwidth_is_never_slower,
    more_dram_reads_less,
    a_model_that_fits_reads_no_flash,
)


def _stronger(source: Source, field: str) -> list[Device]:
    device = Device.load(source)
    figure = getattr(device, field)
    return [dataclasses.replace(device, **{field: figure * factor}) for factor in FACTORS]


def _rising(rows: Sequence[Sequence[float]], what: str) -> None:
    for i, column in enumerate(zip(*rows, strict=True)):
        if any(b < a - 1e-12 * abs(a) for a, b in pairwise(column)):
            raise BrokenError(f"{what}: case {i} goes {', '.join(f'{v:.6g}' for v in column)}")
