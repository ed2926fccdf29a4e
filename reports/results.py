"""The results table: one row a point, one typed and explained column a figure.

`COLUMNS` is the one place where a column is named. The schema, the methods page of the report and
the documentation are made from it. A figure that was not measured is null, never zero.
"""

# pyarrow and pandas bring no types, so what comes from them is unknown to a strict checker.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reports.read_sizes import read_sizes

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
READ_FIGURES = ("reads_per_token", "mean_read_bytes")
"""What rows have in place of the column `reads`: means of reads a token, and of their bytes."""
STDERR, DENSE = "_stderr", "_dense"
"""Ends of the names of columns beside that of a downstream task."""
STATUSES = ("done", "partial", "failed", "missing")

_TYPES = {"text": pa.string(), "number": pa.float64(), "count": pa.int64(), "flag": pa.bool_()}


class ReportError(Exception):
    """A run folder or table that no report can be made from; the text is the whole message."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `kind` is text, number (float64), count (int64) or flag (bool); `unit` is empty
    for none."""

    name: str
    kind: str
    unit: str
    meaning: str


COLUMNS: tuple[Column, ...] = (
    # What the point is.
    Column("sweep", "text", "", "name of the sweep that asked for the point"),
    Column("point_key", "text", "", "16 hex digits that identify the point by its content"),
    Column("model", "text", "", "model as named in the sweep file"),
    Column("quant", "text", "", "what was done to the weights, with the bits that are counted"),
    Column("method", "text", "", "pruning method"),
    Column("selector", "text", "", "how scores become a mask: topk, cache-aware or a threshold"),
    Column("density", "number", "", "MLP density asked for; none of a fixed λ"),
    Column("mlp_density", "number", "", "MLP density that was realised, over layers and tokens"),
    Column("gamma", "number", "", "weight of units outside the cache (eq. 10); 1 ignores it"),
    Column("allocation", "text", "", "how the density is split over a method's groups"),
    Column("policy", "text", "", "what the DRAM cache evicts first"),
    # The device it was priced on.
    Column("device", "text", "", "device preset or the user's own name"),
    Column("dram_gb", "number", "GB", "DRAM for weights and caches, 1 GB = 1e9 bytes"),
    Column("flash_gbps", "number", "GB/s", "Flash read bandwidth"),
    Column("dram_gbps", "number", "GB/s", "DRAM bandwidth"),
    Column("cache_fraction", "number", "", "share of the pruned groups that the caches hold"),
    # Accuracy.
    Column("ppl", "number", "", "perplexity on the evaluation text"),
    Column("ppl_dense", "number", "", "perplexity of the same weights with nothing pruned"),
    Column("delta_ppl", "number", "", "ppl less ppl_dense, on the same windows"),
    Column("delta_ppl_low", "number", "", "lower end of its 95 % interval, from paired windows"),
    Column("delta_ppl_high", "number", "", "upper end of its 95 % interval, from paired windows"),
    # Cost.
    Column("hit_rate", "number", "", "used units found in the DRAM cache, over all used units"),
    Column("flash_bytes_per_token", "number", "B", "bytes read from Flash for a token, mean"),
    Column("dram_bytes_per_token", "number", "B", "bytes read from DRAM for a token, mean"),
    Column("tokens_per_s", "number", "1/s", "tokens per second of the memory model"),
    Column("tokens_per_s_dense", "number", "1/s", "the same for the dense model on this device"),
    Column("overhead_bytes", "number", "B", "extra structures of the method: predictors, bitmaps"),
    # Book-keeping.
    Column("tokens", "count", "", "evaluated tokens"),
    Column("seed", "count", "", "seed of every random choice"),
    Column("status", "text", "", "done, partial (of some windows), failed or missing"),
    Column("error", "text", "", "why a point failed"),
)

