"""`python -m benchmarks gpu` at sizes that a CPU has time for."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu, gpu_models, gpu_tools
from benchmarks.gpu_tools import Page, Stopwatch
from simulator.geometry import Geometry

TINY = Geometry("tiny", 2, 48, 96, 4, 2, 12, 200)
NAMES = ("dip", "dip-ca lfu", "dip-ca lfu with trace", "dip-ca lru", "glu")


def test_evaluations_say_seconds_share_and_memory_and_prove_a_window() -> None:
    model = gpu_models.random_model(TINY, "cpu")
    page = Page()
    gpu_models.evaluations(page, model, "tiny", 16, 24)
    assert (page.failures, page.differences) == ([], 0)
    dense, *others = page.lines[:6]
    figures = r"[\d.]+ s a window, [\d.]+ s in all"
    after = r"peak 0\.0 GB, loss [\d.]+$"
    assert re.fullmatch(rf"tiny x 16 dense: {figures}, {after}", dense)
    for name, line in zip(NAMES, others, strict=True):
        times = r"[\d.]+ times dense, selection ([\d.]+)% of it"
        told = re.fullmatch(rf"tiny x 16 {name}: {figures}, {times}, {after}", line)
        assert told, line
        assert 0 < float(told[1]) <= 100
    proofs = page.lines[6:]
    assert len(proofs) == len(NAMES)
    assert all("4 masks of a window equal to the CPU kernels" in line for line in proofs)


def test_a_part_that_fails_is_told_and_the_next_one_runs() -> None:
    page = Page()
    assert page.attempt("one", lambda: 1 // 0) is None
    assert page.attempt("two", lambda: 2) == 2
    assert page.failures == ["one"]
    assert "ZeroDivisionError" in page.lines[0]


def test_the_stopwatch_sums_what_it_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(gpu_tools.time, "perf_counter", lambda: next(ticks))
    watch = Stopwatch(torch.device("cpu"))
    doubled = watch.timed(lambda x: 2 * x)
    assert (doubled(2), doubled(3)) == (4, 6)
    assert watch.seconds() == 2.5


def test_without_a_gpu_it_says_so_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: str) -> None:
        raise AssertionError("what was measured is written over")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(command, "write_part", write)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu"])
    command.main()
    assert capsys.readouterr().out.strip() == gpu.NO_GPU
