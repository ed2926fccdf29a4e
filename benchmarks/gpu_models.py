"""Evaluations of models with random weights on a GPU. A part of `benchmarks gpu`."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_tools import Page
from methods.apply import applied
from methods.density import kept_units
from methods.registry import create
from simulator.geometry import Geometry

DENSITY, GAMMA, CACHED, TOKENS = 0.5, 0.2, 0.4, 2048
ROWS = 256


def models(page: Page, device: str, quick: bool) -> None:
    """Dense, dip, dip with trace, dip-ca and glu, with as many windows in flight."""
    names = ("phi-3-medium",) if quick else ("phi-3-medium", "phi-3-mini")
    for name in names:
        model = page.attempt(f"make {name}", random_model, name, device, 8 if quick else 0)
        if model is None:
            continue
        page.say(f"-- {name}, {len(model.model.layers)} layers, {_gb():.1f} GB")
        for windows in (16, 32) if quick else (16, 1, 4, 32):
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
    dense = _timed(page, f"{name} x {windows} dense", lambda: _loss(model, tokens), 0.0)
    if dense is None:
        return
    for label, make in _selectors(windows).items():
        method = create("glu" if "glu" in label else "dip", 0.7 if "glu" in label else DENSITY)

        select = make()

        def run(select: _Select = select, method: Any = method) -> Tensor:
            select.begin()
            with applied(model, method, select):
                return _loss(model, tokens)

        _timed(page, f"{name} x {windows} {label}", run, dense)


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


def _loss(model: Any, tokens: Tensor) -> Tensor:
    """Summed losses [windows] in float32, from logits of a few positions at a time."""
    states = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    sums = torch.zeros(len(tokens), device=tokens.device)
    for window in range(len(tokens)):
        for begin in range(0, TOKENS - 1, ROWS):
            targets = tokens[window, begin + 1 : begin + 1 + ROWS]
            logits = model.lm_head(states[window, begin : begin + len(targets)]).float()
            logs = logits.log_softmax(-1)
            sums[window] += nn.functional.nll_loss(logs, targets, reduction="sum")
    return sums


class _Select:
    """The least that a selector on the device can do."""

    def __init__(self, windows: int, trace: bool, policy: str) -> None:
        self.windows, self.trace, self.policy = windows, trace, policy
        self.kept: list[Tensor] = []
        self.faults: Tensor | None = None

    def begin(self) -> None:
        from sweep.gpu import launch

        self.kept.clear()
        self.faults = launch.new_faults(torch.device("cuda"))

    def __call__(self, layer: int, group: str, values: Tensor, share: float) -> Tensor:
        return self._kept(values, share, True)

    def pruned(self, layer: int, group: str, values: Tensor, share: float) -> Tensor:
        return self._kept(values, share, False)

    def _kept(self, values: Tensor, share: float, ones: bool) -> Tensor:
        from sweep.gpu import launch
        from sweep.gpu.state import new_caches

        assert self.faults is not None
        units = values.shape[-1]
        k = kept_units(share, units)
        if self.policy:
            caches = new_caches(
                len(values), units, round(CACHED * units), self.policy, device=values.device
            )
            bits, hits = launch.cache_aware(values, k, GAMMA, caches, self.faults)
            self.kept.append(hits.to("cpu", non_blocking=True))
            target = launch.kept(values, bits, ones)
        else:
            target = torch.empty_like(values)
            bits = launch.top_k(values, k, True, self.faults, 0, target, ones, self.trace)
        if self.trace:
            assert bits is not None
            self.kept.append(bits.to("cpu", non_blocking=True))
        return target


def _selectors(windows: int) -> dict[str, Callable[[], _Select]]:
    return {
        "dip": lambda: _Select(windows, False, ""),
        "dip with trace": lambda: _Select(windows, True, ""),
        "dip-ca lfu": lambda: _Select(windows, False, "lfu"),
        "dip-ca lru": lambda: _Select(windows, False, "lru"),
        "glu with trace": lambda: _Select(windows, True, ""),
    }


def _gb() -> float:
    return torch.cuda.memory_allocated() / 1e9
