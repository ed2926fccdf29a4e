"""What the store keeps: all that was written, nothing that was damaged, one writer at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator import Trace
from sweep.errors import InputError, StoreLockedError
from sweep.files.atomic import WriteError
from sweep.store import artefacts, journal
from sweep.store.store import DamagedError, Store
from sweep.tasks.run import Record


def record(key: str = "0123456789abcdef", **fields: Any) -> Record:
    base = Record(
        key, "evaluate", f"label of {key}", "done", {"windows": [0]}, {"nll": [1.25], "tokens": 3}
    )
    return replace(base, **fields)


def fill(folder: Path, *records: Record) -> None:
    with Store(folder) as store:
        for one in records:
            store.add(one)


def lines(folder: Path) -> list[bytes]:
    return (folder / "journal.jsonl").read_bytes().splitlines()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A store of three records, a to c."""
    fill(tmp_path, record("a"), record("b"), record("c", status="failed", error="no"))
    return tmp_path


# -- journal ---------------------------------------------------------------------------------


def test_what_is_added_is_read_again(three: Path) -> None:
    again = Store(three)
    assert set(again.records) == {"a", "b", "c"}
    assert again.records["b"] == record("b")
    assert again.done("b") == record("b")
    assert again.done("c") is None
    assert again.done("d") is None
    assert again.latest("evaluate", "label of a") == record("a")
    assert again.latest("simulate", "label of a") is None
    assert again.damaged == []


def test_a_record_is_on_the_disk_when_add_returns(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(record("a"))
        assert Store(tmp_path).records == {"a": record("a")}


def test_the_last_record_of_a_key_counts(tmp_path: Path) -> None:
    fill(tmp_path, record("a", status="failed", error="no"), record("a"))
    assert Store(tmp_path).done("a") == record("a")
    assert len(lines(tmp_path)) == 2


texts = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(error=texts, log=texts, result=st.dictionaries(texts, values, max_size=4))
def test_any_text_and_number_survives(
    tmp_path: Path, error: str, log: str, result: dict[str, Any]
) -> None:
    one = record("any", error=error, log=log, result=result)
    fill(tmp_path, one)
    again = Store(tmp_path)
    assert again.records["any"] == one
    assert again.damaged == []


def test_half_a_character_does_not_stop_a_run(tmp_path: Path) -> None:
    """A file name that is no UTF-8 comes as a lone surrogate, in a message or a log."""
    one = record("a", error="no file 'caf\udce9'", log="\ud800")
    fill(tmp_path, one)
    assert Store(tmp_path).records["a"].error == one.error
    assert Store(tmp_path).damaged == []


def test_a_folder_without_a_journal_is_an_empty_store(tmp_path: Path) -> None:
    assert Store(tmp_path / "nowhere").records == {}
    assert not (tmp_path / "nowhere").exists()


def test_a_line_cut_short_is_lost_alone(three: Path) -> None:
    """As after a crash while the last line was written."""
    journal = three / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])
    damaged = Store(three)
    assert set(damaged.records) == {"a", "b"}
    assert damaged.damaged == ["journal.jsonl line 3"]
    fill(three, record("d"))
    again = Store(three)
    assert set(again.records) == {"a", "b", "d"}
    assert again.damaged == []
    assert (three / "journal.damaged").read_bytes().startswith(b'{"sum"')


def test_a_last_line_without_its_newline_is_kept(three: Path) -> None:
    journal = three / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-1])
    fill(three, record("d"))
    assert set(Store(three).records) == {"a", "b", "c", "d"}
    assert Store(three).damaged == []


@pytest.mark.parametrize("place", [3, 12, 60, -3, -1])
def test_a_byte_that_flipped_is_noticed(three: Path, place: int) -> None:
    journal = three / "journal.jsonl"
    every = lines(three)
    bad = bytearray(every[1])
    bad[place] ^= 1
    journal.write_bytes(b"\n".join([every[0], bytes(bad), every[2]]) + b"\n")
    damaged = Store(three)
    assert set(damaged.records) == {"a", "c"}
    assert damaged.damaged == ["journal.jsonl line 2"]
    fill(three)
    assert lines(three) == [every[0], every[2]]
    assert bytes(bad) in (three / "journal.damaged").read_bytes()


@pytest.mark.parametrize("content", [b"\x00" * 50, b"{}\n", b'{"key": "a"}\n', b"[1]\n", b"null\n"])
def test_lines_that_are_no_records_are_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    store = Store(tmp_path)
    assert store.records == {}
    assert len(store.damaged) == 1
    fill(tmp_path, record("a"))
    assert set(Store(tmp_path).records) == {"a"}


