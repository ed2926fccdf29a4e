"""Evaluations on a GPU, of SmolLM2 and of random weights. A part of `benchmarks gpu`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_tools import Page, Stopwatch, peak_gb, wait
from methods.apply import applied
from methods.base import Method
from methods.registry import create
from simulator.geometry import Geometry
from sweep.batched.losses import losses
from sweep.batched.make import Batched
from sweep.batched.proof import Proof
from sweep.batched.selectors import BatchedCacheAware, BatchedTopK
from sweep.inputs.model_ref import EMBEDDED
from sweep.inputs.models import load
from sweep.measures.losses import prove

DENSITY, GAMMA, CACHED, TOKENS = 0.5, 0.2, 0.4, 2048


def models(page: Page, device: str, quick: bool) -> None:
    """Dense, dip, dip with trace, dip-ca and glu, with as many windows in flight."""
    names = (EMBEDDED, "phi-3-medium") if quick else (EMBEDDED, "phi-3-medium", "phi-3-mini")
    for name in names:
        model = page.attempt(f"make {name}", _model, name, device, 8 if quick else 0)
        if model is None:
            continue
        page.say(f"-- {name}, {len(model.model.layers)} layers, {_gb():.1f} GB")
        for windows in (16, 32, 64) if quick else (16, 1, 4, 32, 64):
            page.attempt(f"{name} x {windows}", evaluations, page, model, name, windows)
            torch.cuda.empty_cache()
        del model
        gc.collect()
        torch.cuda.empty_cache()


def _model(name: str, device: str, layers: int) -> Any:
    """SmolLM2 as published, in bfloat16; others by their sizes, with random weights."""
    if name == EMBEDDED:
        return load(name, "bfloat16", device)
    return random_model(Geometry.load(name), device, layers)


def random_model(sizes: Geometry, device: str, layers: int = 0) -> Any:
    """A Phi-3 model of these sizes with random weights, made on the device."""
    import transformers

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


def evaluations(page: Page, model: Any, name: str, windows: int, length: int = TOKENS) -> None:
    """Seconds, share of selection and memory of each, and a window's masks beside the CPU's."""
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocab_size, (windows, length), generator=random)
    tokens = tokens.to(device)
    prove(model)

    def dense(_: Stopwatch) -> Tensor:
        return losses(model, tokens).sum(1)

    seconds = _timed(page, f"{name} x {windows} dense", dense, 0.0, device)
    if seconds is None:
        return
    for label, make in _selectors(model).items():
        run = partial(_pass, model, tokens, make, _method(label))
        _timed(page, f"{name} x {windows} {label}", run, seconds, device)
    if windows == 16:
        page.attempt("proof", proved, page, model, tokens[:2])


def _method(label: str) -> Method:
    return create("glu" if "glu" in label else "dip", 0.7 if "glu" in label else DENSITY)


def _pass(
    model: Any, tokens: Tensor, make: Callable[[], Batched], method: Method, watch: Stopwatch
) -> Tensor:
    """A forward pass of all windows by the product's selector, which is watched."""
    select: Any = make()
    select.begin_batch(*tokens.shape)
    select._answer = watch.timed(select._answer)
    with applied(model, method, select):
        sums = losses(model, tokens).sum(1)
    select.settle()
    return sums


def proved(page: Page, model: Any, tokens: Tensor) -> None:
    """What a first shard does: one window's selection on the CPU, too."""
    for label, make in _selectors(model).items():
        select = make()
        select.begin_batch(*tokens.shape)
        select.proof = proof = Proof()
        with torch.inference_mode(), applied(model, create("dip", DENSITY), select):
            losses(model, tokens)
        select.settle()
        page.say(f"  {label}: {proof.compared} masks of a window equal to the CPU kernels")


def _timed(
    page: Page, label: str, run: Callable[[Stopwatch], Tensor], dense: float, device: torch.device
) -> float | None:
    def measured() -> float:
        watch = Stopwatch(device)
        with torch.inference_mode():
            run(Stopwatch(device))
            wait(device)
            peak_gb(device, anew=True)
            begin = time.perf_counter()
            loss = run(watch)
            wait(device)
        seconds = time.perf_counter() - begin
        share = f", {seconds / dense:.3f} times dense" if dense else ""
        share += f", selection {watch.seconds() / seconds:.1%} of it" if dense else ""
        page.say(
            f"{label}: {seconds / loss.numel():.4f} s a window, {seconds:.3f} s in all{share}, "
            f"peak {peak_gb(device):.1f} GB, loss {float(loss[0]):.6f}"
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
