"""A row of the results table as a typed value, and the names it goes by on a page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from reports.findings.parameters import parameters_of, variant_of
from reports.results import DENSE, STDERR, Row


@dataclass(frozen=True, slots=True)
class Setting:
    """What must be equal for two points to be compared: weights, measurement and device."""

    model: str
    quant: str
    text: str
    windows: float
    window_tokens: float
    dtype: str
    device: str
    dram_gb: float
    flash_gbps: float
    dram_gbps: float
    timing: str
    cache_start: str
    cache_scope: str
    context: float = -1.0  # tokens of the KV cache; older tables do not say
    dense_tokens: float = 0.0  # at the start of a window, which no method pruned
    model_title: str = field(default="", compare=False)
    text_title: str = field(default="", compare=False)

    @property
    def weights(self) -> tuple[str, str]:
        return self.model, self.quant


@dataclass(frozen=True, slots=True)
class Point:
    """One point. Figures that were not measured are NaN, texts that are absent are empty."""

    point_key: str
    setting: Setting
    series: str  # method with its selector: `dip`, `dip-ca`; the unit of a frontier
    plain: str  # the series of the method with its own selector
    cache_aware: bool
    bound: bool  # needs to know the future, so it bounds what can be reached
    method: str
    selector: str
    allocation: str
    pattern: str  # of static pruning: unstructured, 2:4, 4:8; empty for other methods
    policy: str
    policy_offline: bool  # the policy knows the future
    policy_rank: int  # its place from the simplest on
    density: float
    mlp_density: float
    gamma: float
    cache_fraction: float
    ppl: float
    ppl_dense: float
    delta_ppl: float
    delta_ppl_low: float
    delta_ppl_high: float
    hit_rate: float
    flash_bytes_per_token: float
    dram_bytes_per_token: float
    tokens_per_s: float
    tokens_per_s_dense: float
    overhead_bytes: float
    reads_per_token: float
    mean_read_bytes: float
    status: str
    error: str
    ppl_ratio_low: float = math.nan
    ppl_ratio_high: float = math.nan  # ends of the interval of ppl over ppl_dense
    windows: float = math.nan  # measured ones; those of the setting are what was asked for
    variant: str = ""  # what parameters say beside: `attention 0.5`, `shares greedy`
    kl: float = math.nan
    kl_low: float = math.nan
    kl_high: float = math.nan
    flip_rate: float = math.nan
    flip_rate_low: float = math.nan
    flip_rate_high: float = math.nan
    linear_density: float = math.nan
    tokens_per_s_paper: float = math.nan  # if a read cost its bytes alone, where it costs more
    wasted: float = math.nan  # share of the bytes read that no mask asked for
    chunk: float = math.nan  # neighbouring units read as one
    layout: str = ""  # order of the units in Flash
    preload_layers: float = math.nan  # that are read ahead together
    lam: float = math.nan  # price of a second of reads, in place of a density
    cache_shares: str = ""  # what each group gets of the caches' bytes; empty: alike
    energy_j_low: float = math.nan
    energy_j_high: float = math.nan
    lost_accuracy: tuple[tuple[str, float, float], ...] = ()
    """Of each task: how much of the dense model's accuracy is lost, and its standard error."""

    @property
    def measured(self) -> bool:
        """Both figures of the trade-off are there."""
        return (
            self.status in ("done", "partial")
            and math.isfinite(self.delta_ppl)
            and math.isfinite(self.tokens_per_s)
        )

    @property
    def dense(self) -> bool:
        return self.method == "dense"

    @property
    def told(self) -> str:
        """What of a method's parameters tells rows of it apart, less the allocation."""
        return " · ".join(part for part in (self.pattern, self.variant) if part)

    @property
    def gain(self) -> float:
        """Throughput over the dense model's on the same device."""
        return self.tokens_per_s / self.tokens_per_s_dense if self.tokens_per_s_dense else math.nan


