"""What-if in the browser is the simulator: the same formula, and bounds where hits are bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reports
from reports.findings.budgets import parse_all
from reports.findings.costs import UNMEASURED
from reports.findings.decisions import decide_points
from reports.findings.pricing import parse, tokens_per_s
from reports.pages.page_counts import counts_document
from reports.reading.run import Run, load
from tests.reports import counted, synthetic
from tests.reports.browser import NEEDS_BROWSER, Page

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(180)]
SIX_DIGITS = 1e-6
BUDGETS = (*synthetic.BUDGETS, "2.8%", "kl=0.001", "kl=0.025", "kl=0.045", "kl=1")


@pytest.fixture(scope="module", params=["overlap", "serial"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / request.param
    synthetic.run_folder(folder, counted.table(request.param), budgets=BUDGETS)
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


def priced(page: Page, devices: list[tuple[int, float, float, float, str]]) -> list[Any]:
    """For each (point, Flash GB/s, DRAM GB/s, DRAM GB, timing): [speed, at most, exact] or null."""
    return page.js(
        "arguments[0].map(([i, flash, dram, gb, timing]) => {"
        "const f = priced(i, {flash: flash * 1e9, dram: dram * 1e9, size: gb * 1e9, gb, timing});"
        "return f && [f.tokens_per_s, f.most, f.exact, f.hit_rate, f.flash_bytes_per_token,"
        " f.dram_bytes_per_token, f.parts.reduce((s, p) => s + p.flash + p.dram, 0)]; })",
        devices,
    )


def test_any_bandwidth_gives_the_speed_of_the_simulator(opened: Page, run: Run) -> None:
    rng = np.random.default_rng(1)
    traces = {name: counted.traced(name) for name in counted.METHODS}
    chosen = rng.integers(0, len(run.points), 1000).tolist()
    devices = [
        (i, *(10 ** rng.uniform(-2, 2, 2)).tolist(), run.points[i].setting.dram_gb, timing)
        for i in chosen
        for timing in [["overlap", "serial"][int(rng.integers(2))]]
    ]
    found = priced(opened, devices)
    for (i, flash, dram, gb, timing), figures in zip(devices, found, strict=True):
        point = run.points[i]
        phases = {} if point.dense else traces[point.method].phases(point.policy, gb)
        truth = counted.price(phases, gb, flash, dram, timing)
        speed, most, exact, hit_rate, flash_bytes, dram_bytes, seconds = figures
        assert exact
        assert speed == pytest.approx(truth.tokens_per_s, rel=SIX_DIGITS)
        assert most == pytest.approx(truth.tokens_per_s, rel=SIX_DIGITS)
        assert seconds == pytest.approx(truth.seconds_per_token, rel=SIX_DIGITS)
        assert hit_rate == (None if point.dense else pytest.approx(truth.hit_rate, abs=1e-9))
        assert flash_bytes == pytest.approx(truth.flash_bytes_per_token, rel=SIX_DIGITS)
        assert dram_bytes == pytest.approx(truth.dram_bytes_per_token, rel=SIX_DIGITS)
        twin = tokens_per_s(
            parse(run.reads[i]) or (),
            run.rows[i]["static_bytes"],
            gb * 1e9,
            flash * 1e9,
            dram * 1e9,
            timing,
        )
        assert twin == pytest.approx(truth.tokens_per_s, rel=SIX_DIGITS)


def test_another_dram_size_is_exact_or_between_two_bounds(opened: Page, run: Run) -> None:
    rng = np.random.default_rng(2)
    traces = {name: counted.traced(name) for name in counted.METHODS}
    low, high = counted.dram_sizes()[0] * 0.5, counted.dram_sizes()[-1] * 1.3
    devices = [
        (i, *(10 ** rng.uniform(-1, 1, 2)).tolist(), float(rng.uniform(low, high)), timing)
        for i in rng.integers(0, len(run.points), 400).tolist()
        for timing in ["overlap", "serial"]
    ]
    exact = between = unknown = 0
    for (i, flash, dram, gb, timing), figures in zip(devices, priced(opened, devices), strict=True):
        point = run.points[i]
        if figures is None:
            assert point.policy in ("lfu", "min")
            unknown += 1
            continue
        phases = {} if point.dense else traces[point.method].phases(point.policy, gb)
        truth = counted.price(phases, gb, flash, dram, timing).tokens_per_s
        least, most, sure = figures[:3]
        assert least * (1 - SIX_DIGITS) <= truth <= most * (1 + SIX_DIGITS)
        if sure:
            assert least == pytest.approx(truth, rel=SIX_DIGITS)
        exact, between = exact + sure, between + (not sure)
    assert min(exact, between, unknown) > 30


def test_the_sliders_move_charts_and_decisions(opened: Page, run: Run) -> None:
    before = opened.js("frontiers().flatMap((f) => f.line.map(speed))")
    opened.choose("w-flash", "1.37", "input")
    opened.wait("live.on && document.querySelectorAll('#w-cards .card').length > 0")
    assert before != opened.js("frontiers().flatMap((f) => f.line.map(speed))")
    expected = _decided_at(run, 1.37)
    for number, decision in enumerate(expected):
        of = {"of": decision.budget.of, "relative": decision.budget.relative}
        found = opened.js("decision(arguments[0], arguments[1])", decision.limit, of)
        for name in ("best", "conservative", "runnerUp"):
            want = getattr(decision, {"runnerUp": "runner_up"}.get(name, name))
            key = None if found[name] is None else opened.js(f"columns.key[{found[name]}]")
            assert key == (want.point_key if want else None)
        card = opened.js(f"document.querySelectorAll('#w-cards .card')[{number}].textContent")
        best = decision.best
        assert best is None or f"{opened.js('figure(arguments[0])', best.tokens_per_s)}" in card
        assert best is None or ("Flips" in card) == run.has_distances
    kl = {d.budget.amount: key_of(d.best) for d in expected if d.budget.of == "kl"}
    ppl = {key_of(d.best) for d in expected if d.budget.of == "ppl"}
    assert len({*kl.values()}) > 1, "the budgets must tell methods apart"
    assert not {*kl.values()} <= ppl, "and KL must choose otherwise than ΔPPL"
    opened.run("document.getElementById('w-reset').click()")
    opened.wait("!live.on")
    assert before == opened.js("frontiers().flatMap((f) => f.line.map(speed))")
    assert opened.js("document.querySelectorAll('#w-cards .card').length") == 0
    assert opened.complaints() == []


def key_of(point: Any) -> str:
    return point.point_key if point else ""


def test_kl_budgets_have_no_line_on_an_axis_of_perplexity(opened: Page) -> None:
    assert opened.js("limits().length") == len(BUDGETS)
    assert opened.js("lossLimits().map((b) => b.label)") == [
        b.label for b in parse_all(BUDGETS[:7])
    ]
    shapes = opened.js("document.getElementById('scatter').layout.shapes.length")
    assert shapes == opened.js("lossLimits().filter((b) => b.at > 0 && b.at < 2.25).length")


def test_a_page_without_distances_decides_nothing_of_kl(page: Page, tmp_path: Path) -> None:
    rows = [
        row | {"kl": None, "kl_high": None, "flip_rate": None}
        for row in counted.table().to_pylist()
    ]
    folder = tmp_path / "run"
    synthetic.run_folder(folder, synthetic.to_table(rows), budgets=("1%", "kl=0.02"))
    reports.build(folder, ["html"])
    page.show(folder / "report.html")
    page.wait("document.documentElement.dataset.counts === 'yes'")
    assert "not measured" in page.js("document.querySelector('.matrix').textContent")
    page.choose("w-flash", "1.37", "input")
    page.wait("live.on && document.querySelectorAll('#w-cards .card').length === 2")
    card = page.js("document.querySelectorAll('#w-cards .card')[1].textContent")
    assert UNMEASURED in card
    assert "Flips" not in page.js("document.getElementById('t-box').textContent")
    assert page.complaints() == []


def _decided_at(run: Run, flash: float) -> list[Any]:
    """Decisions of the first setting with another Flash speed, made by Python."""
    from dataclasses import replace

    setting = run.settings[0]
    moved = []
    for point, written, row in zip(run.points, run.reads, run.rows, strict=True):
        if point.setting != setting:
            continue
        speed = tokens_per_s(
            parse(written) or (),
            row["static_bytes"],
            setting.dram_gb * 1e9,
            flash * 1e9,
            setting.dram_gbps * 1e9,
            setting.timing,
        )
        moved.append(replace(point, tokens_per_s=speed))
    return decide_points(moved, run.budgets)


def test_a_slider_reaches_every_simulated_size(opened: Page) -> None:
    for gb in counted.dram_sizes():
        opened.run(
            "const r = document.getElementById('w-size-range');"
            "r.value = toStep('size', arguments[0]); r.dispatchEvent(new Event('input'));",
            gb,
        )
        opened.wait("Number(document.getElementById('w-size').value) === " + repr(gb), 5)
        opened.wait(f"live.on === {str(gb != counted.dram_sizes()[0]).lower()}", 5)
        assert opened.js("live.hidden") == 0
        assert opened.js("live.points.every((i) => live.of.get(i).exact)")


def test_counts_that_do_not_give_the_speed_price_nothing(page: Page, tmp_path: Path) -> None:
    rows = counted.table().to_pylist()
    for row in rows[:-1]:
        row["tokens_per_s"] *= 1.01
    rows[-1]["reads"] = "{broken"
    run = synthetic.run_folder(tmp_path / "run", synthetic.to_table(rows))
    assert set(counts_document(load(run))["of"]) == {-1}
    page.show(reports.build(run)["html"])
    page.wait("document.getElementById('w-note').textContent.includes('no counts of reads')")
    assert page.js("document.querySelector('#what fieldset').disabled")
    assert json.loads(page.js("JSON.stringify(columns.tokens_per_s)"))
    assert page.complaints() == []


def test_ties_go_where_decisions_go(page: Page, tmp_path: Path) -> None:
    """Where nothing fits in the cache all policies are equal: both name the simplest."""
    alike = next(r for r in counted.table("overlap").to_pylist() if r["policy"] == "lru")
    policies = ("lfu", "belady", "static", "lru", "none")
    rows = [
        {**alike, "policy": policy, "point_key": f"{i:016x}"} for i, policy in enumerate(policies)
    ]
    synthetic.run_folder(tmp_path / "r", synthetic.to_table(rows))
    reports.build(tmp_path / "r")
    (decision,) = reports.decide(synthetic.to_table(rows), [1e9])
    page.show(tmp_path / "r" / "report.html")
    page.wait("document.documentElement.dataset.drawn === 'yes'")
    found = page.js("coded('policy', fastest(arguments[0], Infinity))", list(range(5)))
    assert decision.best is not None
    assert found == decision.best.policy == "none"
