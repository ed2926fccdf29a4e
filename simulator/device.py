"""Devices: available DRAM and the two bandwidths that bound a token's time (SEMANTICS 5)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from simulator.arguments import whole
from simulator.device_fields import (
    Cases,
    Curves,
    Interval,
    cases_of,
    cost_at,
    curves_as_mapping,
    curves_of,
    interval_of,
)
from simulator.errors import SimulatorError, check_fields, check_number, unknown
from simulator.read_cost import ReadCost

FOLDER = Path(__file__).with_name("devices")
TIMINGS = ("overlap", "serial")


@dataclass(frozen=True, slots=True)
class Device:
    """Memory of a device, in units of 1e9 bytes and bytes per second.

    `dram_gb` is what the model may use, not what is soldered in; `dram_cases` are others that were
    seen. `timing` says whether the Flash and DRAM traffic of a phase overlap (`overlap`: the longer
    counts) or not (`serial`: the sum). `flash_read_kib` says which reads `flash_gbps` is meant for,
    those of this many KiB and more; it changes no figure.

    With `latency_us` a read takes that beside its bytes over `flash_gbps`; with `flash`, a table
    `{depth: {1: [[bytes, gbps], …]}}`, what was measured with `io_depth` reads in flight, or the
    nearest fewer that were. Reads are rounded out to `align_bytes`. `compute_gbps` are the weight
    bytes per second of the processor and `head_ms` is the time of the output head; 0: not counted.
    Energy is `idle_w` and, as `[low, high]`, what a byte takes. All of these are optional, and
    without them the device is the paper's.
    """

    name: str
    dram_gb: float
    flash_gbps: float
    dram_gbps: float
    timing: str = "overlap"
    source: str = ""
    title: str = ""
    flash_read_kib: float = 64
    latency_us: float = 0
    align_bytes: int = 1
    compute_gbps: float = 0
    head_ms: float = 0
    flash: Curves = ()
    io_depth: int = 1
    idle_w: float = 0
    flash_nj_per_byte: Interval | None = None
    dram_nj_per_byte: Interval | None = None
    dram_cases: Cases = ()

    def __post_init__(self) -> None:
        kind = f"device {self.name!r}"
        for field in ("dram_gb", "flash_gbps", "dram_gbps", "flash_read_kib"):
            check_number(kind, field, getattr(self, field), 0, strict=True)
        for field in ("latency_us", "compute_gbps", "head_ms", "idle_w"):
            check_number(kind, field, getattr(self, field), 0, strict=False)
        for field in ("align_bytes", "io_depth"):
            whole(f"{kind}: {field}", getattr(self, field), 1)
        check_timing(self.timing)
        object.__setattr__(self, "flash", curves_of(self.name, self.flash))
        object.__setattr__(self, "dram_cases", cases_of(self.name, self.dram_cases))
        for field in ("flash_nj_per_byte", "dram_nj_per_byte"):
            interval = interval_of(self.name, field, getattr(self, field))
            object.__setattr__(self, field, interval)
        if self.flash and self.latency_us:
            raise SimulatorError(f"{kind} has a table of reads and latency_us; one must be 0")
        self.read_cost()

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the presets, those of one family side by side."""
        return tuple(_presets())

    @classmethod
    def load(cls, source: str | Mapping[str, Any] | Device) -> Device:
        """A preset by name, or a device from a mapping of fields.

        A mapping may name a preset as `device` and override its fields; a mapping whose `device`
        (or `name`) is no preset must give `dram_gb`, `flash_gbps` and `dram_gbps` itself.
        """
        if isinstance(source, Device):
            return source
        if isinstance(source, Mapping):
            return cls._from_mapping(source)
        if source not in _presets():
            raise unknown("device", source, _presets())
        return cls(**_presets()[source])

    @classmethod
    def _from_mapping(cls, mapping: Mapping[str, Any]) -> Device:
        names = [field.name for field in fields(cls)]
        check_fields("device", mapping, ["device", *names])
        figures = {key: value for key, value in mapping.items() if key != "device"}
        preset = mapping.get("device", figures.get("name", "custom"))
        if preset in _presets():
            return cls(**{**_presets()[preset], **figures})
        missing = [n for n in ("dram_gb", "flash_gbps", "dram_gbps") if n not in figures]
        if len(missing) == 3 and "device" in mapping:
            raise unknown("device", preset, _presets())
        if missing:
            raise SimulatorError(f"device {preset!r} is no preset and lacks {', '.join(missing)}")
        return cls(**{"name": preset, **figures})

    def to_mapping(self) -> dict[str, Any]:
        """The fields as a plain mapping; `load` reads it back."""
        mapping = {field.name: getattr(self, field.name) for field in fields(self)}
        for field in ("flash_nj_per_byte", "dram_nj_per_byte"):
            mapping[field] = mapping[field] and list(mapping[field])
        cases = [{"dram_gb": gb, "source": source} for gb, source in self.dram_cases]
        return {**mapping, "flash": curves_as_mapping(self.flash), "dram_cases": cases}

    @property
    def kind(self) -> str:
        """How Flash is described: `paper` (one number), `affine` (latency too) or `curve`."""
        return "curve" if self.flash else "affine" if self.latency_us else "paper"

    def read_cost(self) -> ReadCost | None:
        """What a read costs at this device's `io_depth`; None in the paper's model."""
        if self.flash:
            return cost_at(self.name, self.flash, self.io_depth)
        if self.latency_us:
            return ReadCost(latency_us=self.latency_us, gbps=self.flash_gbps)
        return None

    @property
    def dram_bytes(self) -> float:
        """DRAM that the model may use, in bytes."""
        return self.dram_gb * 1e9


def check_timing(timing: str) -> None:
    """Raise SimulatorError unless `timing` is `overlap` or `serial`."""
    if timing not in TIMINGS:
        raise unknown("timing", timing, TIMINGS)


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    files = sorted(FOLDER.glob("*.yaml"), key=lambda path: _in_order(path.stem))
    return {
        path.stem: {"name": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))}
        for path in files
    }


def _in_order(name: str) -> tuple[Any, ...]:
    """apple-m1, its -pro, -max and -ultra, then apple-m2; other names by their letters."""
    larger = ("pro", "max", "ultra")
    stem, _, last = name.rpartition("-")
    return (stem, 1 + larger.index(last)) if last in larger else (name, 0)
