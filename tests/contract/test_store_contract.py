"""The store keeps the rules of `sweep.contracts.stores`; its own files; writers that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.contracts import stores
from sweep.contracts.rules import ContractError, Rule
from sweep.contracts.store_trial import Factory, arrays, example, same
from sweep.errors import StoreLockedError
from sweep.files.atomic import WriteError
from sweep.store import artefacts, journal
from sweep.store.store import Store
from sweep.tasks.task import Record


@pytest.mark.parametrize("rule", stores.RULES, ids=lambda rule: rule.__name__)
def test_the_store_keeps_every_rule(rule: Rule[Factory]) -> None:
    rule(Store)


texts = st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(error=texts, log=texts, result=st.dictionaries(texts, values, max_size=4))
def test_any_record_survives(error: str, log: str, result: dict[str, Any]) -> None:
    stores.survives(Store, example("any", error=error, log=log, result=result))


# -- rules tell ------------------------------------------------------------------------------


class Lazy(Store):
    """Writes when it is closed."""

    def __enter__(self) -> Store:
        self.late: list[Record] = []
        return super().__enter__()

    def add(self, record: Record) -> None:
        self.late.append(record)

    def __exit__(self, *why: object) -> None:
        for record in self.late:
            super().add(record)
        super().__exit__(*why)


class First(Store):
    """Keeps the first record of a key."""

    def _keep(self, record: Record) -> None:
        if record.key not in self.records:
            super()._keep(record)


class Open(Store):
    """Takes no lock."""

    def _acquire(self) -> None:
        pass


class Silent(Store):
    """Says nothing of damage."""

    def _read_line(self, number: int, line: bytes) -> None:
        super()._read_line(number, line)
        self.damaged.clear()


class Trusting(Store):
    """Believes that what is there is what was saved."""

    def keeps(self, key: str) -> bool:
        return self.artefact(key) is not None


class Absent(Store):
    """Loads something where nothing is kept."""

    def load(self, key: str) -> Any:
        return super().load(key) if self.artefact(key) else {}


BROKEN: dict[type[Store], tuple[Rule[Factory], str]] = {
    Lazy: (stores.a_record_is_kept_when_add_returns, "is 0, not 1"),
    First: (stores.the_last_record_of_a_key_counts, "what is read again"),
    Open: (stores.a_second_writer_is_told_of_the_first, "is not refused with StoreLockedError"),
    Silent: (stores.a_byte_of_a_record_that_flipped_is_noticed, "damage is not named"),
    Trusting: (stores.a_damaged_artefact_is_set_aside, "`keeps` of arrays, cut, is"),
    Absent: (stores.what_was_never_saved_is_not_kept, "is not refused with DamagedError"),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_store_that_breaks_a_rule_is_told(kind: type[Store]) -> None:
    rule, how = BROKEN[kind]
    with pytest.raises(ContractError, match=how) as caught:
        rule(kind)
    assert str(caught.value).startswith(str(rule.__doc__).strip().rstrip("."))


# -- its own files ---------------------------------------------------------------------------


def fill(folder: Path, *records: Record) -> None:
    with Store(folder) as store:
        for record in records:
            store.add(record)


def lines(folder: Path) -> list[bytes]:
    return (folder / "journal.jsonl").read_bytes().splitlines()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A store of three records, a to c."""
    fill(tmp_path, example("a"), example("b"), example("c", status="failed", error="no"))
    return tmp_path


def test_a_line_cut_short_is_named_and_kept_for_a_look(three: Path) -> None:
    """As after a crash while the last line was written."""
    path = three / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    assert Store(three).damaged == ["journal.jsonl line 3"]
    fill(three)
    assert (three / "journal.damaged").read_bytes().startswith(b'{"sum"')


def test_a_last_line_without_its_newline_is_kept(three: Path) -> None:
    path = three / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    fill(three, example("d"))
    assert set(Store(three).records) == {"a", "b", "c", "d"}
    assert Store(three).damaged == []


@pytest.mark.parametrize("place", [3, 12, 60, -3, -1])
def test_a_line_with_a_flipped_byte_is_set_aside_alone(three: Path, place: int) -> None:
    path = three / "journal.jsonl"
    every = lines(three)
    bad = bytearray(every[1])
    bad[place] ^= 1
    path.write_bytes(b"\n".join([every[0], bytes(bad), every[2]]) + b"\n")
    assert Store(three).damaged == ["journal.jsonl line 2"]
    fill(three)
    assert lines(three) == [every[0], every[2]]
    assert bytes(bad) in (three / "journal.damaged").read_bytes()


def test_a_line_of_a_later_version_is_set_aside(three: Path) -> None:
    """A right checksum around fields that this version does not know."""
    body = json.dumps({"key": "z", "flavour": "new"}).encode()
    line = journal.sealed(body)
    with (three / "journal.jsonl").open("ab") as file:
        file.write(line)
    assert Store(three).damaged == ["journal.jsonl line 4"]


def test_a_superseded_line_stays(tmp_path: Path) -> None:
    fill(tmp_path, example("a", status="failed", error="no"), example("a"))
    assert len(lines(tmp_path)) == 2


def test_a_damaged_artefact_is_named_and_kept_for_a_look(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.save("k", arrays())
    path = store.artefact("k")
    assert path is not None
    path.write_bytes(b"")
    again = Store(tmp_path)
    assert not again.keeps("k")
    assert again.damaged == [f"artefacts/{path.name}"]
    assert path.with_suffix(".damaged").exists()


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


# -- writers that are killed -----------------------------------------------------------------

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


def test_a_writer_that_was_killed_holds_nothing(
    held: subprocess.Popen[str], tmp_path: Path
) -> None:
    error = StoreLockedError
    with pytest.raises(error, match=f"is in use by process {held.pid} on ") as caught:
        fill(tmp_path, example("a"))
    assert caught.value.exit_code == 2
    held.kill()
    held.wait()
    assert Store(tmp_path).holder() == ""
    fill(tmp_path, example("a"))
    assert Store(tmp_path).done("a")
