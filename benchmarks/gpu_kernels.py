"""The kernels of a GPU: equal to those of the CPU, and how fast. A part of `benchmarks gpu`."""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_compile import Job
from benchmarks.gpu_tools import Page, seconds_of
from simulator.selection import select
from simulator.state import new_state
from sweep.gpu import launch, plain
from sweep.gpu.launch import Blocks
from sweep.gpu.state import new_caches

DENSITY, CACHED, GAMMA = 0.5, 0.4, 0.2
KERNELS = ("lfu below", "lfu above", "lru", "top-k")
TOP_K_ROWS, TOP_K_WARPS = (4, 64), (2, 4, 8, 16)
KINDS = ("normal", "rounded", "equal", "zero", "tiny", "outlier", "skewed")
SIZES = ((17920, torch.bfloat16), (5120, torch.bfloat16), (8192, torch.bfloat16),
         (3072, torch.bfloat16), (1536, torch.float32), (17920, torch.float32))  # fmt: skip


def made_up(sequences: int, tokens: int, units: int, dtype: torch.dtype, device: str) -> Tensor:
    """Heavy-tailed values; units differ in scale, tokens too, and neighbours are alike."""
    random = torch.Generator(device=device).manual_seed(units)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=device)

    scale = torch.exp(0.5 * normal(units))
    values = torch.empty((sequences, tokens, units), dtype=dtype, device=device)
    drift = normal(sequences, units)
    for token in range(tokens):
        drift = 0.8 * drift + 0.6 * normal(sequences, units)
        row = drift.abs().pow(1.5) * drift.sign() * scale * torch.exp(0.3 * normal(sequences, 1))
        values[:, token] = row.to(dtype)
    return values


def adversarial(page: Page, device: str, quick: bool) -> None:
    """Scores that are hard to choose from, against the CPU kernels."""
    for units in _hard_sizes(quick):
        for dtype in (torch.float32, torch.bfloat16):
            for kind in KINDS:
                page.attempt(f"hard scores: {kind}", _hard, page, kind, units, dtype, device)


def _hard_sizes(quick: bool) -> tuple[int, ...]:
    return (1000,) if quick else (1000, 5120)


