"""Devices: available DRAM and the two bandwidths that bound a token's time (SEMANTICS 5)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from simulator.errors import SimulatorError, check_fields, check_number, unknown

TIMINGS = ("overlap", "serial")


@dataclass(frozen=True, slots=True)
class Device:
    """Memory of a device, in units of 1e9 bytes and bytes per second.

    `dram_gb` is what the model may use, not what is soldered in. `timing` says whether the Flash
    and DRAM traffic of a phase overlap (`overlap`: the longer counts) or not (`serial`: the sum).
    `flash_read_kib` says which reads `flash_gbps` is meant for, those of this many KiB and more; it
    changes no figure.
    """

    name: str
    dram_gb: float
    flash_gbps: float
    dram_gbps: float
    timing: str = "overlap"
    source: str = ""
    title: str = ""
    flash_read_kib: float = 64

    def __post_init__(self) -> None:
        for field in ("dram_gb", "flash_gbps", "dram_gbps", "flash_read_kib"):
            check_number(f"device {self.name!r}", field, getattr(self, field), 0, strict=True)
        check_timing(self.timing)

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the presets, in the order of devices.yaml."""
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
        return asdict(self)

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
    text = Path(__file__).with_name("devices.yaml").read_text(encoding="utf-8")
    return {name: {"name": name, **fields} for name, fields in yaml.safe_load(text).items()}