_TEXTS = (
    *("point_key", "series", "method", "selector", "allocation", "policy", "status", "error"),
    *("layout", "cache_shares"),
)
_NUMBERS = (
    *("density", "mlp_density", "gamma", "cache_fraction", "ppl", "ppl_dense"),
    *("delta_ppl", "delta_ppl_low", "delta_ppl_high", "hit_rate"),
    *("flash_bytes_per_token", "dram_bytes_per_token", "tokens_per_s", "tokens_per_s_dense"),
    *("overhead_bytes", "ppl_ratio_low", "ppl_ratio_high", "windows"),
    *("reads_per_token", "mean_read_bytes", "linear_density"),
    *("tokens_per_s_paper", "wasted", "chunk", "lam", "preload_layers"),
    *("kl", "kl_low", "kl_high", "flip_rate", "flip_rate_low", "flip_rate_high"),
    *("energy_j_low", "energy_j_high"),
)
ABSENT_NUMBER = -1.0
"""Stands for a number of a setting that its row does not have: NaN is not equal to itself."""
_SETTING_NUMBERS = (
    *("windows", "window_tokens", "dram_gb", "flash_gbps", "dram_gbps"),
    *("context", "dense_tokens"),
)
_OLDER = {"dense_tokens": 0.0}
"""What older runs did not say of a setting, where it is known."""


def points(rows: Iterable[Row]) -> list[Point]:
    """One Point for each row, in the order of the rows, which have the columns of facts.

    A point that older runs did not measure lacks its windows: it takes those of the points that it
    would have been compared with, so that a failure is a row and no setting of its own.
    """
    shared: dict[Setting, Setting] = {}
    listed = [_point(row, shared) for row in rows]
    whole: dict[Setting, Setting] = {}
    for setting in shared:
        if setting.windows != ABSENT_NUMBER:
            whole.setdefault(_without_windows(setting), setting)
    homes = {s: whole.get(s, s) for s in shared if s.windows == ABSENT_NUMBER}
    return [replace(p, setting=homes[p.setting]) if p.setting in homes else p for p in listed]


def _without_windows(setting: Setting) -> Setting:
    return replace(setting, windows=ABSENT_NUMBER)


def _point(row: Row, shared: dict[Setting, Setting]) -> Point:
    setting = _setting(row)
    figures: dict[str, Any] = {name: text(row.get(name)) for name in _TEXTS}
    figures |= {name: number(row.get(name)) for name in _NUMBERS}
    return Point(
        setting=shared.setdefault(setting, setting),
        plain=text(row.get("method")),
        cache_aware=row.get("selector") == "cache-aware" and row.get("swaps") is None,
        bound=bool(row["bound"]),
        policy_offline=bool(row["policy_offline"]),
        policy_rank=int(row["policy_rank"]),
        pattern=text(parameters_of(text(row.get("parameters"))).get("pattern")),
        variant=_variant(figures, text(row.get("parameters"))),
        lost_accuracy=tuple(_lost_accuracy(row)),
        **figures,
    )


def _variant(figures: Row, parameters: str) -> str:
    """What parameters say, and the price of reads where that takes the place of a density."""
    priced = math.isnan(figures["density"]) and math.isfinite(figures["lam"])
    words = variant_of(figures["method"], parameters), f"λ {figures['lam']:g}" if priced else ""
    return " · ".join(filter(None, words))


def _lost_accuracy(row: Row) -> Iterator[tuple[str, float, float]]:
    """By task; the errors of the two models are taken as independent and alike."""
    for column in row:
        if column.startswith("acc_") and column.endswith(DENSE):
            task = column.removesuffix(DENSE)
            own, stderr = number(row.get(task)), number(row.get(f"{task}{STDERR}"))
            yield task, number(row[column]) - own, math.sqrt(2) * stderr


def _setting(row: Row) -> Setting:
    values: dict[str, Any] = {
        name: number(row.get(name), _OLDER.get(name, ABSENT_NUMBER))
        if name in _SETTING_NUMBERS
        else text(row.get(name))
        for name in Setting.__dataclass_fields__
    }
    values["model_title"] = values["model_title"] or short_name(values["model"])
    values["text_title"] = values["text_title"] or short_name(values["text"])
    values["windows"] = number(row.get("windows_asked"), values["windows"])
    return Setting(**values)


def short_name(name: str) -> str:
    """The last part of what is a path on a machine; another name, such as a hub's id, as it is."""
    local = name.startswith(("/", "./", "../", "~")) or name.endswith((".gguf", ".txt"))
    return PurePath(name).name.removesuffix(".gguf") if local else name


def text(value: object) -> str:
    """A cell as text; None and NaN are empty."""
    return "" if value is None or value != value else str(value)


def number(value: Any, absent: float = math.nan) -> float:
    """A cell as a float; None and NaN are `absent`."""
    if value is None or value != value:
        return absent
    return float(value)


