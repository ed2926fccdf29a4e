"""The results table: its columns, its file, and how light the package is to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reports
from reports.results import accuracy_tasks, read_table, rows
from tests.reports import synthetic

_PUBLISHED = """
sweep point_key model quant method selector density mlp_density gamma allocation policy device
dram_gb flash_gbps dram_gbps cache_fraction ppl ppl_dense delta_ppl delta_ppl_low delta_ppl_high
hit_rate flash_bytes_per_token dram_bytes_per_token tokens_per_s tokens_per_s_dense
overhead_bytes tokens seed status error
"""
PUBLISHED = _PUBLISHED.split()


def test_the_published_columns_come_first_and_in_order() -> None:
    assert reports.SCHEMA.names[: len(PUBLISHED)] == PUBLISHED


def test_downstream_tasks_stand_before_the_extra_columns() -> None:
    names = reports.schema(["mmlu", "piqa"]).names
    start = len(PUBLISHED)
    assert names[start : start + 3] == ["acc_mmlu", "acc_piqa", "timing"]
    assert accuracy_tasks(names) == ("mmlu", "piqa")


def test_every_column_tells_its_meaning() -> None:
    assert all(field.metadata[b"meaning"] for field in reports.SCHEMA)
    units = {f.name: f.metadata[b"unit"] for f in reports.SCHEMA}
    assert (units["dram_gb"], units["flash_bytes_per_token"]) == (b"GB", b"B")


def test_an_empty_table_has_every_column_and_no_decision() -> None:
    empty = reports.empty_table(["mmlu"])
    assert empty.num_rows == 0
    assert empty.schema.equals(reports.schema(["mmlu"]))
    assert reports.decide(empty, ["0.2"]) == []


def test_rows_leave_the_bulky_column_out() -> None:
    found = rows(synthetic.table())
    assert "reads" not in found[0]
    assert found[0]["status"] == "done"


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    results = synthetic.table(flaws=False)
    pq.write_table(results, tmp_path / "results.parquet")
    assert read_table(tmp_path / "results.parquet").equals(results)


def test_a_file_that_is_no_results_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(reports.ReportError, match="no such file"):
        read_table(tmp_path / "results.parquet")
    (tmp_path / "results.parquet").write_bytes(b"nonsense")
    with pytest.raises(reports.ReportError, match="not a Parquet file"):
        read_table(tmp_path / "results.parquet")
    pq.write_table(pa.table({"modle": ["x"]}), tmp_path / "results.parquet")
    with pytest.raises(reports.ReportError, match="no column 'model'; nearest is 'modle'"):
        read_table(tmp_path / "results.parquet")


def test_importing_reports_loads_nothing_heavy() -> None:
    heavy = ("pandas", "plotly", "matplotlib", "pyarrow", "jinja2", "numpy")
    check = f"import sys, reports; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        getattr(reports, "biuld")  # noqa: B009
    assert set(reports.__all__) <= set(dir(reports))


FACTS = ("series", "bound", "policy_offline", "policy_rank")


def test_a_table_of_an_older_run_gets_its_facts_from_names(tmp_path: Path) -> None:
    old = synthetic.table().drop_columns(list(FACTS))
    pq.write_table(old, tmp_path / "results.parquet")
    found = rows(read_table(tmp_path / "results.parquet"))
    assert all(row[name] is not None for row in found for name in FACTS)
    facts = {(r["method"], r["selector"], r["policy"]): tuple(r[n] for n in FACTS) for r in found}
    assert facts["dip", "topk", "belady"] == ("dip", True, True, 4)
    assert facts["dip", "cache-aware", "lfu"] == ("dip-ca", False, False, 2)
    assert facts["glu-oracle", "topk", "lru"] == ("glu-oracle", True, False, 1)
    assert facts["dense", "topk", "none"] == ("dense", False, False, 0)


def test_what_the_columns_say_counts_and_not_the_names() -> None:
    told = {"series": "mine", "bound": False, "policy_offline": False, "policy_rank": 7}
    (row,) = rows(synthetic.to_table([{"method": "my-oracle", "policy": "min", **told}]))
    assert {name: row[name] for name in FACTS} == told
    (part,) = rows(synthetic.to_table([{"method": "dip", "policy": "min", "bound": False}]))
    assert [part[name] for name in FACTS] == ["dip", False, True, 4]


def test_a_bound_by_its_column_is_never_chosen() -> None:
    named = {"series": "dip", "policy_offline": True, "policy_rank": 4}
    done = {"status": "done", "delta_ppl": 0.1, "ppl_dense": 10.0, "tokens_per_s_dense": 1.0}
    quick = {"point_key": "a", "policy": "mine", "bound": True, "tokens_per_s": 9.0, **named}
    slow = {"point_key": "b", "policy": "lru", "tokens_per_s": 2.0}
    (decision,) = reports.decide(
        synthetic.to_table([{"method": "dip", **done, **own} for own in (quick, slow)]), ["0.2"]
    )
    assert decision.best is not None
    assert decision.bound is not None
    assert (decision.best.point_key, decision.bound.point_key) == ("b", "a")
