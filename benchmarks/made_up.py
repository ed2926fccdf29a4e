"""Tasks without a model, for measurements of what happens around them.

`python -m benchmarks.made_up FILE NAME OUT` runs a sweep with tasks that answer at once, in counts
of the size that SmolLM2 makes, and prints the peak memory of the process in MB.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

from sweep.tasks import run as tasks

LAYERS = 30


def install_sleep() -> None:
    """From now on, tasks of this process sleep for as long as their payload says."""
    tasks._function = lambda task, device: _sleep


def _sleep(payload: Any, where: Any, inputs: Any, device: str) -> tuple[dict[str, Any], None]:
    time.sleep(payload["seconds"])
    return {}, None


def install_counts() -> None:
    """From now on, evaluations and simulations of this process answer at once."""
    of_kind: dict[str, tasks.Function] = {"evaluate": _evaluate, "simulate": _simulate}
    tasks._function = lambda task, device: of_kind[task.kind]


def _evaluate(payload: Any, where: Any, inputs: Any, device: str) -> tuple[dict[str, Any], Any]:
    windows, tokens = payload["windows"], payload["window_tokens"]
    result: dict[str, Any] = {
        "nll": [2.5 * (tokens - 1)] * len(windows),
        "predicted": [tokens - 1] * len(windows),
        "tokens": tokens * len(windows),
        "mlp_density": payload["density"],
        "groups": {},
    }
    if payload["method"] == "dense":
        return result, None
    if payload["selector"]["name"] == "cache-aware":
        return result | {"groups": _groups(payload, payload["selector"]["slots"])}, None
    return result, payload


def _simulate(payload: Any, where: Any, inputs: Any, device: str) -> tuple[dict[str, Any], None]:
    return {"groups": _groups(inputs["trace"], payload["slots"])}, None


def _groups(payload: dict[str, Any], slots: dict[str, int]) -> dict[str, Any]:
    phases = payload["window_tokens"] * len(payload["windows"]) * LAYERS
    counts = {
        "phases": {"used": [100], "missed": [20], "count": [phases]},
        "used_by_layer": [100 * phases // LAYERS] * LAYERS,
        "hits_by_layer": [80 * phases // LAYERS] * LAYERS,
    }
    return dict.fromkeys(slots, counts)


def main() -> None:
    """Run a sweep with made-up counts in this process."""
    from rich.console import Console

    from sweep import api
    from sweep.spec import file as spec

    file, name, out = sys.argv[1:]
    install_counts()
    options = api.Options(Path(out), workers=0, report=False)
    api.run(spec.select(spec.load(file), name), options, Console(quiet=True))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    main()
