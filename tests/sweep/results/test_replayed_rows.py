"""What a stopwatch showed is columns of the table, of the rows that were replayed alone."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reports.results import OPTIONAL_COLUMNS, read_table, rows
from sweep.replay import measure
from sweep.replay.measure import Line, Outcome, Products
from sweep.results.written import files
from tests.sweep import tinysweep

PRODUCTS = Products(1e6, 0.5, 1.2, 1.0, 0.8, 2.0, True)
LINE = Line("", "p", 2, 10, 1e6, 0.0, 0.125, 0.2, 0.4, 0.5, 0.25, 1.0, True, "")
NAMES = {column.name for column in OPTIONAL_COLUMNS} - {"cache_shares"}


def outcome(*lines: Line, noisy: bool = False) -> Outcome:
    return Outcome(8, lines, 0.4 if noisy else 0.1, noisy, 1.0, 1.0, (), "ext4")


def replayed(folder: Path, *lines: Line, noisy: bool = False) -> None:
    document = outcome(*lines, noisy=noisy).to_json()
    (folder / "replay.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture
def folder(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> Path:
    tinysweep.run(swept(tiny_llama, tiny_text, tmp_path), tmp_path / "out")
    return tmp_path / "out"


def swept(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> Any:
    methods = ("dense", {"method": "dip", "density": [0.5, 0.6]})
    return tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, *methods, windows=1)


def listed(folder: Path) -> list[dict[str, Any]]:
    return rows(read_table(folder / "results.parquet"))


def names_of(table: pa.Table) -> set[str]:
    return NAMES & set(table.column_names)


def test_measured_and_predicted_stand_in_the_rows_that_were_replayed(folder: Path) -> None:
    before = read_table(folder / "results.parquet")
    assert not names_of(before)
    key = listed(folder)[1]["point_key"]
    replayed(folder, replace(LINE, point_key=key), replace(LINE, point_key="of another run"))
    files.rewrite(folder)
    dense, point, other = listed(folder)
    assert {name: point[name] for name in NAMES if name in point} == {
        "predicted_tokens_per_s_paper": pytest.approx(8),
        "predicted_tokens_per_s_affine": pytest.approx(5),
        "predicted_tokens_per_s_curve": pytest.approx(2.5),
        "measured_tokens_per_s": pytest.approx(2),
        "measured_tokens_per_s_low": pytest.approx(1),
        "measured_tokens_per_s_high": pytest.approx(4),
        "measured_verdict": "valid",
    }
    assert {row[name] for row in (dense, other) for name in NAMES & set(row)} == {None}
    after = read_table(folder / "results.parquet")
    assert after.drop_columns(sorted(names_of(after))) == before
    assert all(after.schema.field(name).metadata[b"meaning"] for name in names_of(after))
    written = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    assert float(written[1]["measured_tokens_per_s"]) == pytest.approx(2)
    assert written[0]["measured_tokens_per_s"] == ""


def test_products_are_columns_of_a_replay_that_multiplied(folder: Path) -> None:
    _, first, second = listed(folder)
    line = replace(LINE, point_key=first["point_key"], products=PRODUCTS)
    unsound = replace(PRODUCTS, valid=False)
    replayed(folder, line, replace(LINE, point_key=second["point_key"], products=unsound))
    files.rewrite(folder)
    _, point, other = listed(folder)
    assert point["predicted_tokens_per_s_products"] == pytest.approx(1 / 1.2)
    assert point["measured_tokens_per_s_products"] == pytest.approx(1)
    assert point["measured_tokens_per_s_products_low"] == pytest.approx(0.5)
    assert point["measured_tokens_per_s_products_high"] == pytest.approx(1.25)
    assert other["measured_tokens_per_s_products"] is None
    assert other["measured_tokens_per_s"] == pytest.approx(2)


def test_reads_that_say_nothing_of_the_storage_are_not_called_measured(folder: Path) -> None:
    _, first, second = listed(folder)
    cached = replace(LINE, valid=False, reason="page cache: 90% of the image was in it")
    replayed(
        folder,
        replace(cached, point_key=first["point_key"]),
        replace(LINE, point_key=second["point_key"]),
    )
    files.rewrite(folder)
    _, point, other = listed(folder)
    assert point["measured_verdict"] == "page cache: 90% of the image was in it"
    assert point["measured_tokens_per_s"] is point["measured_tokens_per_s_high"] is None
    assert point["predicted_tokens_per_s_curve"] == pytest.approx(2.5)
    assert other["measured_tokens_per_s"] == pytest.approx(2)

    replayed(folder, replace(LINE, point_key=second["point_key"]), noisy=True)
    files.rewrite(folder)
    _, point, other = listed(folder)
    assert other["measured_tokens_per_s"] is None
    assert other["measured_verdict"].startswith("Not measurable here: probes of one size differ")
    assert point["measured_verdict"] is point["predicted_tokens_per_s_curve"] is None


def test_a_later_run_keeps_what_was_measured(
    folder: Path, tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    replayed(folder, replace(LINE, point_key=listed(folder)[1]["point_key"]))
    files.rewrite(folder)
    measured = read_table(folder / "results.parquet")
    for _ in range(2):  # the second finds its table as it left it
        done, frame = tinysweep.run(swept(tiny_llama, tiny_text, tmp_path), folder)
        assert read_table(folder / "results.parquet").equals(measured)
        assert measured.equals(done.table)
        assert frame["measured_tokens_per_s"].tolist().count(2) == 1


def test_a_replay_that_cannot_be_read_leaves_the_table_alone(folder: Path) -> None:
    before = (folder / "results.parquet").read_bytes()
    for content in ("", "[]", '{"lines": [{}], "verdict": ""}'):
        (folder / "replay.json").write_text(content, encoding="utf-8")
        files.rewrite(folder)
        assert (folder / "results.parquet").read_bytes() == before


def test_the_verdict_of_a_replay_begins_as_the_table_expects() -> None:
    assert outcome(LINE, noisy=True).verdict.startswith(measure.NOT_MEASURABLE)
    assert not outcome(LINE).verdict.startswith(measure.NOT_MEASURABLE)
