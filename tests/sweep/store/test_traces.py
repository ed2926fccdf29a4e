"""Traces in a store: as many as have room, others' first to go, and none after `gc --traces`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from simulator import Trace
from sweep.store.gc import gc
from sweep.store.store import Store
from sweep.store.traces import TraceRoom, trace_bytes, trace_files


def trace(tokens: int = 1000) -> Trace:
    made = Trace.empty({"g": 64}, 1, (tokens,))
    made.add(0, "g", np.ones((tokens, 64), np.bool_), 0)
    return made


def kept(store: Store) -> set[str]:
    return {path.stem for path in trace_files(store.folder)}


def test_traces_are_kept_until_they_fill_the_room(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        room = TraceRoom(store, 20_000, wanted={"a", "b", "c"})
        assert [room.keep(key, trace()) for key in "abc"] == [True, True, False]
        assert room.full
        assert kept(store) == {"a", "b"}
        assert trace_bytes(tmp_path) < 20_000


def test_traces_that_this_plan_does_not_need_give_way_the_oldest_first(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for age, key in enumerate(("old", "older", "mine")):
            store.save(key, trace())
            path = store.artefact(key)
            assert path is not None
            os.utime(path, (1000 - age, 1000 - age))
        room = TraceRoom(store, 30_000, wanted={"mine", "new"})
        assert room.keep("new", trace())
        assert kept(store) == {"old", "mine", "new"}


def test_no_room_and_no_trace_keep_nothing(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert not TraceRoom(store, 0, wanted=()).keep("a", trace())
        assert not TraceRoom(store, 1e9, wanted=()).keep("a", None)
        assert kept(store) == set()


def test_a_disk_that_is_full_costs_the_trace_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Store(tmp_path) as store:
        room = TraceRoom(store, 1e9, wanted=())
        monkeypatch.setattr("sweep.store.artefacts.write", full)
        assert not room.keep("a", trace())
        assert room.full
        assert kept(store) == set()


def test_gc_drops_all_traces_where_it_is_asked_to(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.save("a", trace())
        store.save("b", {"x": np.arange(3)})
        assert gc(store, dry_run=True, traces=True).files == 2  # neither has a record
        gc(store, traces=True)
        assert kept(store) == set()
