"""Evaluations of models with random weights on a GPU. A part of `benchmarks gpu`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_tools import Page
from methods.apply import applied
from methods.registry import create
from simulator.geometry import Geometry
from sweep.batched.losses import losses
from sweep.batched.make import Batched
from sweep.batched.proof import Proof
from sweep.batched.selectors import BatchedCacheAware, BatchedTopK
from sweep.measures.losses import prove

DENSITY, GAMMA, CACHED, TOKENS = 0.5, 0.2, 0.4, 2048


def models(page: Page, device: str, quick: bool) -> None:
    """Dense, dip, dip with trace, dip-ca and glu, with as many windows in flight."""
    names = ("phi-3-medium",) if quick else ("phi-3-medium", "phi-3-mini")
    for name in names:
        model = page.attempt(f"make {name}", random_model, name, device, 8 if quick else 0)
        if model is None:
            continue
        page.say(f"-- {name}, {len(model.model.layers)} layers, {_gb():.1f} GB")
        for windows in (16, 32, 64) if quick else (16, 1, 4, 32, 64):
            page.attempt(f"{name} x {windows}", _evaluations, page, model, name, windows)
            torch.cuda.empty_cache()
        del model
        gc.collect()
        torch.cuda.empty_cache()


def random_model(name: str, device: str, layers: int = 0) -> Any:
    """A Phi-3 model of these sizes with random weights, made on the device."""
    import transformers

    sizes = Geometry.load(name)
    config = transformers.Phi3Config(
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=layers or sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        vocab_size=sizes.vocabulary,
        max_position_embeddings=4096,
        pad_token_id=0,
        use_cache=False,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(
                config, attn_implementation="sdpa"
            )
    finally:
        torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


def _evaluations(page: Page, model: Any, name: str, windows: int) -> None:
    random = torch.Generator(device="cuda").manual_seed(0)
    tokens = torch.randint(
        0, model.config.vocab_size, (windows, TOKENS), generator=random, device="cuda"
    )
    prove(model)
    dense = _timed(page, f"{name} x {windows} dense", lambda: losses(model, tokens).sum(1), 0.0)
    if dense is None:
        return
    for label, make in _selectors(model).items():
        method = create("glu" if "glu" in label else "dip", 0.7 if "glu" in label else DENSITY)

        def run(make: Callable[[], Batched] = make, method: Any = method) -> Tensor:
            select = make()
            select.begin_batch(windows, TOKENS)
            with applied(model, method, select):
                sums = losses(model, tokens).sum(1)
            select.settle()
            return sums

        _timed(page, f"{name} x {windows} {label}", run, dense)
    if windows == 16:
        page.attempt("proof", _proved, page, model, tokens[:2])


def _proved(page: Page, model: Any, tokens: Tensor) -> None:
    """What a first shard does: one window's selection on the CPU, too."""
    for label, make in _selectors(model).items():
        select = make()
        select.begin_batch(len(tokens), TOKENS)
        select.proof = proof = Proof()
        with torch.inference_mode(), applied(model, create("dip", DENSITY), select):
            losses(model, tokens)
        select.settle()
        page.say(f"  {label}: {proof.compared} masks of a window equal to the CPU kernels")


def _timed(page: Page, label: str, run: Callable[[], Tensor], dense: float) -> float | None:
    def measured() -> float:
        with torch.inference_mode():
            run()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            begin = time.perf_counter()
            loss = run()
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        ratio = f", {seconds / dense:.3f} times dense" if dense else ""
        page.say(
            f"{label}: {seconds / loss.numel():.4f} s a window, {seconds:.3f} s in all{ratio}, "
            f"peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB, loss {float(loss[0]):.6f}"
        )
        return seconds

    return page.attempt(label, measured)


def _selectors(model: Any) -> dict[str, Callable[[], Batched]]:
    widths = {"input": model.config.hidden_size, "intermediate": model.config.intermediate_size}
    slots = {group: round(CACHED * width) for group, width in widths.items()}

    def aware(policy: str, traced: bool = False) -> BatchedCacheAware:
        return BatchedCacheAware(slots, GAMMA, policy, "window", None, traced=traced)

    return {
        "dip": BatchedTopK,
        "dip-ca lfu": lambda: aware("lfu"),
        "dip-ca lfu with trace": lambda: aware("lfu", True),
        "dip-ca lru": lambda: aware("lru"),
        "glu": BatchedTopK,
    }


def _gb() -> float:
    return torch.cuda.memory_allocated() / 1e9
