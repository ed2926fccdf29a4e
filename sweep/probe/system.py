"""What the system says of itself: free memory, processors, time stolen, what a folder lies on."""

from __future__ import annotations

import os
import platform
import threading
from contextlib import suppress
from pathlib import Path

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})
"""File systems that are memory; a read of theirs says nothing of storage."""
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_STAT = Path("/proc/stat")
_MOUNTS = Path("/proc/self/mountinfo")
_CPUS = Path("/proc/cpuinfo")
_THERMAL = Path("/sys/class/thermal")
_PROCESSOR_SENSORS = ("cpu", "x86_pkg", "soc", "acpitz")


def cpus() -> int:
    """Processors that this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> tuple[int, str]:
    """Bytes that a new application could have now, and where the figure is from."""
    figure = _available()
    if figure is None:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return pages // 2, "half of the memory: this system does not say what is free"
    limit = _cgroup_room()
    if limit is not None and limit < figure:
        return limit, "what the control group has left"
    return figure, "MemAvailable"


def _available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _cgroup_room() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
    except OSError:
        return None
    return max(int(limit) - int(used), 0) if limit.isdigit() else None


def stolen_seconds() -> float | None:
    """Processor seconds that the host of this virtual machine gave to others, since its start."""
    try:
        fields = _STAT.read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else None


def waited_seconds() -> float | None:
    """Seconds for which this thread could run and had no processor, since its start."""
    try:
        text = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text()
    except OSError:
        return None
    return int(text.split()[1]) / 1e9


def file_system(folder: Path) -> str:
    """The kind of file system of a folder, as ext4; empty where the system does not say."""
    try:
        device = folder.stat().st_dev
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number]
    return kinds[-1] if kinds else ""


def processor() -> str:
    """The processor's name, else its architecture."""
    try:
        lines = _CPUS.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def operating_system() -> str:
    return f"{platform.system()} {platform.release()}"


def temperature() -> tuple[float, str] | None:
    """Degrees Celsius of the hottest sensor of a processor, and its name; None without one.

    Zones of other names are left out: on phones some report the charge of the battery.
    """
    readings = []
    for zone in _THERMAL.glob("thermal_zone*"):
        with suppress(OSError, ValueError):
            name = (zone / "type").read_text().strip()
            degrees = int((zone / "temp").read_text()) / 1000
            if name.lower().startswith(_PROCESSOR_SENSORS) and 0 < degrees < 150:
                readings.append((degrees, name))
    return max(readings, default=None)
