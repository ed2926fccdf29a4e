"""Mixtures of experts on phones: published measurements beside what geometry alone predicts.

    python -m benchmarks.phones

writes docs/moe-phones.md. No weights are needed: bytes follow from sizes, the bits of the files
and, where a row has a cache, its published hit rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.results import table
from simulator import Device, FileBits, Geometry, PhaseCounts, Storage, footprint, throughput
from simulator.experts import GROUP, Experts

PAGE = Path(__file__).parents[1] / "docs" / "moe-phones.md"
MIB = 2**20
WITHIN = 0.03
"""Share by which a prediction from geometry alone may be off."""

Q4_0, Q4_K, Q5_0, Q6_K, Q8_0, MXFP4, F32 = 4.5, 4.5, 5.5, 6.5625, 8.5, 4.25, 32.0
"""Bits of a weight, scales included, of llama.cpp's types."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model with the bits of its file: of the experts' matrices, and of all else."""

    title: str
    geometry: Geometry
    bits: FileBits
    file: str


@dataclass(frozen=True, slots=True)
class Row:
    """A published measurement; `hit_rate` None is a run without a cache."""

    model: str
    chosen: int
    cache: str
    hit_rate: float | None
    mib_per_token: float
    tokens_per_s: float
    source: str


def more_bits(layers: int) -> float:
    """Share of layers in which llama.cpp's Q4_K_M gives W_down more bits."""
    eighth, last = layers // 8, 7 * layers // 8
    chosen = [i < eighth or i >= last or (i - eighth) % 3 == 2 for i in range(layers)]
    return sum(chosen) / layers


def _mixed(layers: int, usual: float, more: float) -> float:
    share = more_bits(layers)
    return (1 - share) * usual + share * more


def _sizes(name: str, experts: Experts, hidden: int, **others: int) -> Geometry:
    sizes = {"heads": 32, "kv_heads": 4, "head_dim": 128, "vocabulary": 151936} | others
    sizes |= {"layers": experts.layers, "hidden": hidden, "intermediate": experts.intermediate}
    return Geometry.load({"name": name, "experts": experts.to_mapping(), **sizes})


def _bits(down: float, experts: float = Q4_K, mixers: float = Q4_K) -> FileBits:
    return FileBits(mixers, experts, experts, down, Q4_K, head=Q6_K)


_QWEN3 = _sizes("Qwen3-30B-A3B", Experts(48, 128, 8, 768, router=128 * 2048), 2048)
MODELS: Mapping[str, Model] = {
    "Qwen3-30B-A3B": Model(
        "Qwen3-30B-A3B",
        _QWEN3,
        _bits(_mixed(48, Q4_K, Q6_K)),
        "Q4_K_M: W_gate and W_up at 4.5 bits, W_down at 4.5 and in half of the layers at 6.5625",
    ),
    "Qwen3-30B-A3B Q4_0": Model(
        "Qwen3-30B-A3B", _QWEN3, _bits(Q4_0, Q4_0, Q4_0), "Q4_0: 4.5 bits, the head at 6.5625"
    ),
    "gpt-oss-120b": Model(
        "gpt-oss-120b",
        _sizes("gpt-oss-120b", Experts(36, 128, 4, 2880, router=128 * 2880), 2880, kv_heads=8),
        _bits(MXFP4, MXFP4),
        "its experts stay MXFP4 at 4.25 bits; their biases, 0.1 %, are not counted",
    ),
    "Gemma-4-26B-A4B": Model(
        "Gemma-4-26B-A4B",
        _sizes("Gemma-4-26B-A4B", Experts(30, 128, 8, 704, router=128 * 2816), 2816),
        _bits(_mixed(30, Q5_0, Q8_0)),
        "Q4_K_M, whose blocks of 256 do not divide W_down's rows of 704: 5.5 and 8.5 bits there",
    ),
    "Qwen3.6-35B-A3B": Model(
        "Qwen3.6-35B-A3B",
        _sizes("Qwen3.6-35B-A3B", Experts(40, 256, 8, 512, router=256 * 2048), 2048),
        _bits(_mixed(40, Q4_K, Q6_K)),
        "Q4_K_M as above",
    ),
}