def test_a_line_of_a_later_version_is_set_aside(three: Path) -> None:
    """A right checksum around fields that this version does not know."""
    body = json.dumps({"key": "z", "flavour": "new"}).encode()
    line = journal.sealed(body)
    with (three / "journal.jsonl").open("ab") as file:
        file.write(line)
    assert Store(three).damaged == ["journal.jsonl line 4"]


def test_nothing_is_added_to_a_store_that_is_not_open(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open for writing"):
        Store(tmp_path).add(record())


def test_a_store_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot read .*file"), Store(tmp_path / "file" / "s"):
        pass


# -- lock ------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from sweep.store.store import Store
with Store(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the store."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_told_of_the_first(held: subprocess.Popen[str], tmp_path: Path) -> None:
    with (
        pytest.raises(StoreLockedError, match=f"is in use by process {held.pid} on ") as caught,
        Store(tmp_path),
    ):
        pass
    assert caught.value.exit_code == 2
    assert f"process {held.pid}" in Store(tmp_path).holder()
    assert Store(tmp_path).records == {}


def test_a_writer_that_was_killed_holds_nothing(
    held: subprocess.Popen[str], tmp_path: Path
) -> None:
    held.kill()
    held.wait()
    assert Store(tmp_path).holder() == ""
    fill(tmp_path, record("a"))
    assert Store(tmp_path).done("a")


def test_the_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Store(tmp_path):
        raise KeyError("inside")
    assert Store(tmp_path).holder() == ""
    fill(tmp_path, record("a"))


def test_what_another_writer_added_meanwhile_is_seen(tmp_path: Path) -> None:
    mine = Store(tmp_path)
    fill(tmp_path, record("a"))
    with mine:
        assert mine.done("a")


# -- artefacts -------------------------------------------------------------------------------


def arrays() -> dict[str, np.ndarray]:
    return {"input": np.arange(12).reshape(3, 4), "a.weight": np.array([1.5], np.float32)}


def trace() -> Trace:
    made = Trace.empty({"input": 70}, 2, [5, 3])
    rng = np.random.default_rng(0)
    for layer in range(2):
        for window, tokens in enumerate((5, 3)):
            made.add(layer, "input", rng.random((tokens, 70)) < 0.4, window)
    return made


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)
    return a == b


@pytest.mark.parametrize("make", [arrays, trace])
def test_what_is_saved_is_loaded_again(tmp_path: Path, make: Any) -> None:
    with Store(tmp_path) as store:
        store.save("k", make())
    again = Store(tmp_path)
    assert again.keeps("k")
    assert same(again.load("k"), make())
    assert [p.name for p in (tmp_path / "artefacts").iterdir() if p.name.startswith(".")] == []


def test_what_was_never_saved_is_not_kept(tmp_path: Path) -> None:
    assert not Store(tmp_path).keeps("k")
    with pytest.raises(DamagedError, match="nothing is kept under k"):
        Store(tmp_path).load("k")


@pytest.mark.parametrize("make", [arrays, trace])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_artefact_is_set_aside(tmp_path: Path, make: Any, harm: str) -> None:
    with Store(tmp_path) as store:
        store.save("k", make())
    path = store.artefact("k")
    assert path is not None
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 16
    path.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[harm])
    again = Store(tmp_path)
    assert not again.keeps("k")
    assert again.damaged == [f"artefacts/{path.name}"]
    assert path.with_suffix(".damaged").exists()
    assert not again.keeps("k")
    again.save("k", make())
    assert same(again.load("k"), make())


@pytest.mark.parametrize("make", [arrays, trace])
def test_every_flipped_byte_is_noticed(tmp_path: Path, make: Any) -> None:
    store = Store(tmp_path)
    store.save("k", make())
    path = store.artefact("k")
    assert path is not None
    content = path.read_bytes()
    missed = []
    for place in range(len(content)):
        bad = bytearray(content)
        bad[place] ^= 4
        path.write_bytes(bytes(bad))
        try:
            if not same(store.load("k"), make()):
                missed.append(place)
        except DamagedError:
            pass
    assert missed == []


def test_a_save_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.save("k", arrays())

    def full(path: Path, value: Any, key: str) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(artefacts, "write", full)
    with pytest.raises(WriteError, match="no space"):
        store.save("k", {"input": np.zeros(2)})
    assert same(store.load("k"), arrays())
    assert len(os.listdir(tmp_path / "artefacts")) == 1
