"""LaTeX, JSON, CSV and figures: their structure, and that every value in them is literal."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reports
from reports.findings.points import ABSENT_NUMBER
from reports.pages.json_report import document
from reports.pages.latex import render as render_latex
from reports.pages.markup import latex
from reports.reading.command import recompute
from reports.reading.run import load
from reports.results import with_facts
from tests.reports import synthetic

NASTY = rf"{synthetic.NASTY} 100% _a_ #b {{c}} ~d ^e \input{{x}} $$ -- ,, 'q' [0]"
SCHEMA = json.loads((Path(reports.__file__).parent / "report.schema.json").read_text())

# LaTeX that stands for a character, as TeX reads it; the longest first.
MEANS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"{\ttfamily\char34}": '"',
    r"\textquotesingle{}": "'",
    r"\textasciigrave{}": "`",
    r"\textendash{}": "–",
    r"\ldots{}": "…",
    r"$\Delta$": "Δ",
    r"$\gamma$": "γ",
    r"$\times$": "×",
    r"$\cdot$": "·",
    r"$\pm$": "±",
    r"$\leq$": "≤",
    r"$-$": "−",
    **{f"{{{mark}}}": mark for mark in "[]*"},
    **{f"\\{mark}": mark for mark in "{}#$%&_"},
    "-{}": "-",
    ",{}": ",",
}
TOKEN = re.compile("|".join(re.escape(key) for key in sorted(MEANS, key=len, reverse=True)) + "|.")


def typeset(written: str) -> str:
    """The characters that TeX would set; what is active in TeX and no escape is refused."""
    shown = ""
    for token in TOKEN.findall(written):
        assert token in MEANS or token not in set("\\{}#$%&_~^<>|\"'`[]*"), token
        shown += MEANS[token] if token in MEANS else str(token)
    return shown


@given(st.text(st.one_of(st.sampled_from("\\{}#$%&_~^<>|\"'`[]*-,Δ–a 1\n\x00"), st.characters())))
def test_latex_sets_every_text_literally(value: str) -> None:
    expected = "".join(c for c in " ".join(value.split()) if c.isprintable())
    written = latex(value)
    assert typeset(written) == expected
    for ligature in ("--", ",,", "``", "''", "?`", "!`", "<<", ">>"):
        assert ligature not in written


def crafted(folder: Path) -> Path:
    """A run whose names, errors and YAML values hold the special characters of every format."""
    rows = synthetic.table(synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,))).to_pylist()
    for row in rows:
        row.update(model=f"model {NASTY}", device=f"device {NASTY}", quant=NASTY, sweep=NASTY)
        if row["method"] == "up":
            row.update(method=f"up {NASTY}", policy=f"policy {NASTY}", allocation=NASTY)
    run = synthetic.run_folder(folder, synthetic.to_table(rows))
    (run / "plan.json").write_text(json.dumps({"sweep": NASTY}))
    return run


@pytest.mark.parametrize("nasty", [False, True])
def test_latex_tables_are_well_formed(tmp_path: Path, nasty: bool) -> None:
    run = crafted(tmp_path / "r") if nasty else synthetic.run_folder(tmp_path / "r")
    text = render_latex(load(run))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") >= 4
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [4, 4, 4]
    columns = 0
    for line in body:
        begun = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", line)
        columns = len(begun[1]) if begun else columns
        if line.endswith(r" \\"):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
            assert not line.startswith(("[", "*"))
    cells = re.sub(r"\\(begin|end|caption|label|textbf|centering\\small|\w+rule)\b", "", text)
    assert r"\input{x}" not in cells
    if nasty:
        assert latex(f"device {NASTY}") in text


def test_points_without_any_measured_still_make_tables(tmp_path: Path) -> None:
    run = load(synthetic.run_folder(tmp_path / "r", reports.empty_table()))
    assert "The 0 fastest of 0 measured points" in render_latex(run)
    jsonschema.validate(document(run), SCHEMA)


@pytest.mark.parametrize("nasty", [False, True])
def test_json_follows_its_schema_and_is_literal(tmp_path: Path, nasty: bool) -> None:
    folder = crafted(tmp_path / "r") if nasty else synthetic.run_folder(tmp_path / "r")
    path = reports.build(folder, ["json"])["json"]
    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(found, SCHEMA)
    assert found["schema_version"] == 1
    if nasty:
        assert {s["device"] for s in found["settings"]} == {f"device {NASTY}"}


@pytest.mark.parametrize("status", ["done", "partial", "failed", "missing"])
def test_json_follows_its_schema_with_every_status(tmp_path: Path, status: str) -> None:
    shape = synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,), densities=(0.5,))
    rows = synthetic.table(shape, flaws=False).to_pylist()
    rows[-1]["status"] = status
    found = document(load(synthetic.run_folder(tmp_path / "r", synthetic.to_table(rows))))
    jsonschema.validate(found, SCHEMA)
    assert found["points"][-1]["status"] == status


def test_json_has_what_the_table_has(tmp_path: Path) -> None:
    folder = synthetic.run_folder(tmp_path / "r")
    found = document(load(folder))
    rows = with_facts(pyarrow.parquet.read_table(folder / "results.parquet").to_pylist())
    assert len(found["points"]) == len(rows)
    for point, row in zip(found["points"], rows, strict=True):
        setting = found["settings"][point["setting"]]
        for name, value in row.items():
            given = setting[name] if name in setting else point.get(name)
            if name == "task_keys":
                assert given == json.loads(value)
            elif name.endswith("_title"):  # a run of old has none: what is named stands for it
                assert given == row[name.removesuffix("_title")]
            elif name != "reads":
                value = 0 if name == "dense_tokens" and value is None else value
                absent = value is None or value != value
                if name == "context":  # older runs do not say it
                    given = None if given == ABSENT_NUMBER else given
                assert (given in (None, "")) if absent else given == value
        assert shlex.split(point["command"]) == [
            "sweep",
            "run",
            "demo",
            "--point",
            row["point_key"],
        ]
    keys = {point["point_key"] for point in found["points"]}
    for decision in found["decisions"]:
        named = [decision[n] for n in ("dense", "best", "runner_up", "conservative", "bound")]
        assert {key for key in named if key} <= keys
    assert found["provenance"]["versions"]["python"] == "3.11.9"


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["--set", "-f", "--file"]), st.text(min_size=1)),
        st.tuples(st.sampled_from(["--workers", "--out", "--store", "--point"]), st.just("2")),
        st.tuples(st.sampled_from(["--fail-fast", "--no-report", "--set=a=1", "--file=x y.yaml"])),
    )
)


@given(COMMANDS, st.text(min_size=1))
def test_the_command_of_a_point_keeps_what_decides_it(options: list[tuple[str, ...]], name: str):
    flat = [word for option in options for word in option]
    written = shlex.join(["__main__.py", "run", "demo", *flat])
    kept = [
        word
        for option in options
        if option[0].partition("=")[0] in ("--set", "-f", "--file")
        for word in option
    ]
    command = recompute({"command": written}, name, "0123")
    assert shlex.split(command) == ["sweep", "run", name, *kept, "--point", "0123"]


def test_the_command_of_a_study_and_of_a_script() -> None:
    study = recompute({"command": "sweep tune gamma-a18 --workers 2"}, "demo", "0123")
    assert study == "sweep tune gamma-a18 --workers 2"
    for other in ("script.py", "sweep run 'unfinished", None):
        assert recompute({"command": other}, "my sweep", "0") == "sweep run 'my sweep' --point 0"


def test_every_format_is_written_and_the_same_twice(tmp_path: Path) -> None:
    shape = synthetic.Shape(dram_gb=(0.05,), flash_gbps=(1.0,), policies=("lfu",))
    rows = synthetic.table(shape)
    first, second = (synthetic.run_folder(tmp_path / name, rows) for name in ("a", "b"))
    formats = [name for name in reports.FORMATS if name not in ("html", "md")]
    written = reports.build(first, formats)
    assert set(written) == set(formats)
    assert all(path.exists() for path in written.values())
    reports.build(second, formats)
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path
    assert (first / "figures" / "frontier-1.pdf").read_bytes().startswith(b"%PDF-")
    assert b"Type3" not in (first / "figures" / "frontier-1.pdf").read_bytes()
    assert not list(first.rglob(".*"))


def test_csv_is_the_table_without_the_counts(tmp_path: Path) -> None:
    folder = synthetic.run_folder(tmp_path / "r")
    read = pyarrow.csv.read_csv(reports.build(folder, ["csv"])["csv"])
    table = pyarrow.parquet.read_table(folder / "results.parquet")
    assert read.column_names == [name for name in table.column_names if name != "reads"]
    for name in ("tokens_per_s", "delta_ppl"):
        assert known(read[name].to_pylist()) == known(table[name].to_pylist())


def known(values: list[Any]) -> list[float | None]:
    return [None if v is None or math.isnan(v) else v for v in values]


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(reports.ReportError, match="unknown format 'latx'; did you mean latex"):
        reports.build(synthetic.run_folder(tmp_path / "r"), ["latx"])