_BIG = "BigMoeOnEdge, a 12 GB phone, UFS 4.x"
_MERIDIAN = "Meridian, OnePlus 15R"
ROWS = (
    Row("Qwen3-30B-A3B", 8, "off", None, 1051, 1.7, _BIG),
    Row("gpt-oss-120b", 4, "off", None, 1817, 0.7, _BIG),
    Row("gpt-oss-120b", 2, "off", None, 909, 1.8, _BIG),
    Row("Gemma-4-26B-A4B", 8, "off", None, 904, 1.6, _BIG),
    Row("Qwen3-30B-A3B", 8, "2000 MiB", 0.53, 480, 2.4, _BIG),
    Row("Qwen3-30B-A3B", 8, "4000 MiB", 0.76, 225, 4.0, _BIG),
    Row("Qwen3-30B-A3B", 6, "4000 MiB", 0.77, 165, 5.0, _BIG),
    Row("gpt-oss-120b", 4, "2000 MiB", 0.27, 1292, 1.3, _BIG),
    Row("gpt-oss-120b", 2, "2000 MiB", 0.32, 590, 2.2, _BIG),
    Row("Gemma-4-26B-A4B", 8, "2000 MiB", 0.58, 366, 2.2, _BIG),
    Row("Gemma-4-26B-A4B", 8, "4000 MiB", 0.82, 144, 4.1, _BIG),
    Row("Qwen3.6-35B-A3B", 8, "2000 MiB", 0.56, 206, 4.3, _BIG),
    Row("Qwen3.6-35B-A3B", 8, "3000 MiB", 0.65, 144, 5.0, _BIG),
    Row("Qwen3.6-35B-A3B", 6, "3000 MiB", 0.68, 91, 5.8, _BIG),
    Row("Qwen3-30B-A3B Q4_0", 8, "4 GB", 0.780, 193.8, 5.76, _MERIDIAN),
    Row("Qwen3-30B-A3B Q4_0", 8, "5 GB", 0.853, 119.8, 6.20, _MERIDIAN),
)


def expert_bytes(model: Model) -> float:
    """Bytes of one expert in the model's file."""
    return footprint(model.geometry, [GROUP], Storage(file=model.bits)).groups[GROUP].unit_bytes


def predicted_mib(row: Row) -> float:
    """MiB a token that a row reads: its experts, those that hit left out."""
    model = MODELS[row.model]
    experts = model.geometry.experts
    assert experts is not None
    missed = row.chosen * experts.layers * (1 - (row.hit_rate or 0.0))
    return missed * expert_bytes(model) / MIB


def error(row: Row) -> float:
    """Prediction over measurement, less 1."""
    return predicted_mib(row) / row.mib_per_token - 1


def active_megabytes(model: Model) -> float:
    """Bytes of all weights that a token uses, in 1e6: routers at 32 bits, of the embedding only
    the head."""
    geometry = model.geometry
    experts = geometry.experts
    assert experts is not None
    used = experts.chosen * experts.layers * expert_bytes(model)
    used += geometry.mixer_weights * model.bits.mixers / 8
    used += geometry.vocabulary * geometry.hidden * model.bits.head / 8
    return (used + experts.layers * experts.router * F32 / 8) / 1e6


def predicted_speed(row: Row, timing: str) -> float:
    """Tokens per second of a row on the measured phone, one read a missed expert."""
    model, device = MODELS[row.model], replace(Device.load("oneplus-15r"), dram_gb=12.0)
    experts = model.geometry.experts
    cost = device.read_cost()
    assert experts is not None
    assert cost is not None
    missed = row.chosen * (1 - (row.hit_rate or 0.0))
    phases = PhaseCounts.from_json(
        {"used": [float(row.chosen)], "missed": [missed], "count": [float(experts.layers)]}
    )
    size = expert_bytes(model)
    storage = Storage(file=model.bits, kv_tokens=256)
    plain = replace(device, flash=(), flash_gbps=size / cost(size) / 1e9)
    speed = throughput(model.geometry, plain, {GROUP: phases}, 1, storage, timing=timing)
    return speed.tokens_per_s


