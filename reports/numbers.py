"""How figures are written: one rule a quantity, the same on every page."""

from __future__ import annotations

import math

ABSENT = "–"


def fixed(value: float | None, places: int) -> str:
    """`value` with `places` decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return ABSENT
    written = f"{value:.{places}f}"
    return written.lstrip("-") if float(written) == 0 else written


def figure(value: float | None, digits: int = 3) -> str:
    """`value` with at least `digits` significant digits and no exponent; a dash for none."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 8)}f}"


def percent(value: float | None, places: int = 1) -> str:
    """A share as a percentage."""
    return (
        ABSENT if value is None or not math.isfinite(value) else f"{value:.{places}%}"[:-1] + " %"
    )


def megabytes(value: float | None) -> str:
    """Bytes as MB (1e6)."""
    return ABSENT if value is None or not math.isfinite(value) else f"{figure(value / 1e6)} MB"


def times(value: float | None) -> str:
    """A ratio: `1.42×`."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.2f}×"


def signed(value: float | None, places: int = 3) -> str:
    """A difference with its sign, true minus for negative; none where nothing of it is left."""
    if value is None or not math.isfinite(value):
        return ABSENT
    written = f"{value:+.{places}f}"
    if float(written) == 0:
        return "0" if value == 0 else written[1:]
    return written.replace("-", "−")


def duration(seconds: float | None) -> str:
    """`3 h 05 min`, `4 min 10 s` or `8.2 s`."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
