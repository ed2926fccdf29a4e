"""Exhibits of the paper: its printed values, what is found for a cell, and what is drawn."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import reports
from reports.paper import activations, allocation, tables, write
from reports.paper.curves import used_bytes
from reports.paper.exhibit import Cell, Exhibit, Line, Made, Sheet
from reports.paper.published import METHODS, MODELS, published
from reports.paper.registry import EXHIBITS, select
from reports.paper.source import Magnitudes, Source, read_run
from reports.paper.summary import page
from tests.reports import synthetic

PAPER_PPL = {"dense": 4.31, "dip": 5.50, "up": 7.41, "sparsegpt": 5.6, "cats+lora": 5.5}
PAPER_PPL |= {"dip-split": 5.0, "gate": 7.41, "glu-oracle": 4.4}
COUNTS = {"table1": 96, "table2": 48, "table3": 80, "table4": 80, "table5": 192}
COUNTS |= {"table6": 15, "table7": 15}


def row(model: str, method: str, density: float, **changes: Any) -> dict[str, Any]:
    ppl = PAPER_PPL[method] + (4 * (1 - density) if method != "dense" else 0)
    made = {
        "sweep": "s",
        "model": model,
        "quant": "4 bit",
        "method": method,
        "selector": "layer-threshold" if method.startswith("cats") else "topk",
        "density": density,
        "mlp_density": density,
        "gamma": 1.0,
        "policy": "lfu",
        "device": "apple-a18",
        "dram_gb": 4.0,
        "flash_gbps": 1.0,
        "dram_gbps": 60.0,
        "ppl": ppl,
        "ppl_dense": PAPER_PPL["dense"],
        "delta_ppl": ppl - PAPER_PPL["dense"],
        "tokens_per_s": 0.3 / density,
        "tokens_per_s_dense": 0.3,
        "tokens": 1000,
        "static_bytes": 1e9,
        "status": "done",
        "text": "wikitext2",
        "windows": 141,
        "window_tokens": 2048,
        "dtype": "float32",
        "parameters": json.dumps({"pattern": "unstructured"} if method == "sparsegpt" else {}),
    }
    made |= changes
    key = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    return {**made, "point_key": key}


def source_of(folder: Path, rows: list[dict[str, Any]], **extra: Any) -> Source:
    run = synthetic.run_folder(folder, synthetic.to_table(rows))
    return Source([replace(read_run(run), **extra)])


def grid(model: str, **changes: Any) -> list[dict[str, Any]]:
    made = [row(model, "dense", 1.0, **changes)]
    for method in ("dip", "up", "cats+lora", "sparsegpt"):
        made += [row(model, method, d, **changes) for d in (0.4, 0.5, 0.6, 0.9)]
    return made


def cell(made: Made, line: str, column: str, part: int = 0) -> Cell | None:
    sheet = made.sheets[part]
    (found,) = [x for x in sheet.lines if x.label == line]
    return found.cells[list(sheet.columns).index(column)]


# -- the printed values ----------------------------------------------------------------------


def test_every_printed_value_is_there_once() -> None:
    found = published()
    assert {name: sum(p.exhibit == name for p in found) for name in COUNTS} == COUNTS
    where = [
        (p.exhibit, p.model, p.method, p.metric, p.density, p.budget, p.dram_gb, p.flash_gbps)
        for p in found
    ]
    assert len(set(where)) == len(found)
    assert {p.model for p in found} == set(MODELS)
    assert {p.method for p in found} <= set(METHODS)


def test_printed_values_agree_where_tables_repeat_them() -> None:
    """The dense rows of Tables 1, 3 and 4, and the 4 GB, 1 GB/s, +0.5 cells of 2, 6 and 7."""
    found = published()
    for name in ("table3", "table4"):
        dense = {
            (p.model, p.metric): p.text for p in found if p.exhibit == name and p.method == "dense"
        }
        assert dense == {
            (p.model, p.metric): p.text
            for p in found
            if p.exhibit == "table1" and p.method == "dense"
        }
    middle = [
        {
            (p.method, p.budget): p.value
            for p in found
            if p.exhibit == name
            and (p.model, p.dram_gb, p.flash_gbps) == ("phi-3-medium", 4, 1)
            and p.budget in (None, 0.5)
        }
        for name in ("table2", "table6", "table7")
    ]
    assert middle[1] == middle[2]
    assert middle[1].items() <= middle[0].items()


def test_spot_values_of_each_table() -> None:
    spots = [
        ("table1", "llama-3-8b", "sparsegpt 4:8", "ppl", "8.64"),
        ("table3", "mistral-7b", "dip+lora", "mmlu", "61.50"),
        ("table4", "llama-3-8b", "gate", "ppl", ">1000"),
        ("table5", "phi-3-mini", "dejavu", "hellaswag", "43.74"),
        ("table7", "phi-3-medium", "dip-ca", "tokens_per_s", "1.09"),
    ]
    for exhibit, model, method, metric, text in spots:
        texts = {
            p.text
            for p in published()
            if (p.exhibit, p.model, p.method, p.metric) == (exhibit, model, method, metric)
        }
        assert text in texts


# -- tables ----------------------------------------------------------------------------------


def test_a_measured_value_stands_beside_the_printed_one(tmp_path: Path) -> None:
    source = source_of(tmp_path / "r", grid("phi-3-medium") + grid("small", text="wiki"))
    made = tables.accuracy_table(source, "table1", 0.5)
    ours = cell(made, "DIP", "Phi3Med perplexity ↓")
    assert ours is not None
    assert (ours.how, ours.ours, ours.published and ours.published.value) == ("measured", 7.5, 5.52)
    assert ours.difference == pytest.approx(1.98)
    printed = cell(made, "DIP", "Llama8B perplexity ↓")
    assert printed is not None
    assert (printed.how, printed.ours) == ("printed", None)
    twin = cell(made, "DIP", "small perplexity ↓")
    assert twin is not None
    assert (twin.how, twin.ours, twin.published) == ("twin", 7.5, None)
    assert cell(made, "Gate Pruning", "small perplexity ↓") is None
    assert made.sheets[0].twins == [False] * 8 + [True]
    lora = cell(made, "CATS+LoRA", "Phi3Med perplexity ↓")
    assert lora is not None
    assert lora.ours == pytest.approx(7.5)


def test_a_bound_has_no_difference(tmp_path: Path) -> None:
    rows = [row("llama-3-8b", "gate", 0.4)]
    made = tables.accuracy_table(source_of(tmp_path / "r", rows), "table4", 0.4)
    found = cell(made, "Gate Pruning", "Llama8B perplexity ↓")
    assert found is not None
    assert (found.ours is not None, found.difference) == (True, None)
    assert write.cell_text(found) == "9.81 (&gt;1000, –)"


def test_quantised_weights_and_other_selectors_are_other_rows(tmp_path: Path) -> None:
    rows = [
        row("phi-3-medium", "dip", 0.5, quant="gptq 4 bit"),
        row("phi-3-medium", "dip", 0.5, selector="layer-threshold"),
        row("phi-3-medium", "dip", 0.5, allocation="uniform"),
        row("phi-3-medium", "dip", 0.5, status="failed"),
        row("phi-3-medium", "sparsegpt", 0.5, parameters='{"pattern": "2:4"}'),
    ]
    made = tables.accuracy_table(source_of(tmp_path / "r", rows), "table1", 0.5)
    hows = {line.label: line.cells[0].how for line in made.sheets[0].lines if line.cells[0]}
    assert {name for name, how in hows.items() if how == "measured"} == {"SparseGPT (2:4)"}


def test_the_fastest_within_the_budget_is_found(tmp_path: Path) -> None:
    """Against the definition, on the devices of Table 6."""
    rows = []
    for dram in (2.0, 4.0, 6.0):
        rows.append(row("phi-3-medium", "dense", 1.0, dram_gb=dram))
        for density in (0.5, 0.7, 0.8, 0.9):
            delta = 1.4 * (1 - density)
            rows.append(
                row("phi-3-medium", "up", density, dram_gb=dram, delta_ppl=delta)
                | {"tokens_per_s": dram * 0.1 / density}
            )
    made = tables.speed_table(source_of(tmp_path / "r", rows), "table6")
    for dram in (2.0, 4.0, 6.0):
        found = cell(made, "Up Pruning", f"{dram:g} GB")
        inside = [r for r in rows if r["method"] == "up" and r["dram_gb"] == dram]
        best = max(r["tokens_per_s"] for r in inside if r["delta_ppl"] <= 0.5)
        assert found is not None
        assert found.ours == best
        assert found.published is not None
    missing = cell(made, "DIP-CA", "2 GB")
    assert missing is not None
    assert missing.how == "printed"


def test_geometry_stands_in_only_where_nothing_was_measured(tmp_path: Path) -> None:
    computed = {("table6", "phi-3-medium", "dense", d, 1.0): d / 10 for d in (2.0, 4.0)}
    source = source_of(tmp_path / "r", [row("phi-3-medium", "dense", 1.0, dram_gb=4.0)])
    made = tables.speed_table(Source(source.runs, computed), "table6")
    hows = [c.how if c else None for c in made.sheets[0].lines[0].cells]
    assert hows == ["geometry", "measured", "printed"]
    assert write.cell_text(made.sheets[0].lines[0].cells[0]) == "0.20‡ (0.19, +0.01)"


def test_a_twin_is_read_at_the_same_share_of_its_perplexity(tmp_path: Path) -> None:
    rows = [row("small", "dense", 1.0)]
    rows += [
        row("small", "dip", d, selector="cache-aware", gamma=0.2, ppl_dense=42.9)
        | {"delta_ppl": 10 * (1 - d), "tokens_per_s": 1 / d}
        for d in (0.4, 0.6, 0.75, 0.9)
    ]
    made = tables.speed_table(source_of(tmp_path / "r", rows), "table2")
    column = "small 4 GB, 1 GB/s"
    found = [
        line.cells[list(made.sheets[0].columns).index(column)]
        for line in made.sheets[0].lines
        if line.label == "DIP-CA"
    ]
    assert [c.ours if c else None for c in found] == [1 / 0.9, 1 / 0.6]  # +2.0 and +5.0 perplexity
    assert "+0.2 is +4.7 %" in " ".join(made.notes)


def test_accuracies_of_tasks_are_in_per_cent(tmp_path: Path) -> None:
    results = synthetic.to_table([row("phi-3-mini", "dip", 0.5)])
    columns = (("acc_piqa", 0.7731), ("acc_piqa_stderr", 0.0105), ("acc_mmlu", math.nan))
    for name, value in (*columns, ("acc_mgsm_direct", 0.25)):
        results = results.append_column(name, [[value]])
    source = Source([read_run(synthetic.run_folder(tmp_path / "r", results))])
    made = tables.task_table(source)
    found = [c for _, _, column, c in made.cells() if column == "PIQA" and c.how == "measured"]
    assert [c.ours for c in found] == [pytest.approx(77.31)]
    assert made.count("measured") == 2
    assert made.count("printed") == 190
    assert made.notes == ["phi-3-mini: standard errors of accuracies up to 1.1 points"]


# -- figures ---------------------------------------------------------------------------------


def test_densities_are_drawn_with_the_printed_marks(tmp_path: Path) -> None:
    (figure,) = select(["figure8"])
    made = figure.make(source_of(tmp_path / "r", grid("phi-3-medium") + grid("small")))
    assert [p.title for p in made.panels] == ["Phi3Med", "small (twin)"]
    ours = next(c for c in made.panels[0].curves if c.name == "DIP")
    assert list(ours.xs) == [0.4, 0.5, 0.6, 0.9]
    printed = next(c for c in made.panels[0].curves if c.name == "DIP, printed")
    assert list(zip(printed.xs, printed.ys, strict=True)) == [(0.4, 6.5), (0.5, 5.52), (0.6, 4.85)]
    assert not any(c.how == "printed" for c in made.panels[1].curves)


def test_policies_are_drawn_on_one_device(tmp_path: Path) -> None:
    (figure,) = select(["figure11"])
    made = figure.make(Source([read_run(synthetic.run_folder(tmp_path / "r"))]))
    (panel,) = made.panels
    assert [c.name for c in panel.curves] == [
        *("DIP, No cache", "DIP, LRU", "DIP, LFU", "DIP, Belady (oracle)", "DIP-CA, LFU"),
    ]
    for curve in panel.curves:
        assert list(curve.xs) == sorted(curve.xs)
        assert list(curve.ys) == sorted(curve.ys)


def test_gammas_are_read_between_measured_points(tmp_path: Path) -> None:
    (figure,) = select(["figure10"])
    source = Source([read_run(synthetic.run_folder(tmp_path / "r"))])
    made = figure.make(source)
    (panel,) = made.panels
    speeds = [p.tokens_per_s for p in source.points if p.measured]
    for curve in panel.curves:
        assert set(curve.xs) <= {0.1, 0.2, 0.5, 1.0}
        assert min(speeds) <= min(curve.ys) <= max(curve.ys) <= max(speeds)


def test_memory_counts_static_and_used_bytes(tmp_path: Path) -> None:
    reads = {"input": {"used_by_layer": [2000, 4000], "unit_bytes": 5.0, "units": 10}}
    rows = [row("m", "dip", 0.5, reads=json.dumps(reads)), row("m", "dense", 1.0)]
    source = source_of(tmp_path / "r", rows)
    found = {p.method: used_bytes(source, p) for p in source.points}
    assert found == {"dip": 1e9 + 30.0, "dense": 1e9}


def test_thresholds_have_bands(tmp_path: Path) -> None:
    group = {"units": 10, "used_by_layer": [5000, 2000], "unit_bytes": 1.0}
    spread = {"used_least_by_layer": [1, 0], "used_most_by_layer": [9, 4]}
    spread["used_squares_by_layer"] = [26000, 4000]
    rows = [
        row("m", "glu-oracle", 0.5, reads=json.dumps({"neuron": group})),
        row("m", "glu-oracle", 0.5, selector="layer-threshold")
        | {"reads": json.dumps({"neuron": group | spread})},
    ]
    made = activations.threshold_figure(source_of(tmp_path / "r", rows))
    layer, top = (p.curves[0] for p in made.panels)
    assert list(layer.ys) == list(top.ys) == [0.5, 0.2]
    assert top.bands == ()
    assert layer.bands[0] == ([0.1, 0.0], [0.9, 0.4])
    assert layer.bands[1] == (pytest.approx([0.4, 0.2]), pytest.approx([0.6, 0.2]))


COUNTED = st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any)


@given(COUNTED)
def test_quantiles_and_shares_of_counted_activations(counts: list[int]) -> None:
    low = [0.0, *(1.3**k / 1e3 for k in range(len(counts) - 1))]
    high = [1.3**k / 1e3 for k in range(len(counts))]
    found = Magnitudes(low, high, [counts])
    every = [high[k] for k, n in enumerate(counts) for _ in range(n)]
    shares = [0.1, 0.5, 0.9]
    expected = [every[max(0, math.ceil(s * len(every) - 1e-9) - 1)] for s in shares]
    assert activations.quantiles(found, 0, shares) == expected
    edges, parts, zeros = activations.histogram(found, 0)
    assert sum(parts) + zeros == pytest.approx(1)
    assert zeros == counts[0] / sum(counts)
    assert edges == sorted(edges)


def test_trials_their_frontier_and_both_fits(tmp_path: Path) -> None:
    header = "setting,trial,state,feasible,input,intermediate,mlp_density,delta_ppl\n"
    lines = ["s,0,done,True,0.5,0.5,0.5,1.0", "s,1,done,True,0.6,0.3,0.5,0.8"]
    lines += [
        "s,2,done,True,0.9,0.9,0.9,0.1",
        "s,3,failed,False,0.9,0.2,,",
        "s,4,done,True,1,1,1,0",
    ]
    run = synthetic.run_folder(tmp_path / "r", synthetic.to_table([row("m", "dip", 0.5)]))
    (run / "trials.csv").write_text(header + "\n".join(lines))
    (run / "allocation.json").write_text('{"slope": 1.0, "intercept": 0.0, "text": "c4"}')
    made = allocation.allocation_figure(Source([read_run(run)]))
    trials, best, ours, paper = made.panels[0].curves
    assert len(trials.xs) == 4
    assert list(zip(best.xs, best.ys, strict=True)) == [(0.3, 0.6), (0.9, 0.9), (1.0, 1.0)]
    assert list(ours.xs) == pytest.approx(list(ours.ys))
    assert paper.how == "printed"
    assert allocation.input_density(allocation.PAPER_LINE, 0.5) == pytest.approx(0.574, abs=5e-4)


def test_unequal_densities_are_a_curve_for_each_size(tmp_path: Path) -> None:
    rows = [
        row("m", "dip-split", d, parameters=json.dumps({"lean": lean}), ppl=5 + lean**2 + 1 - d)
        for d in (0.5, 0.7)
        for lean in (0.2, -0.2, 0.0)
    ]
    (figure,) = select(["figure13"])
    (panel,) = figure.make(source_of(tmp_path / "r", rows)).panels
    assert [c.name for c in panel.curves] == ["MLP density 0.5", "MLP density 0.7"]
    assert list(panel.curves[0].xs) == [-0.2, 0.0, 0.2]
    assert list(panel.curves[0].ys) == pytest.approx([5.54, 5.5, 5.54])


# -- files -----------------------------------------------------------------------------------


def test_every_exhibit_of_the_paper_is_known() -> None:
    names = {e.name for e in EXHIBITS}
    figures = (3, 4, 6, 8, 9, 10, 11, 12, 13, 14)
    assert names == {f"table{n}" for n in range(1, 8)} | {f"figure{n}" for n in figures}


def test_all_exhibits_of_a_run_are_written(tmp_path: Path) -> None:
    run = read_run(synthetic.run_folder(tmp_path / "r"))
    names = ["table1", "table6", "figure8", "figure9"]
    drawn = write.build(select(names), Source([run]), tmp_path / "paper")
    for one in drawn:
        name = one.exhibit.name
        text = (tmp_path / "paper" / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {write.label(one.exhibit)}")
        for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            assert (tmp_path / "paper" / image).is_file()
        found = list(csv.DictReader(io.StringIO(write.numbers(one.exhibit, one.made))))
        curves = sum(len(c.xs) for p in one.made.panels for c in p.curves)
        assert len(found) == len(list(one.made.cells())) + curves
    assert (tmp_path / "paper" / "figure8.pdf").read_bytes().startswith(b"%PDF-")
    assert "Nothing of ours is drawn yet" in (tmp_path / "paper" / "figure9.md").read_text()
    text = page(drawn, Source([run]), "sweep report r", "images/")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["The runs", *(write.label(d.exhibit) for d in drawn)]
    assert "](images/figure8.svg)" in text


def test_names_in_exhibits_are_literal(tmp_path: Path) -> None:
    nasty = f"m {synthetic.NASTY}"
    exhibit = Exhibit("table1", "title", lambda source: Made())
    sheet = Sheet("s", [nasty], [True], [Line(nasty, [Cell("twin", 1.0)]), Line(nasty)])
    text = write.sheet_markdown(sheet)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    assert {t.type for t in inline} <= {"text", "strong_open", "strong_close", "text_special"}
    assert sum(nasty in t.content for t in tokens if t.children) == 0  # it is escaped, not raw
    shown = "".join(t.content for t in inline)
    assert shown.count(nasty) == 3
    written = write.latex(exhibit, Made([sheet]))
    for mark in ("<b>", "$x_1$", "& $"):
        assert mark not in written


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("figure5", "did you mean figure"),
        ("tabel2", "did you mean table2"),
        ("x", "allowed: all, "),
    ],
)
def test_an_exhibit_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(reports.ReportError, match=message):
        select([name])


def test_different_windows_never_share_a_column_or_a_curve(tmp_path: Path) -> None:
    """Three quick points on other windows stand aside for the many of one measurement."""
    quick = [row("small", m, 0.5, windows=2, ppl=99.0) for m in ("dip", "up", "sparsegpt")]
    source = source_of(tmp_path / "r", [*quick, *grid("small")])
    made = tables.accuracy_table(source, "table1", 0.5)
    found = [c.ours for *_, c in made.cells() if c.how == "twin"]
    assert len(found) == 5
    assert 99.0 not in found
    (figure,) = select(["figure8"])
    curves = figure.make(source).panels[0].curves
    assert all(99.0 not in c.ys for c in curves)
    assert made.notes == ["small: 141 windows of 2048 tokens of wikitext2, float32"]


def test_figure_9_compares_weights_by_what_a_token_uses_and_names_what_is_too_high(
    tmp_path: Path,
) -> None:
    sizes = {"gptq 2": 1.0, "gptq 3": 2.0, "gptq 4": 3.0, "rtn 4": 3.0}
    worse = {"gptq 2": 9000.0, "gptq 3": 8.0, "gptq 4": 5.0, "rtn 4": 6.0}
    rows = [
        row("small", "dense", 1.0, quant=f"{how} bit g128", static_bytes=gb * 1e9, ppl=worse[how])
        for how, gb in sizes.items()
    ]
    four = {"quant": "gptq 4 bit g128", "static_bytes": 2.5e9}
    rows += [row("small", "dip", 0.5, **four), row("small", "sparsegpt", 0.5, **four)]
    (figure,) = select(["figure9"])
    made = figure.make(source_of(tmp_path / "r", rows))
    (panel,) = made.panels
    drawn = {c.name: list(zip(c.xs, c.ys, strict=True)) for c in panel.curves}
    assert drawn["BQ"] == [(1.0, 9000.0), (2.0, 8.0), (3.0, 5.0)]
    assert drawn["RTN"] == [(3.0, 6.0)]
    assert {"BQ4 + DIP", "SparseGPT (unstructured) + BQ4"} < set(drawn)
    assert len({c.look or c.name for c in panel.curves}) == len(panel.curves)
    assert panel.heights == (4.5, 60.0)
    assert made.notes[1:] == ["above the top, with their perplexities: BQ at 1.000 GB (9e+03)"]
    rows[0]["ppl"] = 50.0
    lower = figure.make(source_of(tmp_path / "lower", rows))
    assert (lower.panels[0].heights, len(lower.notes)) == (None, 1)


def test_a_twin_is_shown_on_the_devices_with_the_most_rows(tmp_path: Path) -> None:
    aware = {"selector": "cache-aware", "gamma": 0.2}
    rows = [row("small", "dip", 0.7, dram_gb=d, **aware) for d in (1.0, 2.0, 3.0, 4.0)]
    rows += [row("small", "up", 0.7, dram_gb=d) for d in (1.0, 3.0, 4.0)]
    source = source_of(tmp_path / "r", rows)
    for exhibit, expected in (("table2", [3.0]), ("table6", [1.0, 3.0, 4.0]), ("table7", [3.0])):
        columns = tables.speed_table(source, exhibit).sheets[0].columns
        assert [c for c in columns if "small" in c] == [f"small {d:g} GB, 1 GB/s" for d in expected]


def test_a_run_of_another_purpose_takes_no_twins_place(tmp_path: Path) -> None:
    """Points of the exhibit's own sweeps and of the paper's models stay; where none is, all do."""
    made = {
        "other": [row("small", "dip", d, sweep="demo") for d in (0.4, 0.5, 0.6)],
        "twin": [row("small", "dip", 0.7, sweep="small-figure8")],
        "mine": [row("phi-3-medium", "dip", 0.5, sweep="mine")],
    }
    other, twin, mine = (source_of(tmp_path / n, rows).runs[0] for n, rows in made.items())
    (figure8,) = select(["figure8"])
    kept = figure8.of(Source([other, twin, mine])).points
    assert {p.point_key for p in kept} == {made[n][0]["point_key"] for n in ("twin", "mine")}
    assert len(figure8.of(Source([other, mine])).points) == 4