def report() -> str:
    """The page."""
    off = [row for row in ROWS if row.hit_rate is None]
    cached = [row for row in ROWS if row.hit_rate is not None]
    model = MODELS["Qwen3-30B-A3B Q4_0"]
    active, all_experts = active_megabytes(model), _all_experts(model)
    parts = [
        _ABOUT,
        "## Without a cache",
        _OFF.format(within=WITHIN, worst=max(abs(error(row)) for row in off)),
        _bytes_table(off),
        "\n".join(f"- {MODELS[name].title}: {MODELS[name].file}." for name in _named(off)),
        "## Figures beside them",
        table(
            ["figure", "published", "from geometry", "error"],
            [
                [
                    "Qwen3-30B-A3B, Q4_0, weights that a token uses",
                    "1,840 MB",
                    f"{active:,.0f} MB",
                    f"{active / 1840 - 1:+.1%}",
                ],
                [
                    "its share of experts in a cache of 5 GB",
                    "30.7 %",
                    f"{5e9 / all_experts:.1%}",
                    f"{5e9 / all_experts / 0.307 - 1:+.1%}",
                ],
            ],
        ),
        "## With a cache",
        _CACHED,
        _bytes_table(cached),
        "## Tokens per second",
        _SPEED,
        _speed_table([row for row in ROWS if row.source == _MERIDIAN]),
    ]
    return "\n\n".join(parts)


def _all_experts(model: Model) -> float:
    return footprint(model.geometry, [GROUP], Storage(file=model.bits)).pruned_bytes


def _named(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.model for row in rows))


def _bytes_table(rows: list[Row]) -> str:
    columns = ["model", "k", "cache", "hits", "measured MiB/token", "predicted", "error", "source"]
    lines = []
    for row in rows:
        hits = "–" if row.hit_rate is None else f"{row.hit_rate:.1%}"
        figures = [f"{row.mib_per_token:,.6g}", f"{predicted_mib(row):,.0f}", f"{error(row):+.1%}"]
        lines.append([row.model, str(row.chosen), row.cache, hits, *figures, row.source])
    return table(columns, lines)


def _speed_table(rows: list[Row]) -> str:
    columns = ["cache", "hits", "measured tok/s", "reads and work at once", "error", "in turn"]
    columns += ["error"]
    lines = []
    for row in rows:
        figures = []
        for timing in ("overlap", "serial"):
            speed = predicted_speed(row, timing)
            figures += [f"{speed:.2f}", f"{speed / row.tokens_per_s - 1:+.0%}"]
        lines.append([row.cache, f"{row.hit_rate:.1%}", f"{row.tokens_per_s:.2f}", *figures])
    return table(columns, lines)


_ABOUT = """# Mixtures of experts on phones: measured, and from geometry alone

Written by `python -m benchmarks.phones`. Measurements are those that engines have published;
nothing was measured here. Predictions need no weights: sizes are those of each config.json, bits
those of llama.cpp's types in the file that the source names, and where a row has a cache its hit
rate is the published one."""
_OFF = """A token reads the k experts of every layer, each time anew. The largest error is
{worst:.1%}; {within:.0%} were allowed."""
_CACHED = """The prediction is k experts of every layer times the published share of misses: it
holds bytes against hit rates of one source, and none of these rows can be predicted without a
trace. All measured bytes are below the prediction, the more the larger the cache. Published hit
rates are whole percents, so at 82 % the bytes are known to 3 % only, and a source may count hits
and bytes over different tokens (a cache that begins empty misses more at first) or count an
expert's matrices one by one; which it is they do not say. Rows of Qwen3.6 are single runs of 96
tokens, by the source's own words not comparable to the others."""
_SPEED = """The OnePlus 15R has a device file with measured reads (`oneplus-15r`), so the two rows
of Meridian can be priced: one read an expert, at the throughput of reads of its size, eight in
flight; weights that are always used stay in DRAM; the processor takes 31 GB/s. Measured speeds
are below both predictions, and gain less from the larger cache: by these figures a token costs
some 60 ms that are neither reads nor weights at that rate (attention over the context, routing,
waiting between layers), and no published figure tells them apart."""


def main() -> None:
    """Write the page."""
    PAGE.write_text(report() + "\n", encoding="utf-8")
    print("written to", PAGE)


if __name__ == "__main__":
    main()
