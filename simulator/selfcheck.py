"""Every published figure that follows from geometry alone, computed again.

The published values are those of Federici et al. 2025 (arXiv 2412.01380): model sizes and dense
rows of Tables 2, 6 and 7, and rows of pruned methods whose density and hit rate are known
(SEMANTICS 5). `markdown` makes docs/selfcheck.md of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.device import Device
from simulator.footprint import footprint
from simulator.geometry import Geometry
from simulator.phases import PhaseCounts, uniform_reads
from simulator.throughput import throughput

_TITLES = {
    "phi-3-medium": "Phi-3-Medium",
    "phi-3-mini": "Phi-3-Mini",
    "llama-3-8b": "Llama-3-8B",
    "mistral-7b": "Mistral-7B",
}
# model, GB
_SIZES = (
    ("phi-3-medium", 7.40),
    ("phi-3-mini", 2.37),
    ("llama-3-8b", 4.26),
    ("mistral-7b", 3.86),
)
_SIZES_TABLE_2 = (
    ("phi-3-medium", 7.4),
    ("phi-3-mini", 2.4),
    ("llama-3-8b", 4.3),
    ("mistral-7b", 3.9),
)
# table, model, DRAM in GB, Flash in GB/s, tokens per second
_DENSE = (
    ("Table 2", "phi-3-medium", 4, 1, 0.29),
    ("Table 2", "phi-3-mini", 1.5, 1, 1.15),
    ("Table 2", "llama-3-8b", 2.5, 1, 0.57),
    ("Table 2", "mistral-7b", 2, 1, 0.54),
    ("Table 6", "phi-3-medium", 2, 1, 0.19),
    ("Table 6", "phi-3-medium", 4, 1, 0.29),
    ("Table 6", "phi-3-medium", 6, 1, 0.71),
    ("Table 7", "phi-3-medium", 4, 0.5, 0.15),
    ("Table 7", "phi-3-medium", 4, 1, 0.29),
    ("Table 7", "phi-3-medium", 4, 2, 0.59),
)
# table, DRAM in GB, Flash in GB/s, tokens per second; 36.6 % of W_down used, no cache
_GLU = (
    ("Table 6", 2, 1, 0.24),
    ("Table 6", 4, 1, 0.45),
    ("Table 7", 4, 0.5, 0.23),
    ("Table 7", 4, 2, 0.91),
)
# table, DRAM in GB, density, hit rate, tokens per second
_DIP_CA = (
    ("Table 6", 2, 0.61, 0.08, 0.31),
    ("Table 6", 4, 0.66, 0.53, 0.56),
    ("Table 6", 6, 0.78, 0.89, 1.94),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Which cell of the paper's tables a figure is: `method` is `size` for the size of a model."""

    table: str
    model: str
    method: str
    dram_gb: float = 0
    flash_gbps: float = 0


@dataclass(frozen=True, slots=True)
class Check:
    """One published figure beside ours; `equal` when they agree in the digits printed."""

    what: str
    where: str
    computed: float
    published: float
    printed_digits: int
    cell: Cell

    @property
    def equal(self) -> bool:
        """Whether the computed value, rounded to the printed digits, is the published one."""
        return self.computed_text == self.published_text

    @property
    def computed_text(self) -> str:
        """The computed value with the digits that were printed."""
        return f"{self.computed:.{self.printed_digits}f}"

    @property
    def published_text(self) -> str:
        """The published value as it was printed."""
        return f"{self.published:.{self.printed_digits}f}"


def rows() -> list[Check]:
    """All checks, in the order of the tables."""
    return [*_sizes(), *_dense(), *_glu(), *_dip_ca()]


def _sizes() -> Iterable[Check]:
    for where, digits, cells in (("stated to 2 digits", 2, _SIZES), ("Table 2", 1, _SIZES_TABLE_2)):
        for model, gigabytes in cells:
            total = footprint(Geometry.load(model), []).total_bytes / 1e9
            cell = Cell(where, model, "size")
            yield Check(f"{_TITLES[model]}: size, GB", where, total, gigabytes, digits, cell)


def _dense() -> Iterable[Check]:
    for where, model, dram, flash, published in _DENSE:
        speed = _speed(model, dram, flash, {})
        cell = Cell(where, model, "dense", dram, flash)
        yield Check(_what(model, "dense", dram, flash), where, speed, published, 2, cell)


def _glu() -> Iterable[Check]:
    reads = {"intermediate": uniform_reads(0.366, 0, 17920, 40)}
    for where, dram, flash, published in _GLU:
        what = _what("phi-3-medium", "GLU pruning, 36.6 % of W_down, no cache", dram, flash)
        speed, cell = _speed("phi-3-medium", dram, flash, reads), _cell(where, "glu", dram, flash)
        yield Check(what, where, speed, published, 2, cell)


def _dip_ca() -> Iterable[Check]:
    sizes = {"input": 5120, "intermediate": 17920}
    for where, dram, density, hit_rate, published in _DIP_CA:
        reads = {g: uniform_reads(density, hit_rate, units, 40) for g, units in sizes.items()}
        method = f"DIP-CA, density {density:g}, hit rate {hit_rate:.0%}"
        speed = _speed("phi-3-medium", dram, 1, reads)
        cell = _cell(where, "dip-ca", dram, 1)
        yield Check(_what("phi-3-medium", method, dram, 1), where, speed, published, 2, cell)


def _cell(table: str, method: str, dram: float, flash: float) -> Cell:
    return Cell(table, "phi-3-medium", method, dram, flash)


def _speed(model: str, dram: float, flash: float, reads: dict[str, PhaseCounts]) -> float:
    device = Device.load({"device": "apple-a18", "dram_gb": dram, "flash_gbps": flash})
    return throughput(Geometry.load(model), device, reads, 1).tokens_per_s


def _what(model: str, method: str, dram: float, flash: float) -> str:
    return f"{_TITLES[model]}: {method}, {dram:g} GB DRAM, {flash:g} GB/s Flash, tok/s"


def markdown() -> str:
    """The page docs/selfcheck.md."""
    checks = rows()
    agree = sum(row.equal for row in checks)
    lines = [
        "# Published figures, computed again",
        "",
        "Generated by `python -m simulator.selfcheck`; `sweep selfcheck` prints the same table.",
        "These are all figures of Federici et al. 2025 that need no weights: they follow from the",
        "sizes of a model, 4-bit weights with one 16-bit scale per 128, 4-bit embeddings, an 8-bit",
        "KV cache of 2048 tokens, and the two bandwidths of a device (DRAM 60 GB/s).",
        "",
        f"**{agree} of {len(checks)} agree in every printed digit.**",
        "",
        "| figure | where | computed | published | equal |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row.what} | {row.where} | {row.computed_text} ({row.computed:.4f}) "
        f"| {row.published_text} | {'yes' if row.equal else '**no**'} |"
        for row in checks
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
