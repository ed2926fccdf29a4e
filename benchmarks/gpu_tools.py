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


class Stopwatch:
    """Seconds that the device spends between two marks of the host's, summed; nothing waits."""

    def __init__(self, device: torch.device) -> None:
        self._is_gpu = device.type == "cuda"
        self._parts: list[tuple[Any, Any]] = []

    def timed(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run`, watched."""

        def watched(*arguments: Any, **more: Any) -> Any:
            begin = self._mark()
            answer = run(*arguments, **more)
            self._parts.append((begin, self._mark()))
            return answer

        return watched

    def seconds(self) -> float:
        """Of all that was watched, once the device has ended it."""
        if self._is_gpu:
            torch.cuda.synchronize()
            return sum(begin.elapsed_time(end) for begin, end in self._parts) / 1e3
        return sum(end - begin for begin, end in self._parts)

    def _mark(self) -> Any:
        if not self._is_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def wait(device: torch.device) -> None:
    """For all that the device was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_gb(device: torch.device, anew: bool = False) -> float:
    """The most memory that tensors took on a GPU, in 1e9 bytes, since it was counted `anew`; 0 on
    the CPU."""
    if device.type != "cuda":
        return 0.0
    if anew:
        torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.max_memory_allocated(device) / 1e9


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
