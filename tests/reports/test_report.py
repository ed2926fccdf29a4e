"""The written report: what it says, that it stands alone, and that no value becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

import reports
from reports.numbers import figure, megabytes, percent
from reports.pages.html import render
from reports.reading.run import load
from tests.reports import synthetic

REMOTE = re.compile(r"https?://(?!www\.w3\.org/)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = synthetic.run_folder(tmp_path_factory.mktemp("runs") / "demo")
    reports.build(run)
    return run


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def small() -> pa.Table:
    """One device setting."""
    return synthetic.table(synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,)))


class Parsed(html.parser.HTMLParser):
    """Scripts by position, every attribute, and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        elif "style" not in self._inside:
            self.text.append(data)


def shown(page: str) -> str:
    return " ".join(" ".join(Parsed(page).text).split())


def test_build_returns_what_it_wrote(folder: Path) -> None:
    written = reports.build(folder)  # the second call in this process
    assert written == {"markdown": folder / "report.md", "html": folder / "report.html"}
    drawn = {path.name for path in (folder / "figures").iterdir()}
    names = ("frontier-1", "cache-aware-1", "policies-1")
    assert drawn == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    assert not list(folder.glob(".*tmp"))


def test_the_page_names_no_address(page: str) -> None:
    assert not REMOTE.search(page)
    for tag, name, value in Parsed(page).attributes:
        if name in ("src", "href", "action", "data", "srcset", "poster"):
            assert value.startswith(("#", "data:")), (tag, name, value)


def test_only_own_scripts_may_run(page: str) -> None:
    parsed = Parsed(page)
    (policy,) = [v for _, n, v in parsed.attributes if n == "content" and "script-src" in v]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    programs = [text for attributes, text in parsed.scripts if "type" not in attributes]
    digests = {base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in programs}
    assert digests == allowed
    assert len(programs) == 3
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    parsed = Parsed(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    links = {v[1:] for _, n, v in parsed.attributes if n == "href" and v.startswith("#")}
    assert links <= set(parsed.ids)


def test_the_decision_comes_first_and_is_complete(page: str, folder: Path) -> None:
    text = shown(page)
    order = ["What to ship", "Explore", "Cache-aware against plain", "Cache policies", "All points"]
    places = [text.rindex(f" {title} ") for title in [*order, "Plan", "Failures", "Provenance"]]
    assert places == sorted(places)
    for decision in load(folder).decisions:
        if decision.best is None or decision.interpolated is None:
            continue
        best = decision.best
        assert f"{figure(decision.interpolated.tokens_per_s)} tok/s interpolated" in text
        assert f"{figure(best.tokens_per_s)} tok/s {best.gain:.2f}× dense" in text
        assert f"{best.delta_ppl:+.3f}" in text
        assert percent(best.hit_rate) in text
        assert f"{megabytes(best.flash_bytes_per_token)} Flash" in text


def test_crafted_values_appear_literally(tmp_path: Path) -> None:
    nasty = synthetic.NASTY
    rows = synthetic.table().to_pylist()
    for row in rows:
        row.update(model=f"model {nasty}", device=f"device {nasty}", quant=nasty, text=nasty)
        if row["method"] == "up":
            row.update(method=f"up {nasty}", policy=f"policy {nasty}", allocation=nasty)
    run = synthetic.run_folder(tmp_path / "run", synthetic.to_table(rows))
    (run / "plan.json").write_text(
        json.dumps({"sweep": nasty, "tasks": {nasty: nasty}, "why": {nasty: 1}})
    )
    written = reports.build(run)
    page = written["html"].read_text(encoding="utf-8")
    assert f"device {nasty}" in shown(page)
    assert f"up {nasty}" in shown(page)
    assert len(Parsed(page).scripts) == 5
    assert not {name for _, name, _ in Parsed(page).attributes if name.startswith("on")}
    document = next(t for a, t in Parsed(page).scripts if a.get("id") == "data")
    assert json.loads(document)["settings"][0]["device"] == f"device {nasty}"
    tokens = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .parse(written["markdown"].read_text(encoding="utf-8"))
    )
    raw = {t.content.strip() for t in every(tokens) if t.type in ("html_block", "html_inline")}
    assert all(re.match(r"^</?(details|summary)", piece) for piece in raw), raw
    links = {t.attrs["href"] for t in every(tokens) if t.type == "link_open"}
    assert links == {"report.html"}


