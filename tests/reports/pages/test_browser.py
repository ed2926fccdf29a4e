"""The page in a real browser: headless Chromium at desktop and phone width, light and dark."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

import reports
from reports.findings.decisions import frontier_of
from reports.findings.points import by_series
from reports.numbers import figure
from reports.pages.summary import by_frontier
from reports.reading.run import Run, load
from tests.reports import synthetic
from tests.reports.browser import NEEDS_BROWSER, SIZES, Page

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = synthetic.run_folder(tmp_path_factory.mktemp("runs") / "demo")
    reports.build(run)
    return run


@pytest.fixture(scope="module")
def report(folder: Path) -> Path:
    return folder / "report.html"


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load(folder)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_the_page_draws_without_complaint(page: Page, report: Path, size: str, theme: str) -> None:
    page.show(report, size, theme)
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; });")
    time.sleep(0.3)
    assert page.complaints() == []
    assert page.js("document.documentElement.dataset.theme") == theme
    assert page.js("document.documentElement.scrollWidth <= window.innerWidth")
    for chart in ("scatter", "flash", "policy"):
        page.run(f"document.getElementById('{chart}').scrollIntoView()")
        page.wait(f"document.querySelectorAll('#{chart} .scatterlayer .trace').length > 1", 10)
    assert page.complaints() == []
    assert page.js("performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("size", list(SIZES))
def test_every_budget_line_is_named_where_two_are_close(
    page: Page, report: Path, size: str
) -> None:
    page.show(report, size)
    page.run("document.getElementById('scatter').scrollIntoView({block: 'center'});")
    page.wait("document.querySelectorAll('#scatter .scatterlayer .trace').length > 1", 10)
    drawn = "document.getElementById('scatter').layout"
    lines = page.js(f"{drawn}.shapes.length")
    labels = page.js(f"{drawn}.annotations.map((a) => a.text)")
    assert lines > 1
    if size == "phone":  # few words: of lines that are close the first and the last
        assert [label for label in labels if " … " in label]
        assert labels[0].startswith("+0.1 PPL")
    else:
        assert len([name for label in labels for name in label.split(", ")]) == lines


BOXES = (
    "[...document.querySelectorAll('#CHART .xtitle, #CHART .ytitle, #CHART .annotation-text,"
    " #CHART .legendtext')].map((e) => [e.textContent, e.getBoundingClientRect().toJSON()])"
)


@pytest.mark.parametrize("chart", ["scatter", "flash", "policy"])
def test_no_text_of_a_narrow_chart_is_cut_or_overlaps(page: Page, report: Path, chart: str) -> None:
    page.show(report, "phone")
    page.run(f"document.getElementById('{chart}').scrollIntoView({{block: 'center'}});")
    page.wait(f"document.querySelectorAll('#{chart} .scatterlayer .trace').length > 1", 10)
    around = page.js(f"document.getElementById('{chart}').getBoundingClientRect().toJSON()")
    plot = page.js(f"document.querySelector('#{chart} .nsewdrag').getBoundingClientRect().toJSON()")
    texts = page.js(BOXES.replace("CHART", chart))
    assert len(texts) > 4
    for name, box in texts:
        assert box["left"] >= around["left"] - 1, name
        assert box["right"] <= around["right"] + 1, name
        assert box["top"] >= around["top"] - 1, name
        assert box["bottom"] <= around["bottom"] + 1, name
        assert not _overlap(box, plot), name
    for i, (name, box) in enumerate(texts):
        for other, second in texts[i + 1 :]:
            assert not _overlap(box, second), (name, other)


def _overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    """Whether two boxes share more than a pixel."""
    across = min(a["right"], b["right"]) - max(a["left"], b["left"])
    return across > 1 and min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) > 1


def test_hover_shows_all_figures_of_a_point(page: Page, report: Path, run: Run) -> None:
    page.show(report)
    page.run("document.getElementById('scatter').scrollIntoView({block: 'center'});")
    time.sleep(0.3)
    place = page.js(
        "(() => { const g = document.getElementById('scatter'), b = g.getBoundingClientRect();"
        "const t = g.data.find((t) => t.legendgroup === 'dip-ca' && t.mode === 'markers' &&"
        " t.showlegend); const f = g._fullLayout, k = 1;"
        "return {x: b.left + f.xaxis._offset + f.xaxis.d2p(t.x[k]),"
        " y: b.top + f.yaxis._offset + f.yaxis.d2p(t.y[k]),"
        " key: columns.key[t.customdata[k]]}; })()"
    )
    for offset in (-3, 0):  # a hover needs the mouse to move
        event = {"type": "mouseMoved", "x": place["x"] + offset, "y": place["y"]}
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
        time.sleep(0.2)
    page.wait("document.querySelector('#scatter .hovertext') !== null", 5)
    text = page.js("document.querySelector('#scatter .hovertext').textContent")
    (point,) = [p for p in run.points if p.point_key == place["key"]]
    assert f"point {point.point_key}" in text
    assert f"γ {point.gamma:g}" in text
    assert f"ΔPPL {point.delta_ppl:+.3f}" in text
    assert f"hit rate {100 * point.hit_rate:.1f} %" in text
    assert page.complaints() == []


def test_the_page_draws_the_frontiers_that_python_finds(page: Page, report: Path, run: Run) -> None:
    page.show(report)
    for number, setting in enumerate(run.settings):
        page.choose("f-setting", str(number))
        drawn = page.js(
            "frontiers().map((f) => [f.series.name, f.line.map((i) => columns.key[i])])"
        )
        here = [p for p in run.points if p.setting == setting and p.measured]
        expected = {
            name: [p.point_key for p in frontier_of([p for p in m if not p.bound] or m)]
            for name, m in by_series(here).items()
        }
        assert dict(drawn) == expected


def test_filters_and_axes_change_the_charts(page: Page, report: Path) -> None:
    page.show(report)
    count = (
        "document.getElementById('scatter').data"
        ".reduce((n, t) => n + (t.customdata || []).length, 0)"
    )
    everything = page.js(count)
    page.run("document.getElementById('f-bounds').click()")
    without_bounds = page.js(count)
    page.choose("f-policy", "lfu")
    only_lfu = page.js(count)
    page.choose("f-gamma", "0.2")
    one_gamma = page.js(count)
    assert everything > without_bounds > only_lfu > one_gamma > 0
    page.run("document.querySelector('[data-scale=log]').click()")
    assert page.js("document.getElementById('scatter').layout.xaxis.type") == "log"
    assert "no place on a logarithmic axis" in page.js(
        "document.getElementById('scatter-note').textContent"
    )
    page.run("document.querySelector('[data-range=all]').click()")
    furthest = page.js("Math.max(...chosenPoints().map(delta))")
    assert page.js("document.getElementById('scatter').layout.xaxis.range[1]") > math.log10(
        furthest
    )
    assert page.complaints() == []


def test_each_chart_has_its_table(page: Page, report: Path) -> None:
    page.show(report)
    for chart in ("scatter", "flash"):
        page.run(f"document.querySelector('[data-table={chart}]').closest('details').open = true")
        page.wait(f"document.querySelectorAll('[data-table={chart}] tbody tr').length > 5", 5)
    assert page.js("document.querySelectorAll('#policies table tbody tr').length") == 12


def test_the_table_of_points_filters_sorts_and_pages(page: Page, report: Path, run: Run) -> None:
    page.show(report)
    rows = "document.querySelectorAll('#t-box tbody tr').length"
    cell = "document.querySelector('#t-box tbody tr').cells[arguments[0]].textContent"
    titles = page.js(
        "[...document.querySelectorAll('#t-box thead button')].map((b) => b.textContent)"
    )
    assert page.js(rows) == 100
    assert page.js("document.getElementById('t-page').textContent") == "page 1 of 9"
    first = by_frontier(run.points)[0]
    assert "Frontier ↑" in titles
    assert page.js(cell, titles.index("tok/s")) == figure(first.tokens_per_s)
    page.run("document.getElementById('t-next').click()")
    assert page.js("document.getElementById('t-page').textContent") == "page 2 of 9"
    page.run(
        "const f = document.getElementById('t-filter'); f.value = 'dip-ca 0.7 LFU';"
        "f.dispatchEvent(new Event('input'));"
    )
    expected = [p for p in run.points if p.series == "dip-ca" and p.density == 0.7]
    page.wait(f"document.getElementById('t-count').textContent.startsWith('{len(expected)} of')", 5)
    sort = f"document.querySelectorAll('#t-box thead button')[{titles.index('ΔPPL')}].click();"
    page.run(sort + sort.replace("const ", ""))
    least = min(p.delta_ppl for p in expected if p.measured)
    assert page.js(cell, titles.index("ΔPPL")) == f"{least:+.3f}"
    assert page.js("document.querySelectorAll('#t-box th[aria-sort=ascending]').length") == 1
    page.run(
        "const f = document.getElementById('t-filter'); f.value = 'nothing-like-it';"
        "f.dispatchEvent(new Event('input'));"
    )
    page.wait("document.getElementById('t-count').textContent.startsWith('0 of')", 5)
    assert page.complaints() == []


def test_a_cell_of_the_matrix_opens_its_details(page: Page, report: Path) -> None:
    page.show(report)
    assert not page.js("document.getElementById('setting-4').open")
    page.run("document.querySelector('a[href=\"#setting-4-2\"]').click()")
    page.wait("document.getElementById('setting-4').open", 5)


def test_the_theme_can_be_switched(page: Page, report: Path) -> None:
    page.show(report)
    page.run("document.getElementById('theme').click()")
    assert page.js("document.documentElement.dataset.theme") == "dark"
    assert page.js("document.getElementById('theme').textContent") == "Light"


def test_crafted_values_run_nothing(page: Page, tmp_path: Path) -> None:
    nasty = synthetic.NASTY + '<img src=x onerror="window.hacked=1">'
    rows = synthetic.table(synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,))).to_pylist()
    for row in rows:
        row.update(device=nasty, error=nasty)
        if row["method"] == "dip":
            row["method"] = f"dip{nasty}"
    run = synthetic.run_folder(tmp_path / "run", synthetic.to_table(rows))
    page.show(reports.build(run)["html"])
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; });")
    time.sleep(0.3)
    assert page.js("window.hacked") is None
    assert page.js("document.querySelectorAll('img').length") == 0
    legend = page.js("document.querySelector('#scatter .legend').textContent")
    assert f"dip{nasty}" in legend.replace("\xa0", " ")
    assert page.complaints() == []


@pytest.mark.slow
def test_ten_thousand_points_open(page: Page, tmp_path: Path) -> None:
    run = synthetic.run_folder(tmp_path / "big", synthetic.big())
    page.show(reports.build(run)["html"])
    assert page.js("data.count") == 10_000
    page.run("document.getElementById('t-filter').value = 'dip 0.9'; arrange();")
    assert 0 < page.js("view.rows.length") < 10_000
