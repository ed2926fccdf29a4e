"""A model over several GPUs that are names of the host (`tests.sweep.fake_gpus`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.mlp import decoder_layers
from simulator.errors import SimulatorError
from sweep.batched import memory, selectors
from sweep.batched.selectors import BatchedTopK
from sweep.gpu import launch, plain
from sweep.inputs import models
from sweep.placement import place
from sweep.placement.layers import split
from sweep.tasks import run
from sweep.tasks.calibrate import calibrate
from sweep.tasks.task import Record, Task
from tests.sweep.fake_gpus import OnGpu, fake_gpus
from tests.sweep.task_call import apart

TOKENS = 24
SLOTS = {"input": 20, "intermediate": 33}


@pytest.fixture(scope="module")
def deep(save_tiny_model: Callable[..., Path]) -> Path:
    """Six layers, so that some lie beside the embedding and some do not."""
    return save_tiny_model("Llama", num_hidden_layers=6)


@pytest.fixture
def settings(deep: Path, tiny_text_file: Path) -> dict[str, Any]:
    return {
        "model": str(deep),
        "text_name": str(tiny_text_file),
        "window_tokens": TOKENS,
        "windows": [0, 1, 2],
        "dtype": "float32",
        "threads": 1,
        "method": "dip",
        "density": 0.5,
        "parameters": {"allocation": "paper"},
        "selector": {"name": "topk"},
    }


@pytest.fixture(autouse=True)
def _plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton knows no GPU that is a name."""
    monkeypatch.setattr(selectors, "way_of", lambda _: plain)
    monkeypatch.setattr(place, "_fitting", set())


def rooms(settings: dict[str, Any]) -> tuple[int, int]:
    """Bytes of GPUs of which two hold the model and one does not, and of one that does."""
    need = place.need_of(models.skeleton(settings["model"]), "float32", TOKENS)
    two = next(r for r in range(1, need.whole * 2, 1000) if split(need, (r, r)) is not None)
    assert split(need, (two,)) is None
    return two, 2 * need.whole


def done(settings: dict[str, Any], device: str, *inputs: Any) -> tuple[Record, Any]:
    payload, where = apart(settings)
    record, handover = run.run(Task("evaluate", "key", payload, "label", where), inputs, device)
    assert record.status == "done", record.log
    return record, handover


def aware(policy: str, **more: Any) -> dict[str, Any]:
    cache = {"slots": SLOTS, "scope": "window", "gamma": 0.2, "policy": policy}
    return {"selector": {"name": "cache-aware", **cache, **more}}


