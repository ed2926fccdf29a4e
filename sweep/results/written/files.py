"""`results.parquet` and `results.csv` of a run folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from sweep.files.atomic import replace
from sweep.results.written.replayed import with_replay


def write(table: pa.Table, folder: Path) -> pa.Table:
    """Write `results.parquet` and `results.csv` (without the bulky counts), each by rename, with
    what was replayed in this folder; returns the table as it is written."""
    table = with_replay(table, folder)
    for name, writer in (("results.parquet", _parquet), ("results.csv", _csv)):
        sink = pa.BufferOutputStream()
        writer(table, sink)
        replace(folder / name, sink.getvalue().to_pybytes())
    return table


def rewrite(folder: Path) -> None:
    """The files of a folder with what was replayed in it since they were written."""
    write(parquet.read_table(folder / "results.parquet"), folder)


def _parquet(table: pa.Table, sink: pa.BufferOutputStream) -> None:
    parquet.write_table(table, sink, compression="zstd")


def _csv(table: pa.Table, sink: pa.BufferOutputStream) -> None:
    csv.write_csv(table.drop_columns(["reads"]), sink)
