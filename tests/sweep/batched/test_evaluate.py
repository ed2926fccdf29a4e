"""Windows in batches select what they select one at a time; a device that errs is found out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from methods.base import GIVEN
from methods.select import Given
from sweep.batched import evaluate as batched
from sweep.batched import memory
from sweep.batched.make import Batched, in_batches, make_batched
from sweep.batched.proof import GpuDiffersError, Proof
from sweep.batched.selectors import BatchedCacheAware, BatchedThreshold, BatchedTopK
from sweep.contracts.rules import Rule
from sweep.contracts.selectors import RULES, Factory
from sweep.errors import ResourceError
from sweep.gpu import plain
from sweep.make_selector import make_selector
from sweep.selectors import Selector
from sweep.tasks import run
from sweep.tasks.calibrate import calibrate
from sweep.tasks.evaluate import evaluate as one_by_one
from sweep.tasks.task import Task
from tests.sweep.task_call import apart
from tests.sweep.tinysweep import planned, sweep_of

TOKENS = 24
SLOTS = {"input": 20, "intermediate": 33}


def aware(policy: str = "lfu", scope: str = "window", **more: Any) -> dict[str, Any]:
    cache = {"slots": SLOTS, "scope": scope, "gamma": 0.2, "policy": policy}
    return {"name": "cache-aware", **cache, **more}


@pytest.fixture
def payload(tiny_llama: Path, tiny_text_file: Path) -> dict[str, Any]:
    return {
        "model": str(tiny_llama),
        "text_name": str(tiny_text_file),
        "window_tokens": TOKENS,
        "windows": [0, 1, 2, 3, 4],
        "dtype": "float32",
        "threads": 1,
        "method": "dip",
        "density": 0.5,
        "parameters": {"allocation": "paper"},
        "selector": {"name": "topk"},
    }


SELECTORS = {
    "topk": {"name": "topk"},
    "chunks": {"name": "topk", "chunk": 4},
    "lfu": aware(),
    "lru": aware("lru", traced=True),
    "carry": aware(scope="carry"),
    "chunks of lfu": {**aware(chunk=2), "slots": {"input": 9, "intermediate": 15}},
}


@pytest.mark.parametrize("batch", ["1", "2", ""])
@pytest.mark.parametrize("name", SELECTORS)
def test_batches_change_no_mask(
    payload: dict[str, Any], name: str, batch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(memory.BATCH, batch)
    task = apart({**payload, "selector": SELECTORS[name], "dense_tokens": 3})
    assert in_batches(task[0])
    expected, trace = one_by_one(*task, {}, "cpu")
    result, own = batched.evaluate(*task, {}, "cpu")
    if batch == "1":
        assert result == expected
    assert result["nll"] == pytest.approx(expected["nll"], rel=1e-6)
    assert {**result, "nll": 0} == {**expected, "nll": 0}
    assert (own is None) == (trace is None)
    if own is not None:
        assert own.lengths == trace.lengths
        for group in trace.units:
            for layer in range(trace.layers):
                for window in range(len(trace.lengths)):
                    place = (group, layer, window)
                    assert np.array_equal(own.masks(*place), trace.masks(*place))


def make_aware(policy: str, scope: str = "window") -> Selector:
    return BatchedCacheAware({"input": 9, "intermediate": 30}, 0.3, policy, scope)


MAKERS = {
    "topk": BatchedTopK,
    "carry": partial(make_aware, "lfu", "carry"),
    "given": partial(BatchedThreshold, Given()),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rules_of_selectors_hold(rule: Rule[Factory], name: str) -> None:
    rule(MAKERS[name])


def test_a_hot_start_is_that_of_every_window(payload: dict[str, Any]) -> None:
    start = calibrate(*apart({**payload, "windows": [0]}), {}, "cpu")[1]
    task = apart({**payload, "selector": aware("lru")})
    expected = one_by_one(*task, {"start": start}, "cpu")[0]
    result = batched.evaluate(*task, {"start": start}, "cpu")[0]
    assert result["groups"] == expected["groups"]


def test_where_memory_runs_out_batches_are_halved(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = one_by_one(*apart({**payload, "selector": aware()}), {}, "cpu")[0]
    sizes, own = [], batched.losses

    def short(model: Any, tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        sums = own(model, tokens)
        if len(tokens) > 2:
            raise torch.OutOfMemoryError
        return sums

    monkeypatch.setattr(batched, "losses", short)
    result = batched.evaluate(*apart({**payload, "selector": aware()}), {}, "cpu")[0]
    assert sizes == [5, 2, 2, 1]
    assert result["groups"] == expected["groups"]


def test_memory_chooses_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.BATCH, raising=False)
    assert [memory.batch_of(100, 10, free) for free in (1, 50, 200, 10**6)] == [1, 4, 16, 64]
    assert memory.batch_of(3, 10, 10**6) == memory.batch_of(3, 10, 1, 8) == 3
    assert memory.batch_of(100, 10, 50, 5) == 5
    monkeypatch.setenv(memory.BATCH, "2")
    assert memory.batch_of(100, 10, 10**6) == memory.batch_of(100, 10, 10**6, 5) == 2
    monkeypatch.setenv(memory.BATCH, "two")
    with pytest.raises(ResourceError, match="SWEEP_GPU_BATCH is 'two'"):
        memory.wished()


def test_the_sweep_file_chooses_the_batch_and_no_key_has_it(
    payload: dict[str, Any], tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    method, keys = {"method": "dip", "density": 0.5}, []
    for batch in ("auto", 2):
        plan = planned(sweep_of(tiny_llama, tmp_path, tiny_text, method, batch=batch))
        keys.append(sorted(plan.tasks))
        places = [t.where.get("batch") for t in plan.tasks.values() if t.kind == "evaluate"]
        assert set(places) == {"2" if batch == 2 else None}
    assert keys[0] == keys[1]
    sizes: list[int] = []
    own = batched.losses

    def counted(model: Any, tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(tokens))
        return own(model, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batched, "losses", counted)
        batched.evaluate(*apart({**payload, "batch": "2"}), {}, "cpu")
    assert sizes == [2, 2, 1]


def test_the_model_goes_to_the_device_of_the_task(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake GPU, whose weights lie on the CPU; its first shard proves itself, the next one not."""
    asked, proofs, own = [], [], batched.models.loaded

    def load(ref: str, dtype: str, device: str) -> Any:
        asked.append(device)
        return own(ref, dtype, "cpu")

    class Counted(Proof):
        def __init__(self) -> None:
            super().__init__()
            proofs.append(self)

    monkeypatch.setattr(batched.models, "loaded", load)
    monkeypatch.setattr(batched, "_proved", set())
    monkeypatch.setattr(batched, "Proof", Counted)
    task = apart({**payload, "selector": aware()})
    results = [batched.evaluate(*task, {}, "cuda")[0] for _ in range(2)]
    assert set(asked) == {"cuda"}
    assert [result["device"] for result in results] == ["cuda", "cuda"]
    assert [proof.compared > 0 for proof in proofs] == [True]


