"""The page for readers without a mouse or with a screen reader: axe-core's rules, and the keyboard.

axe-core comes with the development dependencies (axe-core-python); AXE_CORE may name the axe.min.js
of another version.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

import reports
from tests.reports import counted, synthetic
from tests.reports.browser import NEEDS_BROWSER, Page

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(300)]
SERIOUS = ("serious", "critical")


def axe_source() -> str:
    given = os.environ.get("AXE_CORE")
    found = importlib.util.find_spec("axe_core_python")
    if given is None and (found is None or found.origin is None):
        pytest.skip("axe-core is not installed: pip install axe-core-python, or set AXE_CORE")
    path = Path(given) if given else Path(str(found.origin if found else "")).parent / "axe.min.js"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every section: real counts, a study, tasks, failures, two models."""
    sizes = counted.dram_sizes()[:2]
    rows = counted.table(policies=("none", "lru")).to_pylist()
    rows = [row for row in rows if row["dram_gb"] in sizes and row["flash_gbps"] == 0.5]
    rows += [row | {"model": "other", "point_key": row["point_key"][::-1]} for row in rows[:9]]
    rows[-1] |= {"status": "failed", "error": "out of memory", "tokens_per_s": None}
    folder = tmp_path_factory.mktemp("runs") / "whole"
    synthetic.run_folder(folder, synthetic.to_table(rows))
    record = {"kind": "evaluate", "label": "dense", "status": "done", "worker": "host:1"}
    times = {"key": "a", "seconds": 2.0, "ended": 10.0}
    (folder / "journal.jsonl").write_text(json.dumps({"record": record | times}) + "\n")
    trials = "setting,trial,state,feasible,gamma,tokens_per_s,delta_ppl\n"
    (folder / "trials.csv").write_text(
        trials + "a,0,done,True,0.2,20,0.2\na,1,done,True,0.3,21,0.3\n"
    )
    return reports.build(folder)["html"]


def faults(page: Page, source: str, part: str = "html") -> list[tuple[str, str, Any]]:
    page.run(source)
    page.driver.set_script_timeout(120)
    found = page.driver.execute_async_script(
        "const done = arguments[1], wanted = {resultTypes: ['violations']};"
        "axe.run(document.querySelector(arguments[0]), wanted).then((r) => done(r.violations.map("
        "(v) => [v.id, v.impact, v.nodes.map((n) => n.html.slice(0, 200))])))",
        part,
    )
    return [(name, nodes, impact) for name, impact, nodes in found if impact in SERIOUS]


@pytest.mark.parametrize(
    ("size", "theme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.slow),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_no_serious_fault(page: Page, report: Path, size: str, theme: str) -> None:
    source = axe_source()
    page.show(report, size, theme)
    page.wait("document.documentElement.dataset.counts === 'yes'")
    for chart in ("flash", "policy", "curve", "layers", "time", "history", "timeline"):
        page.run(f"document.getElementById('{chart}')?.scrollIntoView()")
        page.wait(f"!document.getElementById('{chart}') || !stale.has('{chart}')")
    page.run("document.querySelectorAll('details').forEach((d) => { d.open = true; });")
    page.choose("w-flash", "3", "input")
    page.wait("live.on")
    assert faults(page, source) == []
    page.run("showPoint(5)")
    assert faults(page, source, "#detail") == []


def press(page: Page, *keys: str) -> None:
    for key in keys:
        code = {"Tab": 9, "Enter": 13, "ArrowRight": 39, "Escape": 27}[key]
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
            event |= {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)


def test_everything_is_reached_and_worked_by_keyboard(page: Page, report: Path) -> None:
    page.show(report)
    page.wait("document.documentElement.dataset.counts === 'yes'")
    page.run("document.activeElement.blur(); window.scrollTo(0, 0);")
    press(page, "Tab")
    assert page.js("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(500):
        press(page, "Tab")
        reached.add(page.js("document.activeElement.id || document.activeElement.tagName"))
        if "t-filter" in reached:
            break
    wanted = {"theme", "f-model", "f-setting", "f-method", "f-policy", "f-gamma", "m-masks"}
    wanted |= {"w-flash-range", "w-flash", "w-dram-range", "w-size-range", "w-size", "t-filter"}
    assert wanted <= reached
    page.run("document.getElementById('w-flash-range').focus()")
    before = page.js("Number(document.getElementById('w-flash').value)")
    press(page, "ArrowRight")
    page.wait("live.on")
    assert page.js("Number(document.getElementById('w-flash').value)") > before
    page.run("document.querySelector('#t-box td.key button').focus()")
    press(page, "Enter")
    page.wait("document.getElementById('detail').open", 5)
    press(page, "Escape")
    page.wait("!document.getElementById('detail').open", 5)
    assert page.js("document.activeElement.closest('td.key') !== null")
