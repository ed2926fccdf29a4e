"""Models and texts from a hub: the real huggingface_hub against one that runs in this test.

huggingface_hub reads its settings when it is imported, so what uses it runs in a fresh process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.inputs import model_ref as weights
from tests.sweep import fake_hub

Ask = Callable[..., list[Any]]

RUN = """
import json, sys
from sweep.inputs import model_ref as weights, model_sizes, models
from sweep.inputs import text_files, texts, wheels as fetch
from sweep.errors import SweepError
for line in sys.argv[1:]:
    try:
        answer = eval(line)
    except SweepError as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer, default=str))
"""


@pytest.fixture(scope="module")
def hub(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, list[str]]]:
    model = tmp_path_factory.mktemp("hub-model")
    shutil.copytree(tiny_llama, model, dirs_exist_ok=True)
    (model / "pytorch_model.bin").write_bytes(b"a pickle")
    (model / "modeling_own.py").write_text("raise SystemExit")
    pickled = tmp_path_factory.mktemp("hub-pickled")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(model / name, pickled / name)
    (pickled / "pytorch_model.bin").write_bytes(b"a pickle")
    text = tmp_path_factory.mktemp("hub-text") / "wikitext-2-raw-v1"
    text.mkdir()
    pq.write_table(pa.table({"text": ["other", "rows"]}), text / "test-00000-of-00001.parquet")
    pq.write_table(pa.table({"text": ["a", "", "b"]}), text / "train-00000-of-00001.parquet")
    repositories = {
        "models/org/tiny": model,
        "models/org/pickled": pickled,
        "datasets/Salesforce/wikitext": text.parent,
    }
    with fake_hub.serve(repositories) as served:
        yield served


@pytest.fixture
def ask(hub: tuple[str, list[str]], tmp_path: Path) -> Ask:
    """Evaluate expressions in a process that sees the hub, and has caches of this test's own."""
    settings = {"HF_HOME": str(tmp_path / "hub"), "SWEEP_CACHE": str(tmp_path / "cache")}

    def run(*expressions: str, offline: bool = False) -> list[Any]:
        environment = {**os.environ, **settings, "HF_ENDPOINT": hub[0]}
        environment["HF_HUB_OFFLINE"] = "1" if offline else "0"
        done = subprocess.run(
            [sys.executable, "-c", RUN, *expressions],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_a_model_is_downloaded_once_and_then_known_offline(
    ask: Ask, hub: tuple[str, list[str]], tiny_llama: Path
) -> None:
    fingerprint = "weights.fingerprint('org/tiny')"
    before, layers, folder, after = ask(
        fingerprint,
        "model_sizes.geometry('org/tiny').layers",
        "models.prepare('org/tiny')",
        fingerprint,
    )
    assert before == "unfetched:org/tiny"
    assert layers == 2
    assert not {path.suffix for path in Path(folder).iterdir()} & {".bin", ".py"}
    assert after != before
    asked = len(hub[1])
    again, kind = ask(fingerprint, "type(models.load('org/tiny')).__name__", offline=True)
    assert (again, kind) == (after, "LlamaForCausalLM")
    assert len(hub[1]) == asked
    weights_file = "model.safetensors"
    assert (Path(folder) / weights_file).read_bytes() == (tiny_llama / weights_file).read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("org/pickled", "InputError", "has no weights"),
        ("some-one/absent", "InputError", "the hub knows no model some-one/absent"),
        ("some-one/gated", "ResourceError", "its licence must be accepted"),
    ],
)
def test_what_cannot_be_downloaded_is_explained(
    ask: Ask, name: str, kind: str, message: str
) -> None:
    ((found, text),) = ask(f"models.prepare({name!r})")
    assert found == kind
    assert message in text


def test_wikitext_is_joined_by_blank_lines_and_checked(ask: Ask) -> None:
    train, test, here, fingerprint = ask(
        "text_files.read('wikitext2', calibration=True)",
        "text_files.read('wikitext2')",
        "text_files.present('wikitext2', calibration=True)",
        "text_files.fingerprint('wikitext2', calibration=True)[:9]",
    )
    assert train == "a\n\n\n\nb"
    assert test == ["ResourceError", "text wikitext2: what was fetched is not the text expected"]
    assert here
    assert fingerprint != "unfetched"


def test_hub_names_of_the_paper_are_valid_ids() -> None:
    for name in weights.HUB_IDS:
        assert weights.resolve(name).hub_id == weights.HUB_IDS[name]
