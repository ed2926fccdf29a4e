"""Each kind of damage to a store: found, named, set aside and made again, to the same table."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.store.store import Store
from tests.chaos.conftest import Report
from tests.chaos.damage import DAMAGES, Damage
from tests.chaos.inside import Run
from tests.chaos.page import Fault
from tests.e2e.runs import Make

SEED = 30


@pytest.fixture
def small(write_sweep: Make) -> Path:
    """Ten tasks of all kinds but training, with their hand-overs kept."""
    methods = ["dense", {"method": "dip", "density": 0.5}]
    return write_sweep(
        methods=methods, policies=["lru", "static"], windows=2, shard_windows=1, keep_traces=True
    )


@pytest.fixture(scope="module")
def kept() -> dict[str, Path]:
    """An undamaged run of the small sweep, once a test has made it."""
    return {}


@pytest.fixture
def out(small: Path, kept: dict[str, Path], run: Run, tmp_path: Path) -> Path:
    """A copy of the undamaged run, with the sweep file that it was made from."""
    if not kept:
        code, _, err = run("run", "tiny", "--file", str(small), *options(tmp_path / "whole"))
        assert code == 0, err
        kept["out"] = tmp_path / "whole"
    shutil.copytree(kept["out"], tmp_path / "run")
    return tmp_path / "run"


def options(out: Path) -> tuple[str, ...]:
    return ("--out", str(out), "--workers", "0", "--no-report")


CASES = [
    pytest.param(damage, id=damage.name, marks=[] if number % 4 == 0 else [pytest.mark.slow])
    for number, damage in enumerate(DAMAGES)
]


@pytest.mark.parametrize("damage", CASES)
def test_damage(damage: Damage, out: Path, small: Path, run: Run, report: Report) -> None:
    table = (out / "results.parquet").read_bytes()
    if damage.needed_again:
        forget(out, lambda record: record["kind"] == "simulate")
    before = set(Store(out).records)
    damage.do(out, random.Random(f"{SEED} {damage.name}"))
    code, _, err = run("run", "tiny", "--file", str(small), *options(out))
    assert code == 0, err
    assert (out / "results.parquet").read_bytes() == table
    assert (
        ("damaged and made again: " + damage.named in err)
        if damage.named
        else "damaged and made again" not in err
    )
    assert ("nothing was missing" not in err) == (damage.recomputed or damage.needed_again)
    again = Store(out)
    assert again.damaged == []
    assert before <= set(again.records)
    assert bool(list(out.rglob("*.damaged"))) == bool(damage.named)
    code, said, _ = run("status", str(out))
    assert (code, "tiny: finished" in said) == (0, True)
    code, said, _ = run("gc", str(out))
    assert code == 0
    what = "named, set aside" if damage.named else "nothing was lost"
    report(Fault(damage.name, 1, f"{what}; same table", until="at the next run"))


def forget(out: Path, which: Callable[[dict[str, object]], bool]) -> None:
    """Take records out of the journal, as if these tasks had not been asked for."""
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not which(json.loads(line)["record"])]
    assert len(kept) < len(lines)
    (out / "journal.jsonl").write_bytes(b"".join(kept))
