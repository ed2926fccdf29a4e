"""`cache_shares` of an entry: an axis of points, what it plans, and what the table says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.findings.points import configuration, points
from reports.results import OPTIONAL_COLUMNS, read_table, rows
from sweep.errors import InputError
from sweep.plan import grid
from sweep.plan.grid import Grid
from sweep.plan.point import Point
from sweep.spec import file as spec
from tests.sweep import tinysweep

DIP = {"method": "dip", "density": 0.7}


def expand(*methods: Any, **changes: Any) -> Grid:
    body = {
        "models": "smollm2-135m",
        "methods": list(methods),
        "devices": [{"device": "apple-a18", "dram_gb": 0.075}],
        **changes,
    }
    return grid.expand(spec.from_mapping({"sweeps": {"s": body}}).sweeps["s"])


def shares(*written: Any, method: Any = DIP) -> list[dict[str, float]]:
    found = expand({**method, "cache_shares": list(written)}).points
    return [dict(p.cache_shares) for p in found]


def test_each_way_to_share_is_a_point_and_equal_ways_are_one() -> None:
    ways = [0, {"input": 0.3}, {"intermediate": 0.7}, "equal", 0.5, "by-bytes"]
    assert shares(*ways) == [
        {"input": 0.0, "intermediate": 1.0},
        {"input": 0.3, "intermediate": 0.7},
        {"input": 0.5, "intermediate": 0.5},
        {},
    ]
    ranged = expand({**DIP, "cache_shares": {"from": 0, "to": 1, "step": 0.25}}).points
    assert [p.cache_shares[0][1] for p in ranged] == [0, 0.25, 0.5, 0.75, 1]
    assert len({p.key for p in ranged}) == 5
    one = expand({**DIP, "cache_shares": {"input": 0.25}}).points
    assert one == ranged[1:2]


def test_the_default_has_the_key_that_it_always_had() -> None:
    (plain,) = expand(DIP).points
    (written,) = expand({**DIP, "cache_shares": "by-bytes"}).points
    assert plain == written
    assert plain.key == written.key == "b5218e303218ec00"


def test_where_there_is_nothing_to_share_all_ways_are_one_point() -> None:
    assert shares(0, 0.3, "equal", method={"method": "glu", "density": 0.7}) == [{}]
    assert shares(0, 0.3, "equal", method={**DIP, "policies": "none"}) == [{}]
    assert shares(0, method={"method": "dense"}) == [{}]


def test_what_a_method_cannot_share_so_is_left_out_with_the_reason() -> None:
    found = expand({**DIP, "cache_shares": [{"neuron": 1}, {"input": 0.3, "intermediate": 0.3}, 1]})
    assert [p.cache_shares for p in found.points] == [(("input", 1.0), ("intermediate", 0.0))]
    reasons = {skipped.reason: skipped.points for skipped in found.skipped}
    assert reasons == {
        "dip: cache_shares of neuron, and the groups are input, intermediate": 1,
        "dip: cache_shares input 0.3, intermediate 0.3: the shares of a cache are 1 together": 1,
    }
    with pytest.raises(InputError, match="is a share for inputs"):
        expand({"method": "hire", "density": 0.5, "cache_shares": 0.3})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (1.5, "1.5 is given; a number of at least 0 and up to 1 is expected"),
        ("by-byte", "unknown way to share a cache 'by-byte'; did you mean by-bytes?"),
        ([{"inputs": 0.3}], "unknown group 'inputs'; did you mean input?"),
        ([{"input": "half"}], "a number of at least 0 and up to 1 is expected"),
        ([{}], "a share for a group is expected"),
        ({"from": 0, "to": 2, "step": 1}, "2 is given; a number of at least 0 and up to 1"),
        ([True], "a number of at least 0 and up to 1"),
    ],
)
def test_what_is_no_share_is_said_with_its_place(written: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        expand({**DIP, "cache_shares": written})
    assert "sweeps.s.methods[0].cache_shares" in str(caught.value)
    assert words in str(caught.value)


def slots_of(plan: Any, point: Point) -> dict[str, int]:
    (planned,) = [p for p in plan.points if p.point == point]
    return plan.tasks[planned.simulate_keys[0]].payload["slots"]


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("shares")
    sweep = tinysweep.sweep_of(
        tiny_llama,
        folder,
        tiny_text,
        "dense",
        {"method": "dip", "density": 0.5, "cache_shares": [0, "by-bytes", 1], "gamma": [1, 0.3]},
        windows=1,
    )
    tinysweep.run(sweep, folder / "out")
    return sweep, folder / "out"


def test_shares_are_slots_of_the_tasks_and_a_column_of_the_table(
    finished: tuple[Any, Path],
) -> None:
    sweep, out = finished
    plan = tinysweep.planned(sweep)
    listed = rows(read_table(out / "results.parquet"))
    told = [row["cache_shares"] for row in listed]
    first, last = "input 0, intermediate 1", "input 1, intermediate 0"
    assert told == ["", first, "", last, first, "", last]
    plain = [p.point for p in plan.points if p.point.method == "dip" and p.point.gamma == 1]
    by_way = {p.cache_shares and p.cache_shares[0][1]: slots_of(plan, p) for p in plain}
    assert by_way[0.0]["input"] <= by_way[()]["input"] <= by_way[1.0]["input"]
    assert by_way[0.0]["intermediate"] > by_way[()]["intermediate"] > by_way[1.0]["intermediate"]
    assert len({row["hit_rate"] for row in listed if row["gamma"] == 1}) == 4  # dense: none
    assert len({row["ppl"] for row in listed if row["gamma"] < 1}) == 3  # masks know the cache
    written = read_table(out / "results.parquet").to_pylist()
    counts = json.loads(written[1]["reads"])
    assert {name: group["share"] for name, group in counts.items()} == {
        "input": 0.0,
        "intermediate": 1.0,
    }
    assert "share" not in json.loads(written[2]["reads"])["input"]


def test_reports_name_the_shares(finished: tuple[Any, Path]) -> None:
    told = [configuration(p) for p in points(rows(read_table(finished[1] / "results.parquet")))]
    assert told[1] == "dip · density 0.5 · cache shares input 0, intermediate 1 · paper · lfu"
    assert told[2] == "dip · density 0.5 · paper · lfu"


def test_a_table_that_shares_no_cache_otherwise_has_no_such_column(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, "dense", windows=1)
    done, _ = tinysweep.run(sweep, tmp_path / "out")
    assert not {column.name for column in OPTIONAL_COLUMNS} & set(done.table.column_names)