ALONE = "one window at a time, masks made on the host"
VARIANTS: dict[str, dict[str, Any]] = {
    "dense": {"method": "dense", "density": 1.0, "parameters": {}, "selector": {}},
    "topk": {"dense_tokens": 3},
    "chunks": {"selector": {"name": "topk", "chunk": 4}},
    "lfu": aware("lfu", traced=True),
    "lru": aware("lru", traced=True),
    "carry": aware("lfu", scope="carry"),
    ALONE: {},
    "weights of the rows": {"method": "wina", "parameters": {}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_gpus_select_what_one_device_does(
    settings: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views, selectors and sessions of layers that lie on different GPUs."""
    if name == ALONE:
        monkeypatch.setattr(run, "_in_batches", lambda _: False)
    task = {**settings, **VARIANTS[name]}
    expected, trace = done(task, "cpu")
    with fake_gpus(2, rooms(settings)[0]):
        record, own = done(task, "cuda")
        (model,) = models._kept.values()
        layers = [str(next(layer.parameters()).device) for layer in decoder_layers(model)[1]]
        assert layers == sorted(layers)
        assert set(layers) == {"cuda:0", "cuda:1"}
    assert record.result["device"] == "cuda"
    assert record.result["nll"] == pytest.approx(expected.result["nll"], rel=1e-5)
    same = {"nll": 0, "device": ""}
    assert {**record.result, **same} == {**expected.result, **same}
    assert (own is None) == (trace is None)
    if own is not None:
        assert all(np.array_equal(own.packed[group], trace.packed[group]) for group in own.packed)


def test_a_hot_start_and_changed_weights_come_to_each_gpu(settings: dict[str, Any]) -> None:
    names = {"start": "a", "weights": "b"}
    task = {**settings, **aware("lru"), "inputs": names, "dense_tokens": 0}
    start = calibrate(*apart({**settings, "windows": [0]}), {}, "cpu")[1]
    own = models.loaded(settings["model"]).get_parameter("model.layers.1.mlp.up_proj.weight")
    given = (start, {"model.layers.1.mlp.up_proj.weight": own.numpy() * 2})
    expected, _ = done(task, "cpu", *given)
    with fake_gpus(2, rooms(settings)[1]):
        record, _ = done(task, "cuda", *given)
    assert record.result["groups"] == expected.result["groups"]
    assert record.result["nll"] == pytest.approx(expected.result["nll"], rel=1e-5)


def test_what_one_gpu_holds_lies_there(settings: dict[str, Any]) -> None:
    with fake_gpus(2, rooms(settings)[1]):
        done(settings, "cuda")
        (model,) = models._kept.values()
        assert {str(weight.device) for weight in model.parameters()} == {"cuda:0"}


def test_the_smallest_room_left_chooses_the_batch(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {0: 1000, 1: 500}
    asked: list[int] = []

    def batch_of(windows: int, of_window: int, free: int, wished: int) -> int:
        asked.append(free)
        return 1

    with fake_gpus(2, rooms(settings)[0]):
        monkeypatch.setattr("sweep.batched.evaluate.free_bytes", lambda gpu: left[gpu.index])
        monkeypatch.setattr("sweep.batched.evaluate.batch_of", batch_of)
        done(settings, "cuda")
    assert asked == [500]


def refused(settings: dict[str, Any], count: int, room: int, **more: Any) -> str:
    payload, where = apart({**settings, **more})
    with fake_gpus(count, room):
        inputs = (None,) * len(payload.get("inputs", {}))
        record, _ = run.run(Task("evaluate", "key", payload, "label", where), inputs, "cuda")
    assert (record.status, record.infrastructure) == ("failed", False)
    return record.error


def test_what_cannot_fit_is_refused_before_a_weight_is_read(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, _ = rooms(settings)
    monkeypatch.setattr("tests.sweep.fake_gpus._load", None)
    one = refused(settings, 1, two)
    assert one.startswith("ResourceError: model ")
    assert "this task has one GPU of 0.0 GB; what would help: 2 such GPUs on one machine" in one
    assert "dtype: bfloat16, which takes half as much" in one
    assert "this task has 3 GPUs of 0.0 GB" in refused(settings, 3, two // 4)


def test_changed_weights_take_room_beside_the_models_own(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sweep.fake_gpus._load", None)
    two, _ = rooms(settings)
    assert "this task has 2 GPUs" in refused(settings, 2, two, inputs={"weights": "b"})


def test_a_method_that_mixes_layers_says_so(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a pass leaves on one GPU what a layer on another one reads."""

    def mixing(*_: Any) -> Any:
        return torch.ones(2, device="cuda:0") + torch.ones(2, device="cuda:1")

    monkeypatch.setattr(run, "_function", lambda *_: mixing)
    error = refused(settings, 2, rooms(settings)[0])
    assert "dip does not run on a model that lies on several GPUs: give it a GPU that" in error
    assert "Expected all tensors" in refused(settings, 2, rooms(settings)[1])


def test_transformers_loads_by_layers_and_hooks_bring_inputs(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two names of the CPU, as transformers is told of two GPUs; a tensor knows no such name."""
    monkeypatch.setattr("accelerate.utils.modeling.check_device_same", lambda *_: True)
    ref, names = str(tiny_llama), [torch.device("cpu", 0), torch.device("cpu", 1)]
    devices = place.device_map(models.skeleton(ref), (0, 1), names)
    assert devices["model.layers.1"] == names[1]
    assert {devices[name] for name in ("model.embed_tokens", "model.norm", "lm_head")} == {names[0]}
    spread, whole = place.load_spread(ref, "float32", devices), models.load(ref)
    tokens = torch.arange(TOKENS)[None]
    assert torch.equal(spread(input_ids=tokens).logits, whole(input_ids=tokens).logits)
    assert not any(hasattr(module, "_hf_hook") for module in spread.modules())
    hooked = [name for name, module in spread.named_modules() if module._forward_pre_hooks]
    assert hooked[:3] == ["model.embed_tokens", "model.layers.0", "model.layers.1"]


def test_inputs_are_moved_wherever_they_are() -> None:
    with fake_gpus():
        there = torch.ones(2, device="cuda:1")
        given = {"a": (torch.ones(2), 3), "b": [there], "c": None}
        moved = place.moved(given, torch.device("cuda:1"))
        assert moved["a"][0].device == there.device
        assert moved["b"][0] is there
        assert (moved["a"][1], moved["c"]) == (3, None)


class Interpreted:
    """The Triton kernels in the interpreter, for tensors that are on a GPU by name."""

    @staticmethod
    def new_faults(device: torch.device) -> Tensor:
        return OnGpu(launch.new_faults(torch.device("cpu")), device)

    @staticmethod
    def read_fault(faults: OnGpu) -> Any:
        return launch.read_fault(faults.host)

    @staticmethod
    def top_k(
        values: OnGpu, k: int, prune: bool, faults: OnGpu, call: int, target: OnGpu, ones: bool
    ) -> Tensor:
        assert values.device == faults.device == target.device
        words = launch.top_k(values.host, k, prune, faults.host, call, target.host, ones)
        assert words is not None
        return OnGpu(words, values.device)


def test_each_gpu_keeps_faults_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one in the order of layers is told."""
    monkeypatch.setattr(selectors, "way_of", lambda _: Interpreted)
    chosen = BatchedTopK()
    with fake_gpus():
        for faulty in (False, True):
            chosen.begin_batch(1, 3)
            for layer in range(4):
                values = torch.randn((1, 3, 40))
                if faulty and layer in (1, 2):
                    values[0, layer, 7] = float("nan")
                chosen.pruned(layer, "input", values.to(f"cuda:{layer % 2}"), 0.5)
            if not faulty:
                chosen.settle()
        with pytest.raises(SimulatorError, match=r"unit 7 of token 1 is nan \(layer 1, input\)"):
            chosen.settle()


def test_free_memory_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    about = SimpleNamespace(mem_get_info={0: (5, 9), 1: (7, 9)}, reserved={0: 3, 1: 0})
    with fake_gpus():
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: about.mem_get_info[gpu.index])
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: about.reserved[gpu.index])
        free = [memory.free_bytes(torch.device("cuda", gpu)) for gpu in (0, 1)]
    assert free == [8, 7]


def test_a_task_without_a_model_or_a_gpu_is_left_alone() -> None:
    for where, device in (({}, "cuda"), ({"model": "none such"}, "cpu")):
        with place.placed(where, {"dtype": "float32"}, device):
            pass
