"""What-if in the browser where a read has a cost: latency, and reads in flight."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import reports
from reports.findings.pricing import law_of, parse, speed_in
from reports.pages.page_counts import counts_document
from reports.reading.run import Run, load
from simulator import Device, ReadCost, allocate, footprint, throughput
from simulator.cache_shares import shared_slots, weights
from simulator.footprint import Footprint, GroupSize
from simulator.misses import miss_masks
from simulator.packing import unpack
from simulator.phase_reads import PhaseReads, phase_reads
from simulator.read_classes import at_cost, merged, octaves, reads_by_class, seconds_of
from simulator.read_plans import reads_by_size
from sweep.results.flash import law
from tests.reports import counted, synthetic
from tests.reports.browser import NEEDS_BROWSER, Page

pytestmark = [NEEDS_BROWSER, pytest.mark.timeout(180)]
TOKENS = sum(counted.LENGTHS)
GB = counted.dram_sizes()[1]
AFFINE = {"name": "affine", "latency_us": 3.0, "compute_gbps": 40.0, "head_ms": 0.01}
CURVE: dict[str, Any] = {
    "name": "curve",
    "io_depth": 8,
    "flash": {
        "depth": {
            1: [[64, 0.02], [512, 0.12], [4096, 0.4], [65536, 1.2]],
            8: [[64, 0.1], [512, 0.5], [4096, 1.1], [65536, 2.0]],
        }
    },
}


def device(fields: dict[str, Any], **changed: float) -> Device:
    speeds = {"dram_gb": GB, "flash_gbps": 0.5, "dram_gbps": counted.DRAM_GBPS}
    return Device.load({**speeds, **fields, **changed})


def read(given: Any, policy: str, on: Device) -> dict[str, PhaseReads]:
    """Reads of all phases of a group, planned for a device."""
    cost = on.read_cost()
    assert isinstance(cost, ReadCost)
    sizes = footprint(counted.GEOMETRY, given.trace.units, counted.STORAGE)
    slots = {n: int(allocate(sizes, GB * 1e9).fraction * u) for n, u in given.trace.units.items()}
    found: dict[str, list[PhaseReads]] = {}
    for group, _, _, packed in given.trace.blocks():
        units = given.trace.units[group]
        masks = unpack(packed, units)
        missed = unpack(miss_masks(packed, slots[group], policy, units=units), units)
        columns, histogram = reads_by_size(missed, sizes.groups[group].unit_bytes, cost)
        used, late = (m.sum(axis=1, dtype=np.int64) for m in (masks, missed))
        found.setdefault(group, []).append(phase_reads(used, late, *columns, histogram))
    return {group: parts[0].merge(parts[1:]) for group, parts in found.items()}


Classed = dict[str, tuple[PhaseReads, list[Any], NDArray[np.float64]]]


def read_by_class(given: Any, policy: str, on: Device, other: Device) -> Classed:
    """The same, with classes of size, and the exact seconds of each pair on another device."""
    cost, there = on.read_cost(), other.read_cost()
    assert isinstance(cost, ReadCost)
    assert isinstance(there, ReadCost)
    sizes = footprint(counted.GEOMETRY, given.trace.units, counted.STORAGE)
    slots = {n: int(allocate(sizes, GB * 1e9).fraction * u) for n, u in given.trace.units.items()}
    of: dict[str, list[tuple[PhaseReads, Any, PhaseReads]]] = {}
    for group, _, _, packed in given.trace.blocks():
        units = given.trace.units[group]
        masks = unpack(packed, units)
        missed = unpack(miss_masks(packed, slots[group], policy, units=units), units)
        asked = sizes.groups[group].unit_bytes, cost
        (count, size, seconds), rows = reads_by_class(missed, *asked)
        each = [reads_by_class(missed[t : t + 1], *asked)[1] for t in range(len(missed))]
        exactly = np.array(
            [seconds_of(one, there) for one in each]
        )  # of a token hardly two share a class
        used, late = (m.sum(axis=1, dtype=np.int64) for m in (masks, missed))
        both = [phase_reads(used, late, count, size, s, octaves(rows)) for s in (seconds, exactly)]
        of.setdefault(group, []).append((both[0], rows, both[1]))
    return {
        group: (
            parts[0][0].merge(part[0] for part in parts[1:]),
            merged(part[1] for part in parts),
            parts[0][2].merge(part[2] for part in parts[1:]).seconds,
        )
        for group, parts in of.items()
    }


def speed(came: dict[str, PhaseReads], on: Device) -> Any:
    phases = {name: one.phases for name, one in came.items()}
    return throughput(counted.GEOMETRY, on, phases, TOKENS, counted.STORAGE, reads=came)


def row(
    name: str,
    policy: str,
    on: Device,
    came: dict[str, PhaseReads],
    classes: dict[str, list[Any]] | None = None,
) -> dict[str, Any]:
    base = counted._row(None, policy, GB, 0.5, "overlap")
    sizes = footprint(counted.GEOMETRY, list(came), counted.STORAGE)
    slots = {n: int(allocate(sizes, GB * 1e9).fraction * g.units) for n, g in sizes.groups.items()}
    priced = speed(came, on)
    text = {
        group: {
            "units": sizes.groups[group].units,
            "layers": sizes.groups[group].layers,
            "unit_bytes": sizes.groups[group].unit_bytes,
            "slots": slots[group],
            "phases": one.phases.to_json(),
            "came": one.to_json() | ({"classes": classes[group]} if classes else {}),
            "used_by_layer": [],
            "hits_by_layer": [],
        }
        for group, one in came.items()
    }
    dense = name == "dense"
    return base | {
        "point_key": f"{abs(hash((name, policy, on.name))):016x}"[:16],
        "method": name,
        "series": name,
        "density": 1.0 if dense else 0.5,
        "delta_ppl": 0.0 if dense else 0.1,
        "device": on.name,
        "flash_law": json.dumps(law(on)),
        "static_bytes": sizes.static_bytes,
        "tokens_per_s": priced.tokens_per_s,
        "tokens_per_s_dense": speed({}, on).tokens_per_s,
        "flash_bytes_per_token": priced.flash_bytes_per_token,
        "dram_bytes_per_token": priced.dram_bytes_per_token,
        "hit_rate": priced.hit_rate,
        "reads": json.dumps(text),
        "tokens_per_s_paper": 2 * priced.tokens_per_s,
        "layout": None if dense else "hot",
        "chunk": 1 if dense else 4,
        "wasted": 0.25,
    }


CLASSED = {**CURVE, "name": "classed", "compute_gbps": 40.0}
SLOW = device(CLASSED, io_depth=1)
CASES = [(name, policy) for name in ("dip", "glu") for policy in ("none", "lfu")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "reads"
    rows = [
        row(name, policy, on, read(counted.traced(name), policy, on) if name != "dense" else {})
        for on in (device(AFFINE), device(CURVE))
        for name, policy in [("dense", "none"), *CASES]
    ]
    for name, policy in CASES:
        by_class = read_by_class(counted.traced(name), policy, device(CLASSED), SLOW)
        came = {group: one for group, (one, _, _) in by_class.items()}
        classes = {group: listed for group, (_, listed, _) in by_class.items()}
        rows.append(row(name, policy, device(CLASSED), came, classes))
    table = pa.Table.from_pylist(rows, schema=synthetic.reports.SCHEMA)
    synthetic.run_folder(folder, table, budgets=("10%",))
    reports.build(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load(folder)


@pytest.fixture
def opened(page: Page, folder: Path) -> Iterator[Page]:
    page.show(folder / "report.html")
    page.wait("document.documentElement.dataset.counts === 'yes'")
    yield page
    assert page.complaints() == []


def test_the_counts_give_the_speeds_of_the_table(run: Run) -> None:
    document = counts_document(run)
    assert min(document["of"]) >= 0
    for point, stored, written in zip(run.points, run.rows, run.reads, strict=True):
        groups = parse(written) or ()
        law_in = law_of(stored["flash_law"])
        found = speed_in(point.setting, groups, stored["static_bytes"], law_in)
        assert found == pytest.approx(point.tokens_per_s, rel=1e-9)


def priced(page: Page, i: int, **w: float) -> Any:
    given = {"flash": 0.5e9, "dram": counted.DRAM_GBPS * 1e9, "size": GB * 1e9, "gb": GB}
    return page.js(
        "(([i, w]) => { const f = priced(i, w); return [f.tokens_per_s, f.most, f.exact, f.about,"
        " f.flash_bytes_per_token]; })(arguments[0])",
        [i, {**given, "timing": "overlap", **w}],
    )


def points_on(run: Run, name: str) -> list[int]:
    return [i for i, p in enumerate(run.points) if p.setting.device == name]


def test_another_latency_is_exact_or_between_two_bounds(opened: Page, run: Run) -> None:
    rng = np.random.default_rng(0)
    exact = between = 0
    for i in points_on(run, "affine"):
        point, stored = run.points[i], run.rows[i]
        given = None if point.dense else counted.traced(point.method)
        planned = {} if given is None else read(given, point.policy, device(AFFINE))
        for k in range(12):
            times = float(10 ** rng.uniform(-1, 1))
            flash = 0.5 * (1 / times if k % 2 else float(10 ** rng.uniform(-1, 1)))
            on = device(AFFINE, latency_us=3.0 * times, flash_gbps=flash)
            low, most, sure, about, read_bytes = priced(
                opened, i, latency=3e-6 * times, flash=flash * 1e9
            )
            same_plan = speed(planned, on)
            assert low == pytest.approx(same_plan.tokens_per_s, rel=1e-6)
            assert read_bytes == pytest.approx(same_plan.flash_bytes_per_token, rel=1e-6)
            best = {} if given is None else read(given, point.policy, on)
            truth = speed(best, on).tokens_per_s
            assert low * (1 - 1e-9) <= truth <= most * (1 + 1e-6), stored["point_key"]
            assert sure == (k % 2 == 1 or point.dense or most <= low * (1 + 1e-9))
            assert not about
            exact, between = exact + sure, between + (not sure)
    assert min(exact, between) > 10


def test_another_depth_is_an_estimate_near_the_simulator(opened: Page, run: Run) -> None:
    """The reads stay as they were planned; each class of sizes is taken at one size."""
    for i in points_on(run, "curve"):
        point = run.points[i]
        as_simulated = priced(opened, i)
        assert as_simulated[0] == pytest.approx(point.tokens_per_s, rel=1e-6)
        assert as_simulated[2:4] == [True, False]
        found = priced(opened, i, depth=1)
        on = device(CURVE, io_depth=1)
        if point.dense:
            assert found[0] == pytest.approx(speed({}, on).tokens_per_s, rel=1e-6)
            continue
        truth = speed(read(counted.traced(point.method), point.policy, on), on).tokens_per_s
        assert found[3] is True
        assert 0.6 * truth < found[0] < 1.1 * truth  # another plan of reads is better there
        assert found[0] < 0.9 * as_simulated[0]


def test_by_classes_of_size_another_depth_is_within_half_a_per_cent(opened: Page, run: Run) -> None:
    assert points_on(run, "classed")
    for i in points_on(run, "classed"):
        point = run.points[i]
        assert priced(opened, i)[0] == pytest.approx(point.tokens_per_s, rel=1e-6)
        by_class = read_by_class(counted.traced(point.method), point.policy, device(CLASSED), SLOW)
        fast, slow = (on.read_cost() for on in (device(CLASSED), SLOW))
        assert isinstance(fast, ReadCost)
        assert isinstance(slow, ReadCost)
        came = {name: one for name, (one, _, _) in by_class.items()}
        twin = {
            name: replace(
                one,
                seconds=at_cost(one.reads, one.bytes, one.seconds, by_class[name][1], fast, slow),
            )
            for name, one in came.items()
        }
        exact = {name: replace(one, seconds=by_class[name][2]) for name, one in came.items()}
        found = priced(opened, i, depth=1)
        assert found[3] is True
        assert found[0] == pytest.approx(speed(twin, SLOW).tokens_per_s, rel=1e-6)
        assert found[0] == pytest.approx(speed(exact, SLOW).tokens_per_s, rel=0.005)
        for name, one in twin.items():
            assert one.seconds_total == pytest.approx(by_class[name][2].sum(), rel=0.005)
    k = next(k for k, s in enumerate(run.settings) if s.device == "classed")
    opened.run(f"state.setting = {k}; resetDevice();")
    opened.choose("w-depth", "1", "input")
    opened.wait("live.on && live.points.length > 0")
    assert "within 0.5 %" in opened.js("document.getElementById('w-note').textContent")


def test_groups_share_a_cache_as_the_simulator_has_it(opened: Page) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        names = ["a", "b", "c"][: rng.integers(2, 4)]
        sizes = {
            n: GroupSize(
                int(rng.integers(1, 99)), float(rng.integers(1, 99)), int(rng.integers(1, 4))
            )
            for n in names
        }
        slots = {n: int(rng.integers(0, g.units + 1)) for n, g in sizes.items()}
        shares = ((names[0], float(rng.choice([0, 0.3, 1]))),)
        whole = Footprint(0, sizes)
        share = weights(whole, shares)
        groups = [
            {"units": g.units, "bytes": g.unit_bytes, "layers": g.layers, "size": g.total_bytes}
            | {"share": share[n]}
            for n, g in sizes.items()
        ]
        found = opened.js("sharedSlots(...arguments[0])", [groups, list(slots.values())])
        assert found == list(shared_slots(whole, slots, shares).values())
    assert opened.js("sharedSlots([{units: 3, bytes: 1, layers: 1, size: 3}], [2])") == [2]


def test_details_name_layout_and_chunk(opened: Page, run: Run) -> None:
    (i,) = [
        i
        for i in points_on(run, "curve")
        if run.points[i].method == "dip" and run.points[i].policy == "lfu"
    ]
    opened.run("showPoint(arguments[0])", i)
    text = opened.js("document.getElementById('detail-body').innerText")
    part = text.split("Flash as it is")[1]
    for words in ("hot", "4 units", "25", "tok/s"):
        assert words in part
    assert "chunks of 4 · hot order" in text


def test_sliders_are_those_of_the_device(opened: Page, run: Run) -> None:
    shown = "[...document.querySelectorAll('.slider')].filter((s) => !s.hidden).length"
    names = "sliders().join(' ')"
    places = {s.device: k for k, s in enumerate(run.settings)}
    for name, expected in (("affine", "flash dram size latency"), ("curve", "dram size depth")):
        opened.run(f"state.setting = {places[name]}; resetDevice();")
        assert opened.js(names) == expected
        assert opened.js(shown) == len(expected.split())
        assert opened.js("live.on") is False
    opened.choose("w-depth", "1", "input")
    opened.wait("live.on && document.querySelectorAll('#w-cards .card').length > 0")
    assert "≈" in opened.js("document.getElementById('w-note').textContent")
    opened.run(f"state.setting = {places['affine']}; resetDevice();")
    opened.choose("w-latency", "30", "input")
    opened.wait("live.on && live.device.latency > 2e-5")
    assert "guaranteed" in opened.js("document.getElementById('w-note').textContent")
