"""Downstream tasks against lm-eval's own adapter, and common beginnings computed once or not.

python -m benchmarks harness
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any

from benchmarks.results import machine, table

THREADS, DENSITY, DRAM_GB = 1, 0.5, 0.064
CHOICES, ROUNDS = {"task": "arc_easy", "limit": 6}, 3
MMLU = {"task": "mmlu", "limit": 8, "shots": 5}
SUBJECTS = ("mmlu_abstract_algebra", "mmlu_high_school_biology", "mmlu_machine_learning")
"""Every nineteenth subject of the 57."""
AT_MOST, AT_LEAST = 1.15, 2.0


def report() -> str:
    """Ratios of CPU time on the same documents, at a task's one thread."""
    from sweep.downstream import data as taskdata
    from sweep.inputs import models

    if not models.present("smollm2-135m") or not taskdata.present():
        return "## Downstream tasks\n\nSmolLM2 or the data is not here (`sweep fetch mmlu`)."
    with redirect_stderr(io.StringIO()):
        choices = _measured([_runs("arc_easy", CHOICES)], ROUNDS)
        names = ("lm-eval, dense", "dip", "dip, nothing shared")
        mmlu = _measured([_runs(leaf, MMLU, names) for leaf in SUBJECTS], 1)
    rows = [
        *_rows("6 of arc_easy", choices),
        *_rows(f"{MMLU['limit']} of {len(SUBJECTS)} subjects of mmlu, 5 shots", mmlu, AT_LEAST),
    ]
    columns = ["documents", "what", "CPU s", "times lm-eval", "asked", "met"]
    about = (
        f"{machine()}. SmolLM2-135M, float32, density {DENSITY}, {THREADS} thread. lm-eval: its "
        f"own HFLM on the dense model, same requests, batch size 1; it computes answers of one "
        f"token once for a question, as we do. CPU time of the process, medians of {ROUNDS} "
        f"rounds in turn, one of mmlu."
    )
    return "\n\n".join(["## Downstream tasks", about, table(columns, rows)])


def _rows(
    documents: str, seconds: dict[str, list[float]], at_least: float | None = None
) -> list[list[str]]:
    theirs = seconds["lm-eval, dense"]
    rows = []
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, theirs, strict=True))
        target, met = "", ""
        if name == "dip":
            target, met = f"at most {AT_MOST}", _verdict(ratio <= AT_MOST)
        if name == "dip, nothing shared" and at_least:
            pairs = zip(times, seconds["dip"], strict=True)
            gain = statistics.median(a / b for a, b in pairs)
            target, met = f"{gain:.2f} times dip's; at least {at_least}", _verdict(gain >= at_least)
        cpu = f"{statistics.median(times):.2f}"
        rows.append([documents, name, cpu, f"{ratio:.2f}", target, met])
    return rows


def _verdict(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _measured(parts: list[dict[str, Callable[[], object]]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each kind of run over all parts, a number a round; kinds in turn."""
    if rounds > 1:
        for run in parts[0].values():
            run()  # loads, compiles, and warms the allocator
    seconds: dict[str, list[float]] = {name: [] for name in parts[0]}
    for _ in range(rounds):
        spent = dict.fromkeys(seconds, 0.0)
        for part in parts:
            for name, run in part.items():
                begin = time.process_time()
                run()
                spent[name] += time.process_time() - begin
        for name, total in spent.items():
            seconds[name].append(total)
    return seconds


def _runs(
    leaf: str, entry: dict[str, Any], names: tuple[str, ...] = ()
) -> dict[str, Callable[[], object]]:
    from simulator import Geometry, allocate, footprint
    from sweep.downstream import harness
    from sweep.downstream.cards import asked
    from sweep.inputs import models
    from sweep.spec import file as spec
    from sweep.tasks.score import score

    body = {
        "models": ["smollm2-135m"],
        "methods": ["dense"],
        "devices": [{"device": "apple-a18", "dram_gb": DRAM_GB}],
        "tasks": [entry],
    }
    task = asked(spec.from_mapping({"sweeps": {"a": body}}).sweeps["a"])[0]
    leaf_card = harness.look(task)["leaves"][leaf]
    shared = {
        "task": leaf,
        "documents": [0, leaf_card["documents"]],
        "prompts": leaf_card["prompts"][0],
        "threads": THREADS,
        "dtype": "float32",
        "parameters": {},
    }
    where: Any = {"model": "smollm2-135m", "asked": json.dumps(task.to_json())}
    sizes = footprint(Geometry.load("smollm2-135m"), ("input", "intermediate"))
    cache = {"policy": "lfu", "slots": dict(allocate(sizes, DRAM_GB * 1e9).slots)}
    cache |= {"name": "cache-aware", "gamma": 0.2, "scope": "window"}

    def ours(method: str, selector: dict[str, Any], **more: Any) -> Callable[[], object]:
        sparsity = {"method": method, "density": 1.0 if method == "dense" else DENSITY}
        payload: Any = {**shared, **sparsity, "selector": selector, **more}
        return lambda: score(payload, where, {}, "cpu")

    every = {
        "lm-eval, dense": _theirs(harness.requests(task, leaf), models),
        "dense": ours("dense", {}),
        "dip": ours("dip", {"name": "topk"}),
        "dip, nothing shared": ours("dip", {"name": "topk"}, share=False),
        "dip-ca, each request alone": ours("dip", cache),
    }
    return {name: run for name, run in every.items() if not names or name in names}


def _theirs(instances: list[Any], models: Any) -> Callable[[], object]:
    from lm_eval.models.huggingface import HFLM

    adapter: Any = HFLM
    lm = adapter(
        pretrained=models.loaded("smollm2-135m"), tokenizer=models.tokenizer("smollm2-135m")
    )
    return lambda: lm.loglikelihood(instances, disable_tqdm=True)
