"""A disk that is full or read-only, a writer that is killed, a second driver, a clock set back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.store.store import Store
from tests.chaos.conftest import Report
from tests.chaos.inside import Run
from tests.chaos.page import Fault
from tests.chaos.test_damage import options
from tests.e2e.runs import Make


@pytest.fixture
def small(write_sweep: Make) -> Path:
    """Some tasks of three kinds."""
    methods = ["dense", {"method": "dip", "density": [0.5, 0.7]}]
    return write_sweep(methods=methods, policies=["lru", "static"], windows=2)


@pytest.fixture
def whole(small: Path, run: Run, tmp_path: Path) -> bytes:
    """The table of an undisturbed run."""
    code, _, err = run("run", "tiny", "--file", str(small), *options(tmp_path / "whole"))
    assert code == 0, err
    return (tmp_path / "whole" / "results.parquet").read_bytes()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB in memory; only who may mount has one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("left", [40, 72, 80, 104])
def test_a_full_disk_ends_a_run_that_goes_on_later(
    left: int, small: Path, whole: bytes, disk: Path, run: Run, report: Report
) -> None:
    filler = disk / "filler"
    filler.write_bytes(b"x" * (256 - left) * 1024)
    code, out, err = run("run", "tiny", "--file", str(small), *options(disk / "run"))
    assert code == 3, err
    assert "No space left on device" in err
    assert "make room and run the same command again to go on" in err
    assert "Traceback" not in out + err
    kept = set(Store(disk / "run").records)
    assert Store(disk / "run").damaged == []
    assert Store(disk / "run").holder() == ""
    filler.unlink()
    code, _, err = run("run", "tiny", "--file", str(small), *options(disk / "run"))
    assert code == 0, err
    assert "damaged" not in err
    assert kept <= set(Store(disk / "run").records)
    assert (disk / "run" / "results.parquet").read_bytes() == whole
    outcome = f"exit 3 after {len(kept)} tasks, nothing half written; run again: same table"
    report(Fault(f"full disk ({left} KiB left)", 1, outcome, until="with the next run"))


def test_a_read_only_folder_is_refused(small: Path, disk: Path, run: Run, report: Report) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, out, err = run("run", "tiny", "--file", str(small), *options(disk / "run"))
    assert code == 2
    assert f"cannot write to {disk / 'run'}: Read-only file system" in err
    assert "Traceback" not in out + err
    report(Fault("read-only output folder", 1, "exit 2 with one message, nothing run"))


HOLD = """
import sys
from pathlib import Path
from sweep.store.store import Store
with Store(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_waits_for_nobody(
    small: Path, whole: bytes, run: Run, tmp_path: Path, report: Report
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        code, _, err = run("run", "tiny", "--file", str(small), *options(out))
        assert code == 2
        assert f"is in use by process {first.pid} on " in err
        first.kill()
    assert (out / ".holder").exists()
    code, _, err = run("run", "tiny", "--file", str(small), *options(out))
    assert code == 0, err
    assert (out / "results.parquet").read_bytes() == whole
    report(Fault("second driver on a store", 1, "exit 2, told which process has it"))
    report(Fault("lock of a killed driver", 1, "taken over; same table", until="at once"))


def test_a_clock_that_jumps_back(
    small: Path,
    whole: bytes,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: Report,
) -> None:
    """Every look at the clock is an hour before the last."""
    looks = [time.time()]

    def earlier() -> float:
        looks.append(looks[-1] - 3600)
        return looks[-1]

    out = tmp_path / "run"
    monkeypatch.setattr(time, "time", earlier)
    code, _, err = run("run", "tiny", "--file", str(small), *options(out))
    monkeypatch.undo()
    assert code == 0, err
    assert len(looks) > 8
    assert (out / "results.parquet").read_bytes() == whole
    assert all(record.seconds >= 0 for record in Store(out).records.values())
    outcome = "same table; no duration below 0"
    report(Fault("clock set back an hour", len(looks) - 1, outcome, until="nothing to recover"))


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from sweep.files import atomic as safefile
from sweep.store import gc as tidy
from sweep.store.store import Store
from sweep.contracts.store_trial import example as record

def die(self, target):
    os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
with Store(folder) as store:
    store.add(record("a"))
    store.save("a", {"numbers": np.arange(3)})
    store.add(record("b", status="failed"))
    store.add(record("b"))
    Path.replace = die
    {
        "artefact": lambda: store.save("a", {"numbers": np.arange(4)}),
        "journal": lambda: tidy.gc(store),
        "file": lambda: safefile.write_json(folder / "plan.json", {"new": 1}),
    }[sys.argv[2]]()
"""


@pytest.mark.parametrize("what", ["artefact", "journal", "file"])
def test_a_writer_killed_before_its_rename(what: str, tmp_path: Path, report: Report) -> None:
    (tmp_path / "plan.json").write_text("{}")
    command = [sys.executable, "-c", KILLED, str(tmp_path), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".npz")]
    assert len(left) == 1
    store = Store(tmp_path)
    assert (set(store.records), store.damaged, store.holder()) == ({"a", "b"}, [], "")
    assert store.load("a")["numbers"].tolist() == [0, 1, 2]
    assert (tmp_path / "plan.json").read_text() == "{}"
    from sweep.store.gc import gc

    with store:
        gc(store)
    assert not left[0].exists()
    report(Fault("SIGKILL between write and rename", 1, "the old content stays", until="at once"))