EXTRA_COLUMNS: tuple[Column, ...] = (
    Column("timing", "text", "", "overlap: Flash and DRAM traffic at once; serial: in turn"),
    Column("cache_start", "text", "", "cache content before the first token: empty or hot"),
    Column("cache_scope", "text", "", "a session is one window, or carries on through a shard"),
    Column("window_tokens", "count", "", "tokens in one evaluation window"),
    Column("windows", "count", "", "evaluation windows"),
    Column("windows_asked", "count", "", "those of the sweep; more than windows if it is partial"),
    Column("ppl_ratio_low", "number", "", "lower end of the 95 % interval of ppl over ppl_dense"),
    Column("ppl_ratio_high", "number", "", "upper end of it, which relative budgets are held to"),
    Column("bos", "text", "", "windows that begin with a BOS; empty where the tokenizer adds none"),
    Column("text", "text", "", "evaluation text"),
    Column("dtype", "text", "", "floating-point type of the evaluation"),
    Column("geometry", "text", "", "layer sizes that bytes were counted with"),
    Column("overhead_flops", "number", "", "operations of a token in what the method adds"),
    Column("static_bytes", "number", "B", "bytes that every token uses, pinned in DRAM first"),
    Column("resident_bytes", "number", "B", "static bytes that fit in DRAM"),
    Column("weight_bytes", "number", "B", "all weights as the point stores them, masks included"),
    Column("weight_bytes_dense", "number", "B", "the same bits with every weight stored, no code"),
    Column("weight_bytes_16bit", "number", "B", "the same weights, each in 16 bits"),
    Column("excess_bytes", "number", "B", "static bytes streamed from Flash for each token"),
    Column("reads", "text", "", "JSON of the counts behind the speed; for lru, hits by % cached"),
    Column("task_keys", "text", "", "JSON list of the tasks behind the point"),
    Column("parameters", "text", "", "JSON of the method's own parameters, defaults included"),
    Column("ppl_full", "number", "", "perplexity of the dense model before quantisation"),
    Column("activation", "text", "", "what took the place of the MLPs' activation; empty: nothing"),
    Column("distil_tokens", "count", "", "tokens that the MLPs have learnt this activation on"),
    Column("zeros", "number", "", "share of exact zeros it makes in the dense model, of its GLU"),
    Column("asked_per_slot", "number", "", "units that a token uses over slots of the cache, mean"),
    Column("asked_above_slots", "number", "", "share of tokens and caches where that is above 1"),
    # What the names of method, selector and policy stand for.
    Column("series", "text", "", "what is compared as one line: the method with its selector"),
    Column("bound", "flag", "", "method or policy knows the future: no device can run the point"),
    Column("policy_offline", "flag", "", "the policy knows the future"),
    Column("policy_rank", "count", "", "place of the policy from the simplest on; decides ties"),
    Column("context", "count", "", "tokens that the KV cache holds"),
    Column("decided", "text", "", "JSON: by budget, whether it is surely within, beyond or open"),
    Column("kl", "number", "nat", "KL(dense ‖ this model) of the next token, mean over tokens"),
    Column("kl_low", "number", "nat", "lower end of its 95 % interval"),
    Column("kl_high", "number", "nat", "upper end of its 95 % interval"),
    Column("flip_rate", "number", "", "share of tokens whose most likely next token is another"),
    Column("flip_rate_low", "number", "", "lower end of its 95 % interval"),
    Column("flip_rate_high", "number", "", "upper end of its 95 % interval"),
    Column("announced", "text", "", "JSON: precision and recall of masks announced ahead"),
    Column("linear_density", "number", "", "share of attention and MLP weights that a token uses"),
    Column("dense_tokens", "count", "", "first tokens of a window that the method left alone"),
    # Flash as it is.
    Column("tokens_per_s_paper", "number", "1/s", "the same if a read cost its bytes alone"),
    Column("energy_j_low", "number", "J", "energy of a token, at the least"),
    Column("energy_j_high", "number", "J", "energy of a token, at the most"),
    Column("chunk", "count", "", "neighbouring units that are chosen, cached and read as one"),
    Column("layout", "text", "", "order of the units in Flash, where a read has a cost"),
    Column("flash_law", "text", "", "JSON: what a read costs on the device, and its processor"),
    Column("preload_layers", "count", "", "layers that are announced and read ahead together"),
    Column("reads_per_token", "number", "", "reads of Flash for a token's misses, mean"),
    Column("mean_read_bytes", "number", "B", "bytes of such a read, mean"),
    Column("wasted", "number", "", "share of the bytes read that no mask asked for"),
    Column("read_sizes", "text", "", "JSON: by group, reads of so many bytes and more"),
    # Mixtures of experts.
    Column("lam", "number", "", "λ: worth of a second of reads, or bias of cached experts"),
    Column("swaps", "number", "", "share of the used experts that the router had not chosen"),
    Column("misses_per_token", "number", "", "experts read from Flash for a token, mean"),
    Column("pool", "flag", "", "the experts of all layers share one cache"),
    Column("tokens_per_s_ahead", "number", "1/s", "the same with announced experts read ahead"),
    Column("wasted_bytes_per_token", "number", "B", "announced experts that were read in vain"),
    # How reports name what a sweep file names.
    Column("model_title", "text", "", "name of the model for a reader"),
    Column("text_title", "text", "", "name of the evaluation text for a reader"),
)

