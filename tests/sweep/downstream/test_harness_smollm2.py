"""Downstream tasks on the real model, against lm-eval's own adapter and against plain loops."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from methods.apply import applied
from methods.registry import create
from simulator import Geometry, allocate, footprint
from sweep.downstream.cards import asked
from sweep.downstream.merge import merged
from sweep.downstream.task import DownstreamTask
from sweep.inputs import models
from sweep.make_selector import make_selector
from sweep.spec import file as spec
from sweep.tasks.score import score
from tests.sweep.task_call import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = "smollm2-135m"


@pytest.fixture(autouse=True)
def _ready():
    if not models.present(MODEL):
        pytest.skip("SmolLM2 is not on this machine (`sweep fetch`)")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def entry(task: str, **settings: Any) -> DownstreamTask:
    body = {
        "models": [MODEL],
        "methods": ["dense"],
        "devices": [{"device": "apple-a18", "dram_gb": 0.064}],
        "tasks": [{"task": task, **settings}],
    }
    return asked(spec.from_mapping({"sweeps": {"a": body}}).sweeps["a"])[0]


def cache() -> dict[str, Any]:
    sizes = footprint(Geometry.load(MODEL), ("input", "intermediate"))
    slots = dict(allocate(sizes, 0.064e9).slots)
    own = {"policy": "lfu", "slots": slots, "gamma": 0.2, "scope": "window"}
    return {"name": "cache-aware", **own}


SELECTORS: dict[str, Callable[[], dict[str, Any]]] = {
    "dense": dict,
    "dip": lambda: {"name": "topk"},
    "dip-ca": cache,
}


def scored(one: DownstreamTask, leaf: str, name: str) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Result and hand-over of all shards of a task, put together, and lm-eval's requests."""
    from sweep.downstream import harness

    card = harness.look(one)
    results, arrays = [], []
    for i, prompts in enumerate(card["leaves"][leaf]["prompts"]):
        begin = i * one.shard
        end = min(begin + one.shard, card["leaves"][leaf]["documents"])
        payload = {
            "asked": json.dumps(one.to_json()),
            "task": leaf,
            "documents": [begin, end],
            "prompts": prompts,
            "threads": 1,
            "dtype": "float32",
            "model": MODEL,
            "method": "dense" if name == "dense" else "dip",
            "density": 1.0 if name == "dense" else 0.5,
            "parameters": {},
            "selector": SELECTORS[name](),
        }
        result, handover = score(*apart(payload), {}, "cpu")
        results.append((leaf, result))
        arrays.append(handover)
    found = {n: np.concatenate([a[n] for a in arrays]) for n in arrays[0]}
    instances = harness.requests(one, leaf)
    return dict(merged(one, {"groups": {}, "top": leaf}, results)), found, instances


def their_adapter() -> Any:
    from lm_eval.models.huggingface import HFLM

    adapter: Any = HFLM
    return adapter(pretrained=models.loaded(MODEL), tokenizer=models.tokenizer(MODEL))


@pytest.mark.parametrize(
    ("file", "leaf", "settings"),
    [
        ("arc_easy.yaml", "arc_easy", {"limit": 6, "shard": 4}),
        ("mmlu/mmlu_anatomy.yaml", "mmlu_anatomy", {"limit": 3, "shots": 5, "shard": 2}),
        ("winogrande.yaml", "winogrande", {"limit": 6}),
        ("mgsm_direct_en.yaml", "mgsm_direct_en", {"limit": 1, "generation": {"max_gen_toks": 16}}),
    ],
)
def test_the_dense_model_scores_as_by_lm_eval(
    file: str, leaf: str, settings: dict[str, Any], shared_data: Path
):
    import lm_eval
    from lm_eval.tasks import TaskManager

    path = shared_data / "lm_eval_tasks" / file
    one = entry(str(path), **settings)
    found, _, _ = scored(one, leaf, "dense")
    manager = TaskManager(include_path=str(path.parent), include_defaults=False)
    evaluate_theirs: Any = lm_eval.simple_evaluate
    theirs: Any = evaluate_theirs(
        their_adapter(),
        tasks=[leaf],
        task_manager=manager,
        limit=one.limit,
        num_fewshot=one.shots,
        gen_kwargs=settings.get("generation"),
    )
    for metric, own in found["leaves"][leaf].items():
        assert own["value"] == theirs["results"][leaf][metric]


@pytest.mark.parametrize("name", ["dip", "dip-ca"])
@pytest.mark.parametrize(
    ("task", "leaf", "settings"),
    [
        ("arc_easy.yaml", "arc_easy", {"limit": 3}),
        ("mmlu/mmlu_anatomy.yaml", "mmlu_anatomy", {"limit": 1, "shots": 5}),
    ],
)
def test_each_request_gets_what_a_plain_loop_gives(
    name: str, task: str, leaf: str, settings: dict[str, Any], shared_data: Path
):
    one = entry(str(shared_data / "lm_eval_tasks" / task), **settings)
    _, found, instances = scored(one, leaf, name)
    lm, model = their_adapter(), models.loaded(MODEL)
    chosen = make_selector(SELECTORS[name](), {})
    with torch.inference_mode(), applied(model, create("dip", 0.5), chosen):
        for own, instance in zip(found["loglikelihood"], instances, strict=True):
            context, continuation = lm._encode_pair(*instance.args)
            tokens = (context + continuation)[:-1]
            chosen.begin_window(len(tokens))
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -len(continuation) :]
            rows = torch.log_softmax(logits.float(), -1)
            total = rows.gather(1, torch.tensor(continuation)[:, None]).sum()
            assert own == pytest.approx(float(total), abs=1e-4)


def test_generation_of_the_dense_model_is_that_of_transformers(shared_data: Path):
    path = shared_data / "lm_eval_tasks" / "gsm8k.yaml"
    one = entry(str(path), limit=2, shots=1, generation={"max_gen_toks": 24})
    _, found, instances = scored(one, "gsm8k", "dense")
    assert found["text"].tolist() == their_adapter().generate_until(instances)


def test_data_of_the_wheel_gives_the_prompts_of_the_reference_data(shared_data: Path):
    """Stock tasks on fetched data ask what the task files beside the reference data ask."""
    from sweep.downstream import data as taskdata
    from sweep.downstream import harness

    if not taskdata.present():
        pytest.skip("the data of downstream tasks is not on this machine (`sweep fetch mmlu`)")
    folder = shared_data / "lm_eval_tasks"
    for task in ("arc_easy", "arc_challenge", "boolq", "openbookqa", "piqa", "winogrande"):
        ours, theirs = entry(task, limit=40), entry(str(folder / f"{task}.yaml"), limit=40)
        assert prompts(harness, ours, task) == prompts(harness, theirs, task), task
    leaf = "mmlu_anatomy"
    ours = prompts(harness, entry("mmlu", limit=10, shots=5), leaf)
    theirs = prompts(harness, entry(str(folder / "mmlu" / f"{leaf}.yaml"), limit=10, shots=5), leaf)
    assert ours == theirs


def prompts(harness: Any, one: DownstreamTask, leaf: str) -> list[Any]:
    built = harness.requests(one, leaf)
    return [instance.args for instance in built]
