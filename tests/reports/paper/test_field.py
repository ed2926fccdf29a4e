"""Published values of other papers: what is printed, and what of ours may stand beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import reports
from reports.paper import field
from reports.paper.exhibit import Cell, Made
from reports.paper.field import field_table, values
from reports.paper.field_sources import SOURCES
from reports.paper.registry import EXHIBITS, select
from reports.paper.write import build, label
from tests.reports.paper.test_paper import row as paper_row
from tests.reports.paper.test_paper import source_of


def row(model: str, method: str, density: float, ppl: float, **parameters: Any) -> dict[str, Any]:
    given = {"attention": "same", "shares": "uniform", **parameters} if method != "dense" else {}
    changes = {"ppl": ppl, "delta_ppl": ppl - 6.0, "ppl_dense": 6.0}
    base = "dense" if method == "dense" else "dip"
    made = paper_row(model, base, density, **changes, parameters=json.dumps(given))
    made |= {"method": method, "selector": "topk"}
    return made | {"point_key": f"{model}{method}{density}{json.dumps(given)}"}


def cells(made: Made, title: str, label_: str) -> dict[str, Cell | None]:
    (sheet,) = [sheet for sheet in made.sheets if sheet.title.startswith(title)]
    (line,) = [line for line in sheet.lines if line.label == label_]
    return dict(zip(sheet.columns, line.cells, strict=True))


def test_every_value_is_there_once_and_has_a_source_that_was_read() -> None:
    places = [(v.source, v.model, v.method, v.metric, v.sparsity) for v in values()]
    assert len(set(places)) == len(places) == 122
    assert {v.source for v in values()} == set(SOURCES)
    assert {origin.mark for origin in SOURCES.values()} == {"verified", "abstract"}
    assert {v.metric for v in values()} == set(field.METRICS)
    assert {v.model for v in values()} <= set(field.NAMES)
    whole = ("dense", "dfloat11")
    assert all((v.method in whole) == (v.sparsity == 0) for v in values())


def test_a_difference_is_given_where_model_and_protocol_are_the_same(tmp_path: Path) -> None:
    rows = [
        row("llama-3-8b", "dense", 1.0, 6.15),
        row("llama-3-8b", "teal", 0.6, 6.70),
        row("llama-3-8b", "teal", 0.6, 6.62, shares="greedy"),
        row("llama-3-8b", "was", 0.6, 6.90, attention="none"),
    ]
    made = field_table(source_of(tmp_path, rows))
    column = "Llama8B perplexity ↓"
    teal = cells(made, "WAS", "teal, 40 %")
    found = teal[column]
    assert found is not None
    assert (found.ours, found.how) == (6.62, "measured")  # shares as TEAL searches them
    assert found.difference == pytest.approx(0.02)
    assert list(teal) == [f"{name} perplexity ↓" for name in ("Llama8B", "Mistral7B", "Llama-2-7B")]
    was = cells(made, "WAS", "was, 40 %")[column]
    assert was is not None
    assert (was.ours, was.how) == (None, "printed")  # attention is dense in ours


def test_another_model_and_another_protocol_stand_in_columns_of_their_own(tmp_path: Path) -> None:
    rows = [row("smollm2-135m", "dense", 1.0, 18.0), row("smollm2-135m", "teal", 0.6, 21.0)]
    rows += [row("llama-2-7b", "dense", 1.0, 5.47), row("llama-2-7b", "teal", 0.6, 5.7)]
    half = {"dense_tokens": 1024}
    rows += [{**one, **half, "point_key": one["point_key"] + "half"} for one in rows]
    made = field_table(source_of(tmp_path, rows))
    twin = cells(made, "WAS", "teal, 40 %")["smollm2-135m perplexity ↓, measured here"]
    assert twin is not None
    assert (twin.ours, twin.how, twin.difference) == (21.0, "twin", None)
    teal = cells(made, "TEAL", "teal, 40 %")
    printed = teal["Llama-2-7B perplexity ↓"]
    here = teal["Llama-2-7B perplexity ↓, measured here"]
    assert printed is not None
    assert here is not None
    assert (printed.ours, printed.how) == (None, "printed")
    assert (here.ours, here.how, here.difference) == (5.7, "measured", None)
    same = cells(made, "WAS", "teal, 40 %")["Llama-2-7B perplexity ↓"]
    assert same is not None
    assert same.difference == pytest.approx(5.7 - 5.74)
    (sheet,) = [sheet for sheet in made.sheets if sheet.title == "TEAL"]
    assert dict(zip(sheet.columns, sheet.twins, strict=True))[
        "smollm2-135m perplexity ↓, measured here"
    ]


def test_static_methods_stand_against_wanda(tmp_path: Path) -> None:
    """Beside what a paper says of all linear layers, ours of the MLPs alone, in another column."""
    rows = [
        row("llama-2-7b", "dense", 1.0, 5.47),
        row("llama-2-7b", "wanda", 0.3, 40.0, attention="none", pattern="unstructured"),
        row("llama-2-7b", "losa", 0.3, 10.5, attention="none"),
        row("llama-2-7b", "dsnot", 0.5, 6.5, attention="none", pattern="unstructured"),
    ]
    made = field_table(source_of(tmp_path, rows))
    losa = cells(made, "LoSA", "losa, 70 %")
    printed = losa["Llama-2-7B perplexity below Wanda's ↑"]
    here = losa["Llama-2-7B perplexity below Wanda's ↑, measured here"]
    assert printed is not None
    assert here is not None
    assert (printed.ours, here.ours, here.difference) == (None, 29.5, None)
    assert list(cells(made, "DSnoT", "dsnot, 70 %")) == ["LLaMA-7B perplexity below Wanda's ↑"]


def test_an_activation_ratio_is_that_of_a_growth_of_perplexity(tmp_path: Path) -> None:
    found = row("smollm2-135m", "cett", 0.4, 18.2, attention="none", ppl_percent=1)
    found |= {"mlp_density": 0.38}
    made = field_table(source_of(tmp_path, [row("smollm2-135m", "dense", 1.0, 18.0), found]))
    one = cells(made, "Sparsing Law", "cett, PPL-1 %")
    here = one["smollm2-135m activation ratio ↓, measured here"]
    assert here is not None
    assert (here.ours, here.how) == (0.38, "twin")
    least = one["SiLU of 0.1B to 1.2B, least activation ratio ↓"]
    assert least is not None
    assert least.published is not None
    assert least.published.value == 0.33
    five = cells(made, "Sparsing Law", "cett, PPL-5 %")
    assert five["smollm2-135m activation ratio ↓, measured here"] is None


def test_bytes_of_a_code_stand_beside_those_of_bfloat16(tmp_path: Path) -> None:
    coded = row("smollm2-135m", "dfloat11", 1.0, 18.0, attention="none")
    coded |= {"quant": "bits of the file", "weight_bytes": 182.5, "weight_bytes_16bit": 269.0}
    made = field_table(source_of(tmp_path, [coded]))
    line = cells(made, "DFloat11", "dfloat11")
    here = line["smollm2-135m bytes, of bfloat16's ↓, measured here"]
    assert here is not None
    assert here.ours == pytest.approx(0.678, abs=1e-3)


def test_without_such_a_run_the_printed_values_stand_alone(tmp_path: Path) -> None:
    made = field_table(source_of(tmp_path, [paper_row("smollm2-135m", "dip", 0.5)]))
    assert made.empty
    assert made.count("printed") == len(values())
    assert len(made.notes) == len(SOURCES) + 1


def test_it_is_drawn_by_name_and_is_no_exhibit_of_the_paper(tmp_path: Path) -> None:
    assert [exhibit.name for exhibit in select(["all"])] == [e.name for e in EXHIBITS]
    (exhibit,) = select(["field"])
    assert label(exhibit).startswith("What papers of other methods print")
    source = source_of(tmp_path / "r", [row("llama-3-8b", "teal", 0.6, 6.7)])
    (drawn,) = build([exhibit], source, tmp_path / "paper")
    assert {path.suffix for path in drawn.files} == {".md", ".csv", ".tex"}
    text = (tmp_path / "paper" / "field.md").read_text(encoding="utf-8")
    assert "6.70 (6.60, +0.10)" in text
    assert "from an abstract or notes" in text
    with pytest.raises(reports.ReportError, match="unknown exhibit 'feld'; did you mean field"):
        select(["feld"])