OPTIONAL_COLUMNS: tuple[Column, ...] = (
    Column("cache_shares", "text", "", "what each group gets of the caches' bytes; empty: alike"),
    # Reads that were done (sweep replay), and what models of the disk that did them predict.
    Column("predicted_tokens_per_s_paper", "number", "1/s", "of the reads alone, by bandwidth"),
    Column("predicted_tokens_per_s_affine", "number", "1/s", "the same by latency and bandwidth"),
    Column("predicted_tokens_per_s_curve", "number", "1/s", "the same by the curve of the disk"),
    Column("measured_tokens_per_s", "number", "1/s", "of the reads alone, when they were done"),
    Column("measured_tokens_per_s_low", "number", "1/s", "the same in the slowest repeat"),
    Column("measured_tokens_per_s_high", "number", "1/s", "the same in the fastest repeat"),
    Column("measured_verdict", "text", "", "valid, or why the reads say nothing of the storage"),
    Column("predicted_tokens_per_s_products", "number", "1/s", "of reads and 4-bit products"),
    Column("measured_tokens_per_s_products", "number", "1/s", "the same, when both were done"),
    Column("measured_tokens_per_s_products_low", "number", "1/s", "the same, slowest repeat"),
    Column("measured_tokens_per_s_products_high", "number", "1/s", "the same, fastest repeat"),
)
"""Columns that a table has only where a point of it has a value."""


def schema(tasks: Iterable[str] = (), optional: Collection[str] = ()) -> pa.Schema:
    """Arrow schema of a results table with one `acc_<task>` column for each downstream task, and
    those optional columns that are named."""
    names = tuple(tasks)
    more = [column for column in OPTIONAL_COLUMNS if column.name in optional]
    accuracies = [Column(f"acc_{task}", "number", "", f"accuracy on {task}") for task in names]
    beside = [column for task in names for column in _beside_accuracy(task)]
    return pa.schema([_field(c) for c in (*COLUMNS, *accuracies, *EXTRA_COLUMNS, *beside, *more)])


def _beside_accuracy(task: str) -> list[Column]:
    return [
        Column(f"acc_{task}{STDERR}", "number", "", f"standard error of the accuracy on {task}"),
        Column(f"acc_{task}{DENSE}", "number", "", f"accuracy of the dense model on {task}"),
    ]


def _field(column: Column) -> pa.Field:
    notes = {"unit": column.unit, "meaning": column.meaning}
    return pa.field(column.name, _TYPES[column.kind], metadata=notes)


SCHEMA = schema()


def empty_table(tasks: Iterable[str] = ()) -> pa.Table:
    """A results table with every column and no row."""
    return schema(tasks).empty_table()


def read_table(path: Path) -> pa.Table:
    """The results table in `path`.

    Raises ReportError when the file is absent, is no Parquet, or lacks a column of `COLUMNS`.
    """
    if not path.is_file():
        raise ReportError(f"{path}: no such file; a report needs the results table of a run")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"{path}: not a Parquet file that can be read: {error}") from error
    return check_table(table, str(path))