def _hard(page: Page, kind: str, units: int, dtype: torch.dtype, device: str) -> None:
    random = np.random.default_rng(units)
    drawn = random.standard_normal((3, 33, units))
    changed = {
        "rounded": lambda: np.round(drawn * 2),
        "equal": lambda: np.ones_like(drawn),
        "zero": lambda: drawn * 0,
        "tiny": lambda: drawn * 1e-42,
        "outlier": lambda: np.where(drawn > 3.5, 1e30, drawn),
        "skewed": lambda: drawn * np.exp(4 * random.standard_normal(units)),
    }.get(kind, lambda: drawn)()
    values = torch.from_numpy(changed.astype(np.float32)).to(device, dtype)
    wrong = [
        f"top-k k={k} magnitude={magnitude}"
        for k, magnitude in product((1, units // 3, units), (True, False))
        if not _same_top_k(values, k, magnitude)
    ]
    for policy in ("lfu", "lru"):
        for k, capacity, gamma in (
            (units // 2, units // 3, 0.2), (units // 4, units // 2, 1.0), (1, units, 0.5),
            (units // 2, 0, 0.2), (units // 3, units // 3, 1e-30), (units // 2, units - 1, 0.7),
        ):  # fmt: skip
            if not _same_scan(values, k, capacity, gamma, policy)[0]:
                wrong.append(f"{policy} k={k} capacity={capacity} gamma={gamma}")
    verdict = "equal" if not wrong else f"DIFFERENT: {wrong}"
    page.say(f"hard scores {kind:8} {units:6} units {dtype}: {verdict}")
    page.check(not wrong)


def _same_top_k(values: Tensor, k: int, magnitude: bool) -> bool:
    written = torch.empty_like(values)
    bits = launch.top_k(values, k, magnitude, launch.new_faults(values.device), target=written)
    assert bits is not None
    target, threads = np.zeros(values.shape, np.float32), os.cpu_count() or 1
    expected = select(_floats(values), k, magnitude=magnitude, target=target, threads=threads)
    return bool(
        np.array_equal(_words(bits), expected.packed)
        and np.array_equal(_floats(written), target)
        and np.array_equal(_floats(launch.kept(values, bits)), target)
    )


def _same_scan(
    values: Tensor, k: int, capacity: int, gamma: float, policy: str
) -> tuple[bool, float]:
    """Whether masks, hits and the states left are those of the CPU; and the share of hits."""
    sequences, _, units = values.shape
    caches = new_caches(sequences, units, capacity, policy, device=values.device)
    bits, hits = launch.cache_aware(values, k, gamma, caches, launch.new_faults(values.device))
    states = [new_state(units, capacity, policy) for _ in range(sequences)]
    expected = select(_floats(values), k, gamma=gamma, state=states, threads=os.cpu_count() or 1)
    assert expected.hits is not None
    same = np.array_equal(_words(bits), expected.packed)
    same &= np.array_equal(hits.cpu().numpy(), expected.hits)
    for mine, theirs in zip(caches.on_host(), states, strict=True):
        same &= np.array_equal(mine.content, theirs.content)
        same &= np.array_equal(mine.uses[:units], theirs.uses[:units])
    return bool(same), float(expected.hits.mean() / k)


def _floats(values: Tensor) -> Any:
    return values.float().cpu().numpy()


def _words(packed: Tensor) -> Any:
    return packed.cpu().numpy().view(np.uint64)


def speeds(page: Page, device: str, quick: bool) -> None:
    """Every kernel at the sizes of Phi-3-Medium and Phi-3-Mini, 16 sequences of 2048 tokens."""
    sequences, tokens = 16, 2048
    for units, dtype in SIZES[:2] if quick else SIZES:
        name = f"{units} units {str(dtype)[6:]}"
        values = page.attempt(name, made_up, sequences, tokens, units, dtype, device)
        if values is None:
            continue
        many = (units, dtype) not in SIZES[:2]
        page.say(f"-- {name}, {sequences} sequences of {tokens} tokens")
        page.attempt(f"top-k {name}", _top_k_speed, page, values, name, many)
        for policy in ("lfu", "lru"):
            page.attempt(f"{policy} {name}", _scan_speed, page, values, policy, name)
        if not many:
            page.attempt(f"shapes {name}", _shapes, page, values)
        del values
        torch.cuda.empty_cache()


def _top_k_speed(page: Page, values: Tensor, name: str, quick: bool) -> None:
    k, faults = round(DENSITY * values.shape[-1]), launch.new_faults(values.device)
    compiled: list[Any] = []
    target = torch.empty_like(values)
    bits = launch.top_k(values, k, True, faults, compiled=compiled)
    assert bits is not None
    moved = 2 * values.numel() * values.element_size()
    for label, more in (("kept", False), ("kept and bits", True)):
        timed = seconds_of(lambda b=more: launch.top_k(values, k, True, faults, 0, target, bits=b))
        rate = f"{moved / timed / 1e9:.0f} GB/s"
        page.say(f"top-k {name}, {label}: {timed * 1e3:.3f} ms, {rate}, {_facts(compiled)}")
    if not quick:
        _top_k_shapes(page, values, k, faults, target)
    timed = seconds_of(lambda: launch.bars(values, k, faults))
    page.say(f"  bars alone: {timed * 1e3:.3f} ms")
    timed = seconds_of(lambda: launch.kept(values, bits))
    page.say(f"  kept by bits: {timed * 1e3:.3f} ms, {moved / timed / 1e9:.0f} GB/s")
    few = values[:1, :64]
    by_torch = seconds_of(lambda: plain.top_k(values[:1], k, True))
    page.say(f"  plain torch, one sequence: {by_torch * 1e3:.3f} ms")
    same = _same_top_k(values[:2].contiguous(), k, True) and _same_top_k(few.contiguous(), k, False)
    page.say(f"  equal to the CPU kernel: {same}")
    page.check(same)


def _top_k_shapes(page: Page, values: Tensor, k: int, faults: Tensor, target: Tensor) -> None:
    for rows in TOP_K_ROWS:
        timed = seconds_of(
            lambda r=rows: launch.top_k(values, k, True, faults, 0, target, bits=False, rows_each=r)
        )
        page.say(f"  {rows} rows a program: {timed * 1e3:.3f} ms")
    for warps in TOP_K_WARPS:
        blocks = Blocks.of(values.shape[-1], warps)
        timed = seconds_of(
            lambda b=blocks: launch.top_k(values, k, True, faults, 0, target, bits=False, blocks=b)
        )
        page.say(f"  {warps} warps: {timed * 1e3:.3f} ms")


def _scan_speed(page: Page, values: Tensor, policy: str, name: str) -> None:
    units = values.shape[-1]
    k, capacity = round(DENSITY * units), round(CACHED * units)
    _timed_scan(page, values, k, capacity, policy, f"{policy} {name}, cache below k")
    _timed_scan(page, values, k, round(0.7 * units), policy, f"{policy} {name}, cache above k")
    same, rate = _same_scan(values, k, capacity, GAMMA, policy)
    above, _ = _same_scan(values[:4].contiguous(), k, round(0.7 * units), GAMMA, policy)
    page.say(f"  equal to the CPU kernel: {same} and {above}, hit rate {rate:.3f}")
    page.check(same and above)


def _timed_scan(
    page: Page, values: Tensor, k: int, capacity: int, policy: str, name: str, **options: Any
) -> None:
    sequences, tokens, units = values.shape
    compiled: list[Any] = []
    passes = torch.zeros((sequences, 2), dtype=torch.int32, device=values.device)
    faults = launch.new_faults(values.device)
    caches = new_caches(sequences, units, capacity, policy, device=values.device)
    extra = options | {"passes": passes, "compiled": compiled}

    def run() -> None:
        launch.cache_aware(values, k, GAMMA, caches, faults, **extra)

    seconds = seconds_of(run, repeats=3)
    of_token = passes.double().mean(0) / tokens
    page.say(
        f"{name}: {seconds * 1e3:.2f} ms, {seconds / tokens * 1e6:.2f} us a token, passes "
        f"{float(of_token[0]):.2f} + {float(of_token[1]):.2f}, {_facts(compiled)}"
    )


def _shapes(page: Page, values: Tensor) -> None:
    """Warps, for the scan with LFU."""
    units = values.shape[-1]
    k, capacity = round(DENSITY * units), round(CACHED * units)
    for blocks in _blocks(units):
        name = f"  lfu head {blocks.head} tail {blocks.tail} warps {blocks.warps}"
        page.attempt(name, _timed_scan, page, values, k, capacity, "lfu", name, blocks=blocks)


def _blocks(units: int) -> list[Blocks]:
    return [Blocks.of(units, warps) for warps in (4, 8, 16, 32)]


def jobs(quick: bool) -> list[Job]:
    """All that will be compiled, the longest first."""
    dtypes = (torch.float32, torch.bfloat16)
    asked = [Job(*size, kind) for size in (SIZES[:2] if quick else SIZES) for kind in KERNELS]
    for units, dtype in SIZES[:2]:
        asked += [Job(units, dtype, "lfu below", blocks) for blocks in _blocks(units)]
        asked += [Job(units, dtype, "top-k", Blocks.of(units, w)) for w in TOP_K_WARPS]
        asked += [Job(units, dtype, "top-k", rows=rows) for rows in TOP_K_ROWS]
    for units in _hard_sizes(quick):
        asked += [Job(units, dtype, kind) for dtype in dtypes for kind in (*KERNELS, "signed")]
    return sorted(dict.fromkeys(asked), key=lambda job: -job.units)


def _facts(compiled: list[Any]) -> str:
    """Registers and spills of a thread, where the compiler tells them."""
    ran = compiled[0]
    told = {name: getattr(ran, name, None) for name in ("n_regs", "n_spills")}
    shared = getattr(getattr(ran, "metadata", None), "shared", None)
    return ", ".join(f"{name} {value}" for name, value in (*told.items(), ("shared", shared)))
