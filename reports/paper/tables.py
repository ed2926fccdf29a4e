"""Tables 1 to 7: the paper's rows and columns, its values beside ours, twins at the right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.findings.decisions import fastest
from reports.findings.points import Point, Setting
from reports.paper.exhibit import Cell, Line, Made, Sheet
from reports.paper.lookup import (
    accuracy,
    alike,
    all_at,
    at_density,
    error_notes,
    middle,
    of_model,
    row_name,
    text_notes,
    twin_models,
    unchanged,
)
from reports.paper.published import METHODS, MODELS, Published, printed
from reports.paper.source import Source

TASKS = {
    "arc_easy": "ARC (easy)",
    "arc_challenge": "ARC (challenge)",
    "boolq": "BoolQ",
    "hellaswag": "HellaSwag",
    "piqa": "PIQA",
    "winogrande": "Winogrande",
    "mgsm": "MGSM",
    "mmlu_pro": "MMLU-Pro",
}
_METRICS = {"ppl": "perplexity ↓", "mmlu": "MMLU ↑"}
REFERENCE_PPL = 4.29  # dense Phi-3-Medium: what makes an absolute budget a share for a twin


def accuracy_table(source: Source, exhibit: str, density: float) -> Made:
    """Tables 1, 3 and 4: perplexity and 5-shot MMLU of each method at one MLP density."""
    values, points = printed(exhibit), source.points
    methods = _rows(p.method for p in values.values())
    columns = [(metric, model) for metric in _METRICS for model in MODELS]
    columns += [(metric, twin) for twin in twin_models(points) for metric in _METRICS]
    by_model = {
        model: alike([p for n in methods for p in all_at(of_model(points, model), n, density)])
        for _, model in columns
    }
    used: list[Point] = []
    lines = []
    for name in methods:
        cells = []
        for metric, model in columns:
            point = at_density(by_model[model], name, density)
            used += [point] if point else []
            ours = _value(source, point, metric)
            cells.append(_cell(ours, values.get((model, name, metric, None, None)), model, point))
        lines.append(Line(METHODS[name], cells))
    shown = [k for k, column in enumerate(columns) if _worth(column[1], k, lines)]
    sheet = Sheet(
        f"Perplexity and MMLU at {density:.0%} MLP density".replace("%", " %"),
        [f"{MODELS.get(columns[k][1], columns[k][1])} {_METRICS[columns[k][0]]}" for k in shown],
        [columns[k][1] not in MODELS for k in shown],
        [Line(line.label, [line.cells[k] for k in shown]) for line in lines],
    )
    notes = [*text_notes(used), *error_notes(source, used, ["mmlu"])]
    return Made([sheet], notes=notes)


def _worth(model: str, column: int, lines: Sequence[Line]) -> bool:
    """A twin's column is shown only where it has a value."""
    return model in MODELS or any(line.cells[column] for line in lines)


