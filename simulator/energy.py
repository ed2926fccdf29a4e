"""Joules of a token, as an interval (SEMANTICS 9)."""

from __future__ import annotations

from simulator.device import Device
from simulator.errors import check_number


def joules(
    device: Device, seconds: float, flash_bytes: float, dram_bytes: float
) -> tuple[float, float] | None:
    """The least and the most energy of what takes so long and moves so many bytes.

    `idle_w * seconds + e_flash * flash bytes + e_dram * (flash + dram bytes)`, with the ends of the
    device's nJ per byte: what comes from Flash goes through DRAM. None where the device does not
    say what a byte of both takes. Time hides in other time, energy does not: a read that overlaps
    with compute costs what it costs.
    """
    for name, value in (("seconds", seconds), ("Flash bytes", flash_bytes), ("bytes", dram_bytes)):
        check_number("energy", name, value, 0, strict=False)
    flash, dram = device.flash_nj_per_byte, device.dram_nj_per_byte
    if flash is None or dram is None:
        return None
    idle = device.idle_w * seconds
    low, high = (
        idle + (of_flash * flash_bytes + of_dram * (flash_bytes + dram_bytes)) * 1e-9
        for of_flash, of_dram in zip(flash, dram, strict=True)
    )
    return low, high
