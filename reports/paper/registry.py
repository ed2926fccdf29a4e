"""Every table and figure of the paper that carries data, with its generator and its sweeps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from reports.paper import activations, allocation, curves, field, tables
from reports.paper.exhibit import Exhibit
from reports.paper.published import MODELS
from reports.results import ReportError

_COMPARED = (
    *("dense", "glu-oracle", "sparsegpt unstructured", "sparsegpt 2:4", "sparsegpt 4:8"),
    *("up", "dejavu", "cats", "cats+lora", "dip", "dip+lora"),
)
_NO_NUMBERS = "the printed figure has no numbers, so the difference is not given"


def _accuracy(number: int, density: float, *twins: str) -> Exhibit:
    return Exhibit(
        f"table{number}",
        f"Perplexity and MMLU at {density:.0%} MLP density".replace("%", " %"),
        curves.maker(tables.accuracy_table, f"table{number}", density),
        (f"table{number}",),
        ("small-table1", *twins, "small-figure8"),
    )


def _speed(number: int, title: str, differs: str = "") -> Exhibit:
    name = f"table{number}"
    make = curves.maker(tables.speed_table, name)
    return Exhibit(name, title, make, (name,), ("small-table2",), differs)


EXHIBITS: tuple[Exhibit, ...] = (
    _accuracy(1, 0.5, "small-results"),
    _speed(2, "Throughput of four models with DRAM for half of each"),
    _accuracy(3, 0.6),
    _accuracy(4, 0.4),
    Exhibit(
        "table5",
        "Accuracy on reasoning and understanding tasks at 50 % MLP density",
        tables.task_table,
        ("table5",),
        ("small-table5",),
    ),
    _speed(6, "Throughput of Phi-3-Medium with three DRAM sizes"),
    _speed(7, "Throughput of Phi-3-Medium with three Flash read speeds"),
    Exhibit(
        "figure3",
        "Magnitudes of the GLU activations of a last layer, SwiGLU and ReLU",
        activations.histogram_figure,
        ("figure3",),
        ("small-figure4",),
        _NO_NUMBERS,
    ),
    Exhibit(
        "figure4",
        "Activation density of each layer under three ways to choose half",
        activations.threshold_figure,
        ("figure4",),
        ("small-figure4",),
        _NO_NUMBERS,
    ),
    Exhibit(
        "figure6",
        "Oracle against predicted GLU pruning, SwiGLU and ReLU",
        curves.oracle_figure,
        ("figure6",),
        ("small-figure6",),
        f"perplexity stands beside MMLU, which is drawn where it was measured; {_NO_NUMBERS}",
    ),
    Exhibit(
        "figure8",
        "Perplexity and MMLU over MLP density, Phi-3-Medium",
        curves.maker(curves.density_figure, ("phi-3-medium",), _COMPARED),
        ("figure8",),
        ("small-figure8",),
        "marks are the printed values of Tables 1, 3 and 4",
    ),
    Exhibit(
        "figure9",
        "DIP against and with quantisation and static pruning",
        curves.memory_figure,
        ("figure9",),
        ("small-figure9",),
        f"the abscissa is the bytes that a token uses; {_NO_NUMBERS}",
    ),
    Exhibit(
        "figure10",
        "Normalised GLU activations by percentile; throughput over γ",
        activations.distribution_figure,
        ("figure10",),
        ("small-figure10",),
        f"throughput at a perplexity is interpolated on the frontier of each γ; {_NO_NUMBERS}",
    ),
    Exhibit(
        "figure11",
        "Cache policies against cache-aware masks",
        curves.policy_figure,
        ("figure11",),
        ("demo",),
        _NO_NUMBERS,
    ),
    Exhibit(
        "figure12",
        "Allocation of the density between W_down and (W_up, W_gate)",
        allocation.allocation_figure,
        ("figure12",),
        ("allocation",),
        "both are studies; the published fit is the line of the default allocation, not read from"
        " the printed figure",
    ),
    Exhibit(
        "figure13",
        "Unequal densities of W_up and W_gate",
        allocation.split_figure,
        ("figure13",),
        ("small-figure13",),
        "perplexity is drawn over the difference of the two densities, and W_down has the density"
        f" of the MLP; {_NO_NUMBERS}",
    ),
    Exhibit(
        "figure14",
        "Perplexity and MMLU over MLP density, three models",
        curves.maker(curves.density_figure, tuple(MODELS)[1:], _COMPARED),
        ("figure14",),
        ("small-figure8",),
        "marks are the printed values of Tables 1, 3 and 4",
    ),
)


OTHERS: tuple[Exhibit, ...] = (
    Exhibit(
        "field",
        "What papers of other methods print, beside what was measured here",
        field.field_table,
        ("field-paper", "field-teal"),
        ("field",),
        "values of several papers, each under a protocol of its own",
    ),
)
"""What is asked for by name alone: no exhibit of the paper."""


def select(names: Iterable[str]) -> list[Exhibit]:
    """Exhibits by name, `all` for every one of the paper. Raises ReportError for an unknown one."""
    exhibits = {e.name: e for e in (*EXHIBITS, *OTHERS)}
    chosen: dict[str, Exhibit] = {}
    for name in names:
        if name == "all":
            chosen |= {e.name: e for e in EXHIBITS}
        elif name in exhibits:
            chosen[name] = exhibits[name]
        else:
            raise ReportError(_unknown(name, exhibits))
    return list(chosen.values())


def _unknown(name: str, exhibits: Iterable[str]) -> str:
    names = list(exhibits)
    near = difflib.get_close_matches(name.lower().replace(" ", ""), names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"unknown exhibit {name!r}{hint} (allowed: all, {', '.join(names)})"
