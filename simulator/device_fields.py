"""Fields of a device that are more than a number: tables of reads, intervals, cases of DRAM.

Each function takes a field as a file or a call has it, and returns it as a `Device` keeps it, in
tuples; what it returns it takes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from simulator.errors import SimulatorError, check_fields, check_number
from simulator.read_cost import ReadCost

Curves: TypeAlias = tuple[tuple[int, ReadCost], ...]
"""The table of reads for each measured number of reads in flight, ascending."""
Interval: TypeAlias = tuple[float, float]
Cases: TypeAlias = tuple[tuple[float, str], ...]
"""DRAM in 1e9 bytes, and where it was seen."""

_CASE = {"dram_gb", "source"}


def curves_of(device: str, flash: Any) -> Curves:
    """`{depth: {1: [[bytes, gbps], …], 8: …}}`; SimulatorError for what is no such table."""
    if isinstance(flash, tuple) or not flash:
        return cast(Curves, flash or ())
    if not isinstance(flash, Mapping):
        raise SimulatorError(f"device {device!r}: flash is {flash!r}; it must be {{depth: …}}")
    fields = cast("Mapping[str, Any]", flash)
    check_fields("flash of a device", fields, ["depth"])
    by_depth = cast("Mapping[Any, Any]", fields.get("depth"))
    if not isinstance(by_depth, Mapping) or not by_depth:
        raise SimulatorError(
            f"device {device!r}: flash.depth must hold, for each number of reads in flight, "
            "rows of [bytes, gbps]"
        )
    curves = {_depth(device, key): _table(device, key, rows) for key, rows in by_depth.items()}
    return tuple(sorted(curves.items(), key=lambda curve: curve[0]))


def curves_as_mapping(curves: Curves) -> dict[str, Any]:
    """The inverse of `curves_of`."""
    if not curves:
        return {}
    return {"depth": {depth: [list(row) for row in cost.rows] for depth, cost in curves}}


def cost_at(device: str, curves: Curves, io_depth: int) -> ReadCost:
    """The table of that number of reads in flight, or of the nearest measured one below it: more
    reads in flight are never taken to be faster than was measured. SimulatorError below all."""
    measured = [depth for depth, _ in curves]
    below = [cost for depth, cost in curves if depth <= io_depth]
    if not below:
        raise SimulatorError(
            f"device {device!r}: io_depth is {io_depth}, below every measured depth "
            f"({', '.join(map(str, measured))})"
        )
    return below[-1]


def interval_of(device: str, field: str, interval: Any) -> Interval | None:
    """`[low, high]`, both at least 0; None stays."""
    if interval is None:
        return None
    ends = cast("Sequence[Any]", interval if isinstance(interval, list | tuple) else ())
    if len(ends) != 2:
        raise SimulatorError(f"device {device!r}: {field} is {interval!r}; it must be [low, high]")
    low, high = ends
    check_number(f"device {device!r}", f"low of {field}", low, 0, strict=False)
    check_number(f"device {device!r}", f"high of {field}", high, low, strict=False)
    return low, high


def cases_of(device: str, cases: Any) -> Cases:
    """A list of `{dram_gb, source}`."""
    if isinstance(cases, tuple) or not cases:
        return cast(Cases, cases or ())
    pairs: list[tuple[float, str]] = []
    for case in cast("Sequence[Any]", cases):
        if not isinstance(case, dict) or set(cast("dict[str, Any]", case)) != _CASE:
            raise SimulatorError(
                f"device {device!r}: a case of dram_cases is {case!r}; it must be "
                "{dram_gb, source}"
            )
        gb, source = cast("dict[str, Any]", case)["dram_gb"], cast("dict[str, Any]", case)["source"]
        check_number(f"device {device!r}", "dram_gb of a case", gb, 0, strict=True)
        pairs.append((gb, str(source)))
    return tuple(pairs)


def _depth(device: str, key: Any) -> int:
    depth = int(key) if isinstance(key, str) and key.isdigit() else key
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
        raise SimulatorError(
            f"device {device!r}: flash.depth has {key!r}; reads in flight are at least 1"
        )
    return depth


def _table(device: str, depth: Any, rows: Any) -> ReadCost:
    try:
        return ReadCost.table(rows)
    except (SimulatorError, TypeError) as error:
        raise SimulatorError(f"device {device!r}, depth {depth}: {error}") from error
