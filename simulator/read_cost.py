"""What one read of Flash costs, by its size: a law of two numbers, or a measured table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import SimulatorError, check_number

Rows = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCost:
    """Seconds of a read by its bytes (docs/semantics.md, "Reads"); `cost(bytes)` works them out.

    `ReadCost(latency_us=110, gbps=2)` is the affine law `latency + bytes / throughput`; the paper's
    Flash is that of latency 0. `ReadCost.table(rows)` is measured throughput by size. A cost is
    that at one number of reads in flight: which, the device decides, and where several are in
    flight a read's cost is its share of their throughput. No bytes cost nothing.

    Of a table, `latency_us` and `gbps` are the affine law of its last two rows, which holds beyond
    them; that latency is below 0 where throughput falls there.
    """

    gbps: float
    latency_us: float = 0.0
    rows: Rows = ()

    def __post_init__(self) -> None:
        if self.rows:
            rows = _checked(self.rows)
            latency, slope = _law(rows[-2], rows[-1])
            object.__setattr__(self, "rows", rows)
            object.__setattr__(self, "latency_us", latency * 1e6)
            object.__setattr__(self, "gbps", 1e-9 / slope)
            return
        check_number("cost of a read", "latency_us", self.latency_us, 0, strict=False)
        check_number("cost of a read", "gbps", self.gbps, 0, strict=True)

    @classmethod
    def table(cls, rows: Iterable[Sequence[float]]) -> ReadCost:
        """The cost by a table of (bytes of a read, 1e9 bytes per second), smallest reads first.

        Between two rows throughput is interpolated in log-log; beyond the ends the affine law of
        the last two rows there holds (below the first row the first row's throughput, where that
        law would have a latency below 0). Raises SimulatorError for fewer than 2 rows, sizes that
        do not ascend, numbers that are not above 0, and a larger read that takes no more time.
        """
        return cls(gbps=1.0, rows=_two(rows))

    @property
    def affine(self) -> bool:
        """Whether it is the law of two numbers."""
        return not self.rows

    @property
    def affine_from(self) -> float:
        """The size in bytes from which on the law of `latency_us` and `gbps` holds."""
        return self.rows[-1][0] if self.rows else 0.0

    @overload
    def __call__(self, read_bytes: float) -> float: ...
    @overload
    def __call__(
        self, read_bytes: Sequence[float] | NDArray[np.generic]
    ) -> NDArray[np.float64]: ...
    def __call__(self, read_bytes: ArrayLike) -> float | NDArray[np.float64]:
        """Seconds of a read of so many bytes, for a number or an array of them."""
        sizes = np.asarray(read_bytes, np.float64)
        if not (sizes >= 0).all():
            raise SimulatorError("a read has a size that is not at least 0 bytes")
        seconds = self._by_table(sizes) if self.rows else self._by_law(sizes)
        seconds = np.where(sizes > 0, seconds, 0.0)
        return float(seconds) if sizes.ndim == 0 else seconds

    def _by_law(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.latency_us * 1e-6 + sizes / (self.gbps * 1e9)

    def _by_table(self, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.array(self.rows, np.float64)
        bounds, speeds = table[:, 0], table[:, 1]
        inside = np.clip(sizes, bounds[0], bounds[-1])
        speed = np.exp(np.interp(np.log(inside), np.log(bounds), np.log(speeds))) * 1e9
        latency, slope = _law(self.rows[0], self.rows[1])
        if latency < 0:
            latency, slope = 0.0, 1e-9 / self.rows[0][1]
        below, above = latency + slope * sizes, self._by_law(sizes)
        return np.where(
            sizes < bounds[0], below, np.where(sizes > bounds[-1], above, inside / speed)
        )


def _two(rows: Iterable[Sequence[float]]) -> Rows:
    try:
        pairs = tuple((size, speed) for size, speed in rows)
    except (TypeError, ValueError):
        raise SimulatorError("a table of reads has rows of [bytes, gbps]") from None
    return _checked(pairs)


def _checked(rows: Rows) -> Rows:
    if len(rows) < 2:
        raise SimulatorError(f"a table of reads has {len(rows)} rows; it must have at least 2")
    for size, speed in rows:
        check_number("table of reads", "size in bytes", size, 0, strict=True)
        check_number("table of reads", f"gbps at {size:g} bytes", speed, 0, strict=True)
    for (size, speed), (larger, its_speed) in pairwise(rows):
        if larger <= size:
            raise SimulatorError(
                f"table of reads: {larger:g} bytes come after {size:g}; sizes must ascend"
            )
        if not larger / its_speed > size / speed:
            raise SimulatorError(
                f"table of reads: a read of {larger:g} bytes at {its_speed:g} GB/s takes no more "
                f"time than one of {size:g} bytes at {speed:g} GB/s"
            )
    return tuple((float(size), float(speed)) for size, speed in rows)


def _law(row: tuple[float, float], following: tuple[float, float]) -> tuple[float, float]:
    """Latency in seconds and seconds per byte of the line through the times of two rows."""
    (size, speed), (larger, its_speed) = row, following
    time, its_time = size / speed * 1e-9, larger / its_speed * 1e-9
    slope = (its_time - time) / (larger - size)
    return time - slope * size, slope
