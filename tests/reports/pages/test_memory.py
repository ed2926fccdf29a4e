"""Charts of caches, phases, studies and tasks, and a point's own page, against the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import reports
from reports.findings.pricing import parse
from reports.reading import study, timeline
from reports.reading.run import Run, load
from tests.reports import counted, synthetic
from tests.reports.browser import NEEDS_BROWSER, Page

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(180)]
NASTY = synthetic.NASTY + '<img src=x onerror="window.hacked=1">'


def journal_line(key: str, kind: str, start: float, seconds: float, **more: Any) -> str:
    record = {
        "key": key,
        "kind": kind,
        "label": f"{kind} of {NASTY}",
        "status": "done",
        "seconds": seconds,
        "ended": start + seconds,
        "worker": f"host:{NASTY}",
    }
    return json.dumps({"sum": "00000000", "record": {**record, **more}})


JOURNAL = [
    journal_line("a", "evaluate", 1000.0, 12.5),
    journal_line("b", "simulate", 1012.5, 0.5, worker="host:2"),
    journal_line("b", "simulate", 1020.0, 1.5, worker="host:2"),
    journal_line("c", "evaluate", 5000.0, 3.0, status="failed"),
    journal_line("other", "evaluate", 6000.0, 3.0),
    '{"sum":"00000000","record":{"key":"d","kind":',
]
TRIALS = """setting,trial,state,feasible,gamma,density,tokens_per_s,delta_ppl,ppl,mlp_density,\
hit_rate,windows,stopped,error
{0},0,done,True,0.2,0.8,20.5,0.2,15.2,0.8,0.5,2,,
{0},1,stopped,,0.4,0.5,,,,,,1,budget,
{0},2,done,False,0.3,0.6,31.0,1.2,16.2,0.6,0.6,2,,
{0},3,done,True,0.25,0.7,27.0,0.5,15.5,0.7,0.55,2,,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic.run_folder(tmp_path_factory.mktemp("runs") / "counted", counted.table())
    plan = json.loads((folder / "plan.json").read_text())
    plan["task_keys"] = {"evaluate": ["a", "c", "d"], "simulate": ["b"]}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "journal.jsonl").write_text("\n".join(JOURNAL) + "\n")
    name = NASTY.replace(",", "")
    (folder / "trials.csv").write_text(TRIALS.format(f'"{name.replace(chr(34), chr(34) * 2)}"'))
    importance = {name: {"0": {"gamma": 0.25, "density": 0.75}}}
    document = {"name": NASTY, "objective": {"tokens_per_s": "maximize"}, "importance": importance}
    document |= {"searched": ["gamma", "density"], "tuned_on": "validation", "bad": float("nan")}
    (folder / "study.json").write_text(json.dumps(document))
    fit = {"slope": 0.9, "intercept": 0.2, "points": [[0.5, 0.6], [0.7, 0.8]]}
    fit["published"] = {"slope": 0.985, "intercept": 0.3}
    (folder / "allocation.json").write_text(json.dumps(fit))
    reports.build(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load(folder)


@pytest.fixture
def opened(page: Page, folder: Path) -> Page:
    page.show(folder / "report.html")
    page.wait("document.documentElement.dataset.counts === 'yes'")
    return page


def drawn(page: Page, chart: str) -> None:
    page.run(f"document.getElementById('{chart}').scrollIntoView()")
    page.wait(f"(document.getElementById('{chart}').data || []).length > 0")


def test_all_charts_draw_and_run_nothing(opened: Page) -> None:
    for chart in ("time", "curve", "layers", "history", "study-frontier", "importance", "fit"):
        drawn(opened, chart)
    drawn(opened, "timeline")
    opened.run("document.querySelectorAll('details').forEach((d) => { d.open = true; });")
    for table in ("time", "curve", "layers", "study", "timeline"):
        opened.wait(f"document.querySelectorAll('[data-table={table}] tbody tr').length > 1")
    assert NASTY in opened.js("document.querySelector('[data-table=timeline]').textContent")
    assert opened.js("window.hacked") is None
    assert opened.js("document.querySelectorAll('img').length") == 0
    assert opened.js("document.documentElement.scrollWidth <= window.innerWidth")
    assert opened.complaints() == []


def test_the_curve_has_the_hits_of_the_table(opened: Page, run: Run) -> None:
    drawn(opened, "curve")
    opened.choose("m-masks", "dip · paper · density 0.5")
    found = opened.js(
        "document.getElementById('curve').data.find((t) => t.name === 'lru, every size').y"
    )
    lru = next(i for i, p in enumerate(run.points) if p.method == "dip" and p.policy == "lru")
    groups = parse(run.reads[lru]) or ()
    used = sum(sum(g.used_by_layer) for g in groups)
    expected = [100 * sum(g.hits_by_percent[p] for g in groups) / used for p in range(101)]
    assert found == pytest.approx(expected)
    marks = opened.js(
        "document.getElementById('curve').data.filter((t) => t.mode === 'markers')"
        ".flatMap((t) => t.customdata.map((i, k) => [i, t.x[k], t.y[k]]))"
    )
    assert {run.points[i].policy for i, _, _ in marks} == {"lru", "lfu", "min"}
    for i, x, y in marks:
        point = run.points[i]
        assert (x, y) == pytest.approx((100 * point.cache_fraction, 100 * point.hit_rate), 1e-5)


def test_layers_have_the_hits_and_densities_of_the_table(opened: Page, run: Run) -> None:
    drawn(opened, "layers")
    for figure in ("hits", "density"):
        opened.run(f"document.querySelector('[data-layers={figure}]').click()")
        rows = opened.js("layerRows().map((r) => [r.i, r.g.name, layerFigures(r)])")
        assert len(rows) >= 4
        for i, name, values in rows:
            group = next(g for g in parse(run.reads[i]) or () if g.name == name)
            used, hits = group.used_by_layer, group.hits_by_layer
            whole = group.tokens * group.units
            expected = {
                "hits": [h / u for h, u in zip(hits, used, strict=True)],
                "density": [u / whole for u in used],
            }
            assert values == pytest.approx(expected[figure], abs=5.1e-4)


def test_phases_add_up_to_the_time_of_a_token(opened: Page, run: Run) -> None:
    drawn(opened, "time")
    rows = opened.js("timeRows().map((r) => [r.i, r.seconds, r.parts.map((p) => p.name)])")
    assert len(rows) >= 2
    for i, seconds, names in rows:
        assert 1 / seconds == pytest.approx(run.points[i].tokens_per_s, rel=1e-6)
        assert names == ["static", *(g.name for g in parse(run.reads[i]) or ())]


def test_a_point_shows_how_to_compute_it_again(opened: Page, run: Run) -> None:
    opened.run("document.querySelector('#t-box td.key button').click()")
    text = opened.js("document.getElementById('detail').innerText")
    key = opened.js("document.querySelector('#t-box td.key button').textContent")
    point = next(p for p in run.points if p.point_key == key)
    assert f"sweep run demo --point {key}" in text
    assert f"{point.method}-task" in text
    assert "transformers" in text
    assert "0123456789abcdef" in text
    assert opened.js("document.activeElement.closest('dialog') !== null")
    opened.run("document.getElementById('detail-close').click()")
    assert not opened.js("document.getElementById('detail').open")


def test_a_click_on_a_chart_shows_the_point(opened: Page) -> None:
    opened.run(
        "document.getElementById('scatter').emit('plotly_click', {points: [{customdata: 3}]})"
    )
    assert opened.js("document.getElementById('detail').open")
    assert opened.js("columns.key[3]") in opened.js("document.querySelector('.command').innerText")


def test_tasks_are_the_last_of_their_key_and_of_the_plan(run: Run) -> None:
    assert [(s.key, s.status, s.start) for s in run.tasks] == [
        ("a", "done", 1000.0),
        ("b", "done", 1020.0),
        ("c", "failed", 5000.0),
    ]
    found = timeline.document(run.tasks)
    assert found is not None
    assert found["start"] == [0, 20, 4000]
    assert timeline.document(()) is None


def test_idle_time_is_cut_out(opened: Page) -> None:
    starts = opened.js("compressed(data.timeline).starts")
    assert starts[:2] == [0, 20]
    assert starts[2] == pytest.approx(20 + 1.5 + 15)


def test_a_study_reads_its_files(run: Run, tmp_path: Path) -> None:
    assert run.study is not None
    assert run.study["trials"]["gamma"] == [0.2, 0.4, 0.3, 0.25]
    assert run.study["trials"]["delta_ppl"][1] is None
    assert run.study["study"]["bad"] is None
    (tmp_path / "trials.csv").write_text("setting,trial\n")
    assert study.read(tmp_path) is None
    assert study.read(tmp_path / "none") is None