def check_table(table: pa.Table, source: str) -> pa.Table:
    """`table` itself when it has every column of `COLUMNS`, else a ReportError that names them."""
    absent = [column.name for column in COLUMNS if column.name not in table.column_names]
    if absent:
        raise ReportError("\n".join(f"{source}: {_absent(n, table.column_names)}" for n in absent))
    return table


def _absent(name: str, columns: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, columns, n=1)
    return f"no column {name!r}" + (f"; nearest is {near[0]!r}" if near else "")


def with_column(table: pa.Table, name: str, values: Sequence[Any]) -> pa.Table:
    """The table with other values in one of its columns."""
    place, field = table.column_names.index(name), table.schema.field(name)
    return table.set_column(place, field, pa.array(values, field.type))


def with_optional(table: pa.Table, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """The table with values of some of the `OPTIONAL_COLUMNS`, in place of those that it has."""
    for column in OPTIONAL_COLUMNS:
        if column.name in columns:
            field = _field(column)
            if column.name in table.column_names:
                table = table.drop_columns([column.name])
            table = table.append_column(field, pa.array(columns[column.name], field.type))
    return table


def rows(table: pa.Table | pd.DataFrame) -> list[Row]:
    """The rows of an Arrow table or a pandas frame as plain dictionaries; missing is None.

    The bulky `reads` are left out: of them rows have `reads_per_token` and `mean_read_bytes`, None
    where they are not known; rows of a device that says what a read costs have their own. Tables of
    older runs are completed by `with_facts`.
    """
    arrow = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table)
    check_table(arrow, "results table")
    names = [name for name in arrow.column_names if name != "reads"]
    records = with_facts(arrow.select(names).to_pylist())
    if "reads" not in arrow.column_names:
        return records
    sizes = _read_sizes(arrow.column("reads").to_pylist())
    return [
        row if row.get(READ_FIGURES[0]) is not None else row | sizes_of_row
        for row, sizes_of_row in zip(records, sizes, strict=True)
    ]


def _read_sizes(cells: Iterable[str | None]) -> Iterator[Row]:
    """The figures of `read_sizes` for each cell; equal cells are read once."""
    read: dict[str | None, Row] = {}
    for cell in cells:
        if cell not in read:
            figures = zip(READ_FIGURES, read_sizes(cell), strict=True)
            read[cell] = {n: x if math.isfinite(x) else None for n, x in figures}
        yield read[cell]


_FACTS = ("series", "bound", "policy_offline", "policy_rank")
_OLD_OFFLINE = ("belady", "min")
_OLD_RANKS = ("", "none", "lru", "lfu", "static")
_OLD_SELECTORS = {"cats": "layer-threshold", "cats+lora": "layer-threshold"}


def with_facts(rows: Iterable[Row]) -> list[Row]:
    """Rows as they are, where they have the columns of facts; rows of older runs with these added.

    Before there were such columns they were guessed from the names of built-in methods, selectors
    and policies, as here.
    """
    return [
        row if all(row.get(name) is not None for name in _FACTS) else _guessed(row) | _known(row)
        for row in rows
    ]


def _known(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None or name not in _FACTS}


def _guessed(row: Row) -> Row:
    """The facts of a row by its names."""
    method, selector, policy = (str(row.get(n) or "") for n in ("method", "selector", "policy"))
    if selector == "cache-aware":
        series = f"{method.removesuffix('-ca')}-ca"
    elif selector in ("", "none", "topk", _OLD_SELECTORS.get(method)):
        series = method
    else:
        series = f"{method} ({selector})"
    offline = policy in _OLD_OFFLINE
    return {
        "series": series,
        "bound": offline or "oracle" in method,
        "policy_offline": offline,
        "policy_rank": max(0, _OLD_RANKS.index(policy) - 1) if policy in _OLD_RANKS else 4,
    }


def accuracy_tasks(names: Iterable[str]) -> tuple[str, ...]:
    """The downstream tasks that have a column among `names`."""
    columns = [name for name in names if name.startswith("acc_")]
    extra = {name + end for name in columns for end in (STDERR, DENSE)}
    return tuple(name.removeprefix("acc_") for name in columns if name not in extra)