def by_setting(ungrouped: Iterable[Point]) -> dict[Setting, list[Point]]:
    """Points by setting; settings ordered by model, weights, device, DRAM, Flash, then the rest;
    those without a measured point come last."""
    groups: dict[Setting, list[Point]] = {}
    for point in ungrouped:
        groups.setdefault(point.setting, []).append(point)
    empty = {setting: not any(p.measured for p in members) for setting, members in groups.items()}
    ordered = sorted(groups, key=lambda setting: (empty[setting], *_setting_order(setting)))
    return {setting: groups[setting] for setting in ordered}


def _setting_order(setting: Setting) -> tuple[object, ...]:
    first = (setting.model, setting.quant, setting.device, setting.dram_gb, setting.flash_gbps)
    return (*first, *(getattr(setting, name) for name in Setting.__dataclass_fields__))


def by_series(ungrouped: Iterable[Point]) -> dict[str, list[Point]]:
    """Points by series, in order of name with dense first."""
    groups: dict[str, list[Point]] = {}
    for point in ungrouped:
        groups.setdefault(point.series, []).append(point)
    return {name: groups[name] for name in sorted(groups, key=lambda n: (n != "dense", n))}


def varying(settings: Sequence[Setting]) -> tuple[str, ...]:
    """The fields of a setting that tell `settings` apart, in the order of declaration."""
    fields = [name for name in Setting.__dataclass_fields__ if name not in _TITLES.values()]
    return tuple(f for f in fields if len({getattr(s, f) for s in settings}) > 1)


_TITLES = {"model": "model_title", "text": "text_title"}
"""Fields of a setting that name something, and what a reader sees in their place."""
_FORMS = {
    "windows": "{:g} windows",
    "window_tokens": "{:g} tokens a window",
    "dram_gb": "{:g} GB DRAM",
    "flash_gbps": "{:g} GB/s Flash",
    "dram_gbps": "{:g} GB/s DRAM",
    "timing": "{} timing",
    "cache_start": "{} start",
    "cache_scope": "{} scope",
    "context": "{:g} tokens of context",
    "dense_tokens": "first {:g} tokens dense",
    "text": "on {}",
}


def describe(setting: Setting, fields: Iterable[str]) -> str:
    """The named fields of a setting in words, joined by a middle dot."""
    values = {name: getattr(setting, _TITLES.get(name, name)) for name in fields}
    stated = {n: v for n, v in values.items() if v not in ("", ABSENT_NUMBER)}
    return " · ".join(_FORMS.get(name, "{}").format(value) for name, value in stated.items())


def device_label(setting: Setting, told_apart: Sequence[str] = ()) -> str:
    """Device, DRAM and Flash, then whatever else tells the settings of a report apart, and first
    tokens that were left dense, which no figure stands without."""
    told = ("model", "quant", "dense_tokens", *_DEVICE_FIELDS)
    extra = [f for f in told_apart if f not in told]
    label = describe(setting, (*_DEVICE_FIELDS, *extra))
    return " · ".join(part for part in (label, dense_start(setting)) if part)


def dense_start(setting: Setting) -> str:
    """`first 32 tokens dense`; empty where methods prune from the first token on."""
    return describe(setting, ("dense_tokens",)) if setting.dense_tokens else ""


_DEVICE_FIELDS = ("device", "dram_gb", "flash_gbps")


def weights_label(setting: Setting) -> str:
    """The model, and what was done to its weights where that is known."""
    return describe(setting, ("model", "quant"))


def setting_label(setting: Setting) -> str:
    """Weights and device of a setting in one line, without what tells others apart."""
    device = device_label(setting) if setting.device else dense_start(setting)
    return " · ".join(part for part in (weights_label(setting), device) if part)


def configuration(point: Point) -> str:
    """What to set to get this point: series, density, γ, parameters, allocation and policy."""
    if point.dense:
        return "dense"
    parts = [point.series]
    parts += [f"density {point.density:g}"] if math.isfinite(point.density) else []
    parts += [f"γ {point.gamma:g}"] if point.cache_aware else []
    parts += [f"chunks of {point.chunk:g}"] if point.chunk > 1 else []
    parts += [f"{point.layout} order"] if point.layout not in ("", "natural") else []
    ahead = point.preload_layers
    parts += [f"{ahead:g} layer{'s' * (ahead > 1)} ahead"] if ahead > 0 else []
    parts += [f"cache shares {point.cache_shares}"] if point.cache_shares else []
    parts += [point.told] if point.told else []
    parts += [point.allocation] if point.allocation not in ("", "none") else []
    parts += [point.policy] if point.policy not in ("", "none") else ["no cache"]
    return " · ".join(parts)