@pytest.mark.parametrize(
    "selector", [SELECTORS["topk"], aware(), aware("lru"), {"name": GIVEN}], ids=str
)
def test_a_device_that_selects_other_units_is_found_out(
    selector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn((2, 6, 40), generator=torch.Generator().manual_seed(0))
    for wrong in (False, True):
        chosen = make_batched({**selector, "slots": {"input": 20}}, {})
        chosen.begin_batch(2, 6)
        chosen.proof = proof = Proof()
        if wrong:
            name = {"topk": "top_k", GIVEN: "packed"}.get(selector["name"], "cache_aware")
            monkeypatch.setattr(plain, name, _wrong(getattr(plain, name)))
            with pytest.raises(GpuDiffersError, match="layer 3, input, token 2"):
                chosen.pruned(3, "input", values, 0.5)
        else:
            chosen.pruned(3, "input", values, 0.5)
            assert proof.compared == 1


def _wrong(function: Any) -> Any:
    """As a kernel that takes another unit for the third token."""

    def of_token_2(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        words = answer[0] if isinstance(answer, tuple) else answer
        words[0, 2, 0] ^= 1
        return answer

    return of_token_2


def test_a_gpu_takes_batches_and_leaves_the_rest(payload: dict[str, Any]) -> None:
    """What has no kernel, and what is held against the dense model, runs as on the CPU."""
    own, _ = apart(payload)
    policies = {"selector": {**aware(), "policy": "none"}}
    others = [{"distances": {}}, policies, {"method": "dense"}, {"selector": {}}]
    for changes, batches in (({}, True), *((other, False) for other in others)):
        task = Task("evaluate", "key", {**own, **changes}, "label")
        function = run._function(task, "cuda")
        assert (function is batched.evaluate) == batches
        assert run._function(task, "cpu") is one_by_one


def test_scores_of_another_number_of_windows_are_refused() -> None:
    chosen = make_batched({"name": "topk"}, {})
    chosen.begin_batch(3, 4)
    with pytest.raises(ValueError, match="scores of 3 windows are expected"):
        chosen(0, "input", torch.ones((2, 4, 8)), 0.5)


BAD = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])


@BAD
@pytest.mark.parametrize("selector", [SELECTORS["topk"], aware(), {"name": GIVEN}], ids=str)
def test_a_score_that_is_none_is_named_as_on_the_cpu(
    selector: dict[str, Any], value: float
) -> None:
    """In the second window, by the token's number there."""
    values = torch.randn((2, 4, 40), generator=torch.Generator().manual_seed(0))
    values[1, 2, 9] = value
    told = []
    for window, chosen in (
        (values[1:], make_selector({**selector, "slots": {"input": 20}}, {})),
        (values, make_batched({**selector, "slots": {"input": 20}}, {})),
    ):
        chosen.begin_window(4)
        if isinstance(chosen, Batched):
            chosen.begin_batch(2, 4)
        with torch.inference_mode(), pytest.raises(ValueError, match="must be finite") as caught:
            chosen(0, "input", window, 0.5)
        told.append(str(caught.value))
    assert "score of unit 9 of token 2 is " in told[0]
    assert told[0] == told[1]
