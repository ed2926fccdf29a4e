"""What the parts of `benchmarks gpu` share: a page that is told as it grows, and a stopwatch."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(slots=True)
class Page:
    """Lines for RESULTS, printed at once; a part that fails is told, and the next one runs."""

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    differences: int = 0
    began: float = field(default_factory=time.perf_counter)

    def say(self, text: str) -> None:
        self.lines.append(text)
        print(f"[{time.perf_counter() - self.began:6.1f} s] {text}", flush=True)

    def check(self, same: bool) -> None:
        self.differences += not same

    def attempt(self, name: str, run: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """What `run` returns; None, with its traceback told, where it fails."""
        try:
            return run(*arguments, **more)
        except Exception:
            self.failures.append(name)
            self.say(f"FAILED {name}\n{_short(traceback.format_exc())}")
            return None


def _short(text: str, most: int = 3500) -> str:
    return text if len(text) <= most else text[: most // 3] + "\n...\n" + text[-2 * most // 3 :]


def seconds_of(run: Callable[[], object], repeats: int = 5) -> float:
    """The least seconds that `run` takes on the device, after one run that compiles."""
    run()
    torch.cuda.synchronize()
    best = float("inf")
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return best