def every(tokens: list[Any]) -> list[Any]:
    return [t for token in tokens for t in (token, *every(token.children or []))]


def test_markdown_says_what_the_page_says(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert text.index("## What to ship") < text.index("## Figures") < text.index("## Plan")
    assert "dip-ca is fastest in all 6 device settings" in text
    assert "At equal ΔPPL, dip-ca reads" in text
    for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (folder / name).is_file()
    assert text.count("![") == 3


def test_a_report_is_the_same_for_the_same_run(folder: Path, tmp_path: Path) -> None:
    again = synthetic.run_folder(tmp_path / "again")
    written = reports.build(again)
    for name in ("frontier-1.svg", "policies-1.svg"):
        first, second = folder / "figures" / name, again / "figures" / name
        assert first.read_bytes() == second.read_bytes()
    for path in written.values():
        assert path.read_bytes() == (folder / path.name).read_bytes()


@pytest.mark.parametrize("damage", ["absent", "broken", "list", "budgets"])
def test_a_report_without_documents_says_so(tmp_path: Path, damage: str) -> None:
    run = synthetic.run_folder(tmp_path / "run", small(), documents=False)
    content = {"broken": "{", "list": "[1]", "budgets": '{"budgets": ["much"]}'}
    if damage != "absent":
        (run / "plan.json").write_text(content[damage])
    text = shown(reports.build(run)["html"].read_text(encoding="utf-8"))
    expected = {
        "absent": "plan.json is not in the run folder",
        "broken": "plan.json cannot be read",
        "list": "plan.json holds no mapping",
        "budgets": "budget 'much': must be a perplexity increase",
    }
    assert expected[damage] in text
    assert "provenance.json is not in the run folder" in text


def test_a_run_without_points_has_a_report(tmp_path: Path) -> None:
    run = synthetic.run_folder(tmp_path / "run", reports.empty_table())
    written = reports.build(run)
    assert "no point yet" in shown(written["html"].read_text(encoding="utf-8"))
    assert written["markdown"].is_file()


def test_a_run_where_everything_failed_has_a_report(tmp_path: Path) -> None:
    rows = small().to_pylist()
    for row in rows:
        row.update(dict.fromkeys(synthetic.FIGURES), status="failed", error="out of memory")
    written = reports.build(synthetic.run_folder(tmp_path / "run", synthetic.to_table(rows)))
    text = shown(written["html"].read_text(encoding="utf-8"))
    assert "No measured point is within +0.1 PPL" in text
    assert "143 points out of memory" in text


def test_accuracy_of_downstream_tasks_is_carried(tmp_path: Path) -> None:
    results = small()
    accuracies = pa.array([0.5] * results.num_rows)
    run = synthetic.run_folder(tmp_path / "run", results.append_column("acc_mmlu", accuracies))
    page = reports.build(run)["html"].read_text(encoding="utf-8")
    data = json.loads(next(t for a, t in Parsed(page).scripts if a.get("id") == "data"))
    assert data["accuracyTasks"] == ["mmlu"]
    assert set(data["columns"]["acc_mmlu"]) == {0.5}


def test_ten_thousand_points_stay_small(tmp_path: Path) -> None:
    run = load(synthetic.run_folder(tmp_path / "big", synthetic.big()))
    assert len(run.points) == 10_000
    assert len(render(run).encode()) < 15e6


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(reports.ReportError, match=r"results\.parquet: no such file"):
        reports.build(tmp_path)
    assert list(tmp_path.iterdir()) == []
