"""The results table: counts of finished tasks become figures, one row a point.

Throughput is a formula over counts, so a bandwidth changes nothing that was run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from reports.results import schema
from simulator import Footprint, PhaseCounts, Throughput, allocate, throughput
from simulator.phase_reads import PhaseReads
from sweep.downstream.merge import merged
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan, PlannedPoint, Scores
from sweep.plan.point import Point, paper_device
from sweep.plan.sizes import footprint_of, overhead_bytes, overhead_flops, part_of, slots_of
from sweep.results import demand, distances, experts, facts, flash, preloads
from sweep.results.counts import (
    announced_figures,
    linear_density,
    mean_zeros,
    merged_counts,
    merged_spread,
    reads_text,
    weight_columns,
)
from sweep.results.perplexity import Losses, delta_interval, ratio_interval
from sweep.store.store import Store
from sweep.tasks.task import Record

Row = dict[str, Any]

ROWS = 2000
"""Rows that are held as Python objects at a time."""


def build(plan: Plan, store: Store, materials: Materials) -> pa.Table:
    """One row for each planned point: done, failed (with its error) or missing."""
    maker = _Rows(plan, store, materials)
    optional = ("cache_shares",) if any(p.point.cache_shares for p in plan.points) else ()
    columns = schema([task.name for task, _ in materials.tasks()], optional)
    parts = [
        pa.Table.from_pylist([maker.row(p) for p in plan.points[i : i + ROWS]], schema=columns)
        for i in range(0, len(plan.points), ROWS)
    ]
    return pa.concat_tables(parts).combine_chunks() if parts else columns.empty_table()


def accuracies(plan: Plan, store: Store, materials: Materials) -> list[Row]:
    """Detail of every downstream task of each point that has been scored whole: groups, tasks,
    metrics, errors, documents, and what was read before and while tokens were generated."""
    maker = _Rows(plan, store, materials)
    return [
        {"point_key": planned.point.key, "method": planned.point.method, "tasks": detail}
        for planned in plan.points
        if (detail := maker.accuracies(planned.scores))
    ]


class _Rows:
    """Makes rows; what points share (losses, intervals, merged counts) is computed once."""

    def __init__(self, plan: Plan, store: Store, materials: Materials) -> None:
        self.tasks = plan.tasks
        self.store = store
        self.materials = materials
        self._memory: dict[Any, Any] = {}

    def row(self, planned: PlannedPoint) -> Row:
        point = planned.point
        names = (point.method, point.selector, point.policy)
        row = facts.identity(planned) | self._once(("facts", *names), facts.columns, point)
        row |= {"bos": self.materials.bos_of(point.model), **self._titles(point)}
        row["windows_asked"] = self._windows_asked(planned)
        failed = self._first_failure(planned.measured)
        if failed is not None:
            return row | {"status": "failed", "error": f"{failed.label}: {failed.error}"}
        begun = self._begun(planned)
        if begun is None:
            return row | {"status": "missing"}
        status = "done" if begun == planned else "partial"
        row |= self._accuracy(begun) | self._cost(begun) | {"status": status}
        results = [self._result(key) for key in begun.evaluate_keys]
        geometry = self.materials.geometry(point)
        row["linear_density"] = linear_density(geometry, row["mlp_density"], results)
        if figures := announced_figures(results):
            row["announced"] = json.dumps(figures)
        return row | self._downstream(planned)

    def _windows_asked(self, planned: PlannedPoint) -> int | None:
        """How many windows the sweep asks for; None where the tasks are not known."""
        tasks = [self.tasks[key] for key in planned.evaluate_keys if key in self.tasks]
        asked = planned.point.accuracy.windows  # which certainty goes beyond
        return (asked if tasks else 0) or sum(len(t.payload["windows"]) for t in tasks) or None

    def _titles(self, point: Point) -> Row:
        """How reports name the model and the text."""
        title = self.materials.title(point.model, point.swap)
        return {"model_title": title, "text_title": self.materials.text_title}

    def _begun(self, planned: PlannedPoint) -> PlannedPoint | None:
        """The point on the shards that are done for it and for what it is held against; None if
        there are none."""
        done = self.store.done
        if all(done(key) is not None for key in planned.measured):
            return planned
        if any(done(key) is None for key in planned.prepare):
            return None
        named = ("evaluate_keys", "dense_keys", "full_keys", "simulate_keys")
        of_shards = {name: keys for name in named if (keys := getattr(planned, name))}
        whole = [
            shard
            for shard in range(len(planned.evaluate_keys))
            if all(done(keys[shard]) is not None for keys in of_shards.values())
        ]
        if not whole:
            return None
        keys_of_whole = {name: tuple(keys[i] for i in whole) for name, keys in of_shards.items()}
        return replace(planned, **keys_of_whole)

    def _first_failure(self, keys: Iterable[str]) -> Record | None:
        return next((r for key in keys if (r := self._failure(key))), None)

    def _failure(self, key: str) -> Record | None:
        """The failure of a task, or of one that it needs and waits for."""
        record = self.store.records.get(key)
        if record is not None:
            return record if record.status == "failed" else None
        return next((r for needed in self.tasks[key].needs if (r := self._failure(needed))), None)

    # -- downstream tasks --------------------------------------------------------------------

    def _downstream(self, planned: PlannedPoint) -> Row:
        """Scores of the tasks that are done; one that failed is named, the point stays measured."""
        row: Row = {}
        failed = self._first_failure(planned.keys)
        if failed is not None:
            row["error"] = f"{failed.label}: {failed.error}"
        for name, accuracy in self.accuracies(planned.scores).items():
            row |= {f"acc_{name}": accuracy["score"], f"acc_{name}_stderr": accuracy["stderr"]}
        for name, accuracy in self.accuracies(planned.dense_scores).items():
            row[f"acc_{name}_dense"] = accuracy["score"]
        return row

    def accuracies(self, scores: Scores) -> dict[str, Any]:
        """By task, of those whose shards are all done."""
        return {
            name: self._once(("score", keys), self._merged_scores, name, keys)
            for name, keys in scores
            if all(self.store.done(key) is not None for key in keys)
        }

    def _merged_scores(self, name: str, keys: tuple[str, ...]) -> Any:
        task, card = next(entry for entry in self.materials.tasks() if entry[0].name == name)
        records = [self.store.records[key] for key in keys]
        return merged(task, card, [(r.payload["task"], r.result) for r in records])

    # -- accuracy ----------------------------------------------------------------------------

    def _accuracy(self, planned: PlannedPoint) -> Row:
        return self._once(
            ("accuracy", planned.evaluate_keys, planned.dense_keys), self._measure, planned
        )

    def _measure(self, planned: PlannedPoint) -> Row:
        sparse, dense = self._losses(planned.evaluate_keys), self._losses(planned.dense_keys)
        low, high = delta_interval(sparse, dense)
        ratio_low, ratio_high = ratio_interval(sparse, dense)
        results = [self._result(key) for key in planned.evaluate_keys]
        tokens = [result["tokens"] for result in results]
        densities = [result["mlp_density"] for result in results]
        return {
            "ppl": sparse.perplexity,
            "ppl_dense": dense.perplexity,
            "ppl_full": self._losses(planned.full_keys).perplexity,
            "delta_ppl": sparse.perplexity - dense.perplexity,
            "delta_ppl_low": _known(low),
            "delta_ppl_high": _known(high),
            "ppl_ratio_low": _known(ratio_low),
            "ppl_ratio_high": _known(ratio_high),
            "mlp_density": self._kept(planned) or float(np.average(densities, weights=tokens)),
            "tokens": sum(tokens),
            "windows": len(sparse.nll),
            "zeros": mean_zeros([self._result(key) for key in planned.dense_keys]),
            **self._distances(planned),
        }

    def _distances(self, planned: PlannedPoint) -> Row:
        """KL and flips to the dense run, where they were asked for and a density was, too."""
        if not planned.point.accuracy.distances or planned.point.lam is not None:
            return {}
        if planned.evaluate_keys == planned.dense_keys:
            return distances.OF_ITSELF
        return distances.columns(lambda name: self._losses(planned.evaluate_keys, name))

    def _kept(self, planned: PlannedPoint) -> float | None:
        """MLP density of statically pruned weights; None where the masks decide it."""
        if not planned.point.traits.static:
            return None
        return self._result(planned.weights)["mlp_density"]

    def _losses(self, keys: tuple[str, ...], counted: str = "nll") -> Losses:
        """Sums of each window, in the order of the text, so that none depends on how they were
        cut."""
        by_window: dict[int, tuple[float, float]] = {}
        for key in keys:
            result, windows = self._result(key), self.store.records[key].payload["windows"]
            losses = zip(result[counted], result["predicted"], strict=True)
            by_window |= dict(zip(windows, losses, strict=True))
        ordered = np.array([by_window[w] for w in sorted(by_window)], dtype=np.float64)
        return Losses(ordered[:, 0].copy(), ordered[:, 1].copy())

    # -- cost --------------------------------------------------------------------------------

    def _cost(self, planned: PlannedPoint) -> Row:
        point = planned.point
        counted = planned.simulate_keys or planned.evaluate_keys
        reads = self._once(("reads", counted), self._reads, counted) if point.traits.groups else {}
        tokens = sum(self._result(key)["tokens"] for key in planned.evaluate_keys)
        phases = {name: counts["phases"] for name, counts in reads.items()}
        stored = (point.model, point.geometry, point.quant, point.kv_bits, point.kv_tokens)
        pruned = (*stored, point.method, point.density, point.parameters, point.chunk)
        sizes, overhead = self._once(("sizes", *pruned), self._sizes, point)
        of_flash = {n: c["reads"] for n, c in reads.items() if c["reads"] is not None}
        speed = self._speed(point, phases, tokens, overhead, of_flash)
        device, geometry = point.device, self.materials.geometry(point)
        shards = map(self._result, counted)
        speed = preloads.speed(point, speed, sizes, tokens, shards)
        room = self._once(("room", *pruned, device.dram_gb), allocate, sizes, device.dram_gb * 1e9)
        slots, shares = slots_of(point, sizes, room), point.cache_shares
        text = (counted, planned.evaluate_keys, *pruned, *slots.values(), shares)
        spread = self._once(
            ("spread", planned.evaluate_keys, not reads), self._spread, reads, planned
        )
        known = (point, geometry, sizes, phases, tokens, speed)
        return {
            "cache_fraction": speed.cache_fraction if point.policy != "none" else 0.0,
            "hit_rate": speed.hit_rate,
            **demand.columns(phases, slots),
            **experts.columns(*known, map(self._result, planned.evaluate_keys)),
            **self._flash(point, phases, tokens, overhead, of_flash, sizes),
            **flash.energy(device, speed),
            "flash_bytes_per_token": speed.flash_bytes_per_token,
            "dram_bytes_per_token": speed.dram_bytes_per_token,
            "tokens_per_s": speed.tokens_per_s,
            "tokens_per_s_dense": self._once(
                ("dense", *stored, device, point.timing), self._dense_speed, point
            ),
            "overhead_bytes": overhead,
            "overhead_flops": overhead_flops(point, geometry),
            "static_bytes": sizes.static_bytes,
            "resident_bytes": room.resident_bytes,
            **weight_columns(geometry, self.materials.storage(point.as_dense()), sizes),
            "excess_bytes": room.excess_bytes,
            "reads": self._once(("text", *text), reads_text, reads, spread, sizes, slots, shares),
        }

    def _flash(
        self,
        point: Point,
        phases: dict[str, PhaseCounts],
        tokens: int,
        overhead: float,
        reads: Mapping[str, PhaseReads],
        sizes: Footprint,
    ) -> Row:
        """What a device that says what a read costs has beside the others."""
        if point.device.read_cost() is None:
            return {}
        paper = replace(point, device=paper_device(point.device))
        speed = self._speed(paper, phases, tokens, overhead).tokens_per_s
        return {"tokens_per_s_paper": speed, **flash.columns(point, reads, sizes, tokens)}

    def _sizes(self, point: Point) -> tuple[Footprint, float]:
        """Bytes of the model and of what the method needs beside it."""
        stored = (self.materials.geometry(point), self.materials.storage(point))
        return footprint_of(point, *stored), overhead_bytes(point, *stored)

    def _dense_speed(self, point: Point) -> float:
        """Of the dense model of the same weights on the same device, whatever the tokens."""
        return self._speed(point.as_dense(), {}, 1).tokens_per_s

    def _speed(
        self,
        point: Point,
        phases: dict[str, PhaseCounts],
        tokens: int,
        overhead: float = 0.0,
        reads: Mapping[str, PhaseReads] | None = None,
    ) -> Throughput:
        geometry, storage = self.materials.geometry(point), self.materials.storage(point)
        phases = phases or experts.uniform(geometry, storage, point.device, tokens)
        options = {"timing": point.timing, "chunk": point.chunk, "reads": reads}
        options["parts"] = part_of(point, geometry)
        return throughput(geometry, point.device, phases, tokens, storage, overhead, **options)

    def _reads(self, keys: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Counts of each group over all shards."""
        shards = [self._result(key)["groups"] for key in keys]
        return {name: merged_counts([shard[name] for shard in shards]) for name in shards[0]}

    def _spread(
        self, reads: Mapping[str, Any], planned: PlannedPoint
    ) -> dict[str, dict[str, list[int]]]:
        """By group and layer, the least, most and summed squares of units that a token used."""
        keys = planned.evaluate_keys if reads else ()
        shards = [self._result(key).get("spread", {}) for key in keys]
        names = shards[0] if shards else ()
        return {name: merged_spread([shard[name] for shard in shards]) for name in names}

    # -- helpers -----------------------------------------------------------------------------

    def _result(self, key: str) -> dict[str, Any]:
        return self.store.records[key].result

    def _once(self, identity: Any, make: Callable[..., Any], *arguments: Any) -> Any:
        if identity not in self._memory:
            self._memory[identity] = make(*arguments)
        return self._memory[identity]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