def _rows(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _value(source: Source, point: Point | None, metric: str) -> float | None:
    if point is None:
        return None
    return point.ppl if metric == "ppl" else accuracy(source, point, metric)


def _cell(
    ours: float | None, value: Published | None, model: str, point: Point | None
) -> Cell | None:
    if ours is None:
        return None if value is None else Cell("printed", None, value)
    return Cell("measured" if model in MODELS else "twin", ours, value, point=point)


def task_table(source: Source) -> Made:
    """Table 5: accuracy on reasoning and understanding tasks at half of the MLP."""
    values, points = printed("table5"), source.points
    methods = _rows(p.method for p in values.values())
    used: list[Point] = []
    lines: list[Line] = []
    for model in [*MODELS, *twin_models(points)]:
        block = []
        for name in methods:
            point = at_density(of_model(points, model), name, 0.5)
            cells = [
                _cell(
                    _value(source, point, task),
                    values.get((model, name, task, None, None)),
                    model,
                    point,
                )
                for task in TASKS
            ]
            if any(cells):
                block.append(Line(METHODS[name], cells))
                used += [point] if point else []
        if block:
            twin = "" if model in MODELS else " (twin)"
            lines += [Line(MODELS.get(model, model) + twin), *block]
    sheet = Sheet("Accuracy at 50 % MLP density", list(TASKS.values()), [False] * 8, lines)
    return Made([sheet], notes=error_notes(source, used, TASKS))


@dataclass(frozen=True, slots=True)
class Place:
    """A column of a throughput table: a model on a device."""

    model: str
    dram_gb: float
    flash_gbps: float
    varied: float | None
    label: str

    @property
    def twin(self) -> bool:
        return self.model not in MODELS


def speed_table(source: Source, exhibit: str) -> Made:
    """Tables 2, 6 and 7: the fastest measured point within an increase of perplexity."""
    values, points = printed(exhibit), source.points
    names = _rows(p.method for p in values.values())
    cached = {_place(p) for p in points if p.policy == "lfu"}
    fitting = [p for p in points if _fits(p, names) and (p.policy != "none" or _alone(p, cached))]
    by_model = {model: alike(of_model(fitting, model)) for model in [*MODELS, *twin_models(points)]}
    source = Source(
        source.runs, source.computed, [p for members in by_model.values() for p in members]
    )
    points = source.points
    speeds = {key: p for key, p in values.items() if p.metric == "tokens_per_s"}
    places = [*_paper_places(speeds.values(), exhibit), *_twin_places(points, exhibit)]
    budgets = sorted({p.budget for p in speeds.values() if p.budget is not None})
    names = [name for name in names if name != "dense"]
    lines = [*_sizes(source, places, values, exhibit)]
    lines.append(Line("Dense", [_dense(source, place, speeds, exhibit) for place in places]))
    used: list[Point] = []
    for budget in budgets:
        lines += [Line(f"Throughput [tok/s] @ +{budget:g} PPL")] if exhibit == "table2" else []
        for name in names:
            cells = [_best(source, place, name, budget, speeds, exhibit) for place in places]
            used += [cell.point for cell in cells if cell and cell.point]
            lines.append(Line(METHODS[name], cells))
    title = {"table2": "four models", "table6": "DRAM sizes", "table7": "Flash read speeds"}
    sheet = Sheet(
        f"Throughput, {title[exhibit]}",
        [place.label for place in places],
        [place.twin for place in places],
        lines,
    )
    return Made([sheet], notes=[*text_notes(used), *_budget_note(places, budgets)])


def _paper_places(speeds: Iterable[Published], exhibit: str) -> Iterator[Place]:
    seen = set()
    for p in speeds:
        dram, flash = p.dram_gb or 0.0, p.flash_gbps or 0.0
        if (p.model, dram, flash) in seen:
            continue
        seen.add((p.model, dram, flash))
        label = {"table2": MODELS[p.model], "table6": f"{dram:g} GB", "table7": f"{flash:g} GB/s"}
        yield Place(p.model, dram, flash, flash if exhibit == "table7" else dram, label[exhibit])


def _twin_places(points: Sequence[Point], exhibit: str) -> Iterator[Place]:
    """For each twin the devices that are laid out like the paper's."""
    for model in twin_models(points):
        devices = _fullest(of_model(points, model))
        if not devices:
            continue
        drams, flashes = {dram for dram, _ in devices}, {flash for _, flash in devices}
        if exhibit == "table6":
            flashes = {middle(flashes)}
        elif exhibit == "table7":
            drams = {middle(drams)}
        else:
            drams, flashes = {middle(drams)}, {middle(flashes)}
        for dram in sorted(drams):
            for flash in sorted(flashes):
                yield Place(model, dram, flash, None, f"{model} {dram:g} GB, {flash:g} GB/s")


def _fullest(points: Iterable[Point]) -> list[tuple[float, float]]:
    """(DRAM, Flash) of the devices on which the most rows were measured."""
    rows: dict[tuple[float, float], set[str]] = {}
    for p in points:
        if p.measured and not p.dense:
            device = p.setting.dram_gb, p.setting.flash_gbps
            rows.setdefault(device, set()).add(row_name(p))
    most = max((len(names) for names in rows.values()), default=0)
    return [device for device, names in rows.items() if len(names) == most]


def _place(p: Point) -> tuple[Setting, str]:
    return p.setting, p.series


def _alone(p: Point, cached: set[tuple[Setting, str]]) -> bool:
    """Whether a point without a cache stands for LFU: dense, or no cache had room for a unit."""
    return p.dense or _place(p) not in cached


def _fits(p: Point, names: Sequence[str]) -> bool:
    """Whether a point is of one of these rows, set up as in the paper: LFU, and γ of 0.2.
    Where no unit is cached a point has no policy."""
    return (
        row_name(p) in names
        and unchanged(p)
        and (p.policy in ("lfu", "none") or p.dense)
        and p.allocation in ("", "paper")
        and (not p.cache_aware or p.gamma == 0.2)
    )


def _at(source: Source, place: Place, name: str) -> list[Point]:
    device = place.dram_gb, place.flash_gbps
    return [
        p
        for p in of_model(source.points, place.model)
        if row_name(p) == name and (p.setting.dram_gb, p.setting.flash_gbps) == device
    ]


def _dense(
    source: Source, place: Place, speeds: dict[tuple, Published], exhibit: str
) -> Cell | None:
    value = speeds.get((place.model, "dense", "tokens_per_s", None, place.varied))
    points = [p for p in _at(source, place, "dense") if p.measured]
    if points:
        return _cell(points[0].tokens_per_s, value, place.model, points[0])
    return _computed(source, place, "dense", value, exhibit)


def _best(
    source: Source,
    place: Place,
    name: str,
    budget: float,
    speeds: dict[tuple, Published],
    exhibit: str,
) -> Cell | None:
    value = speeds.get((place.model, name, "tokens_per_s", budget, place.varied))
    points = [p for p in _at(source, place, name) if p.measured]
    if not points:
        return _computed(source, place, name, value, exhibit)
    limit = points[0].ppl_dense * budget / REFERENCE_PPL if place.twin else budget
    point = fastest(points, limit)
    return _cell(point.tokens_per_s if point else None, value, place.model, point)


def _computed(
    source: Source, place: Place, name: str, value: Published | None, exhibit: str
) -> Cell | None:
    """The value that follows from geometry, where one is known and belongs to this cell."""
    key = (exhibit, place.model, name, place.dram_gb, place.flash_gbps)
    if value is None:
        return None
    if key in source.computed:
        return Cell("geometry", source.computed[key], value)
    return Cell("printed", None, value)


def _sizes(
    source: Source, places: Sequence[Place], values: dict[tuple, Published], exhibit: str
) -> Iterator[Line]:
    if exhibit != "table2":
        return
    cells: list[Cell | None] = []
    for place in places:
        value = values.get((place.model, "dense", "size_gb", None, None))
        ours = source.computed.get((exhibit, place.model, "size_gb", 0.0, 0.0))
        cells.append(Cell("geometry", ours, value, places=1) if ours is not None else None)
        if ours is None and value is not None:
            cells[-1] = Cell("printed", None, value, places=1)
    yield Line("Model size, GB", cells)


def _budget_note(places: Sequence[Place], budgets: Sequence[float]) -> Iterator[str]:
    if any(place.twin for place in places):
        shares = " and ".join(f"+{b:g} is +{b / REFERENCE_PPL:.1%}" for b in budgets)
        yield (
            "Twins are read at the same share of their dense perplexity as the budget is of"
            f" Phi-3-Medium's {REFERENCE_PPL}: {shares}".replace("%", " %")
        )
