"""Models and texts as the planner sees them: fingerprints, windows, notes; nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.errors import InputError
from sweep.inputs import model_sizes, text_files, texts
from sweep.plan.grid import expand
from sweep.plan.materials import CALIBRATION_WINDOWS, FEW, Materials, spread
from sweep.plan.payloads import evaluate
from sweep.plan.point import Point
from sweep.spec import file as spec

TOKENS = 32


def made(**changes: Any) -> tuple[Materials, Point]:
    entry = {
        "models": ["smollm2-135m"],
        "methods": ["dense"],
        "devices": ["apple-a18"],
        "window_tokens": TOKENS,
        **changes,
    }
    sweep = spec.from_mapping({"sweeps": {"s": entry}}).sweeps["s"]
    return Materials(sweep), expand(sweep).points[0]


@pytest.fixture
def local(tiny_llama: Path, tiny_text_file: Path) -> dict[str, Any]:
    """A model and a text that are present, and tokenised."""
    texts.count(str(tiny_text_file), str(tiny_llama), TOKENS, make=True, bos="each-window")
    return {"models": [str(tiny_llama)], "text": str(tiny_text_file)}


@pytest.mark.parametrize(
    ("windows", "size", "shards"),
    [
        (1, 1, [(0,)]),
        (4, 2, [(0, 1), (2, 3)]),
        (5, 2, [(0, 1), (2, 3), (4,)]),
        (3, 10, [(0, 1, 2)]),
    ],
)
def test_windows_are_cut_into_shards(
    local: dict[str, Any], windows: int, size: int, shards: list[tuple[int, ...]]
) -> None:
    asked = {**local, "windows": windows, "shard_windows": size}
    materials, point = made(**asked, window_order="first")
    assert materials.shards(point) == shards
    materials, point = made(**asked)
    found = materials.shards(point)
    assert [len(shard) for shard in found] == [len(shard) for shard in shards]
    order = spread(materials._windows(point.model, False) or 0, 0)
    assert sum(found, ()) == tuple(order[:windows] if windows > FEW else range(windows))


def test_windows_are_spread_over_the_text_by_the_seed() -> None:
    order = spread(300, 0)
    assert sorted(order) == list(range(300))
    assert order[:5] == [61, 111, 296, 126, 235]  # fixed: stored results are of these windows
    assert order != spread(300, 1)
    thirds = [sum(w // 100 == third for w in order[:60]) for third in range(3)]
    assert min(thirds) >= 12


def test_more_windows_go_on_from_fewer(local: dict[str, Any]) -> None:
    few, point = made(**local, windows=4, shard_windows=2)
    more, other = made(**local, windows=8, shard_windows=2)
    assert more.shards(other)[:2] == few.shards(point)


@pytest.mark.parametrize("bos", ["each-window", "first-window", "none"])
def test_a_tokenizer_without_bos_leaves_keys_as_they_were(local: dict[str, Any], bos: str) -> None:
    materials, point = made(**local, bos=bos)
    assert materials.bos(point) == materials.bos_of(point.model) == ""
    assert "bos" not in evaluate(point, materials, {}, {})


@pytest.mark.parametrize("bos", ["each-window", "first-window", "none"])
def test_a_bos_is_part_of_the_key_and_is_said(
    local: dict[str, Any], bos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(texts, "kept_before_text", lambda _: np.array([1], dtype=np.int32))
    materials, point = made(**local, bos=bos)
    payload = evaluate(point, materials, {}, {})
    assert payload.get("bos", "first-window") == bos
    assert materials.bos_of(point.model) == bos
    assert any("BOS" in caveat for caveat in materials.caveats())


def test_all_windows_are_those_of_the_text(local: dict[str, Any], tiny_text: str) -> None:
    materials, point = made(**local, windows="all", shard_windows=7)
    count = len(tiny_text.encode()) // TOKENS
    flat = [window for shard in materials.shards(point) for window in shard]
    assert flat == list(range(count))


def test_more_windows_than_there_are_is_an_error(local: dict[str, Any], tiny_text: str) -> None:
    count = len(tiny_text.encode()) // TOKENS
    materials, point = made(**local, windows=count + 1)
    message = rf"sweeps\.s\.windows: {count + 1} windows of 32 tokens are asked for; .* has {count}"
    with pytest.raises(InputError, match=message):
        materials.shards(point)


def test_what_is_present_has_its_content_as_fingerprint(
    local: dict[str, Any], tiny_gelu: Path, tiny_text_file: Path
) -> None:
    materials, point = made(**local)
    own = materials.weights(point.model)
    assert own == made(**local)[0].weights(point.model)
    assert own != materials.weights(str(tiny_gelu))
    assert "unfetched" not in own
    assert materials.text(point, "text") == text_files.fingerprint(str(tiny_text_file))
    assert materials.notes == []
    assert materials.geometry(point).hidden == 48
    where = materials.where(point, "text")
    assert Path(where["model"]).is_absolute()
    assert Path(where["text_name"]).is_absolute()


def test_what_is_not_present_is_noted_once() -> None:
    materials, point = made(models=["phi-3-mini"], text="wikitext2", windows="all")
    for _ in range(2):
        assert "unfetched" in materials.weights(point.model)
        assert materials.shards(point) == [(0,)]
    assert len(materials.notes) == len(set(materials.notes)) == 2
    assert materials.geometry(point).hidden == 3072


def test_a_geometry_in_the_file_wins(local: dict[str, Any]) -> None:
    entry = {"model": local["models"][0], "geometry": "llama-3-8b"}
    materials, point = made(**{**local, "models": [entry]})
    assert materials.geometry(point).hidden == 4096


def test_calibration_takes_a_few_windows(
    local: dict[str, Any], tiny_llama: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("x" * (2 * TOKENS + 5))
    texts.windows(str(short), str(tiny_llama), TOKENS)
    materials, point = made(**local, calibration=str(short))
    assert materials.calibration_windows(point) == 2
    materials, point = made(**local, calibration="embedded-c4")
    assert materials.calibration_windows(point) == CALIBRATION_WINDOWS


def test_a_small_model_comes_with_a_caveat(local: dict[str, Any]) -> None:
    assert "relative budgets" in made(**local)[0].caveats()[0]
    assert made(models=["llama-3-8b"])[0].caveats() == []


def test_describing_names_what_was_used(local: dict[str, Any]) -> None:
    materials, point = made(**local)
    assert materials.describe_models()[point.model]["geometry"]["hidden"] == 48
    names = " ".join(materials.describe_texts())
    assert "(evaluation)" in names


# -- names for a reader ----------------------------------------------------------------------


def test_a_path_is_no_title(local: dict[str, Any]) -> None:
    materials, point = made(**local)
    assert materials.title(point.model) == Path(point.model).name
    assert materials.text_title == Path(local["text"]).name


def test_titles_of_the_sweep_file_win(local: dict[str, Any]) -> None:
    model = {"model": local["models"][0], "title": "Tiny"}
    materials, point = made(models=[model], text=local["text"], text_title="Words")
    assert materials.title(point.model) == "Tiny"
    assert materials.text_title == "Words"


@pytest.mark.parametrize(
    ("given", "expected"), [("My  Model", "My Model"), ("/home/me/x", "file"), (None, "file")]
)
def test_a_gguf_file_goes_by_the_name_that_it_gives_itself(
    given: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.gguf"
    entries = {} if given is None else {"general.name": given}
    path.write_bytes(b"GGUF")
    monkeypatch.setattr("sweep.inputs.gguf_header._read", lambda _: (entries, set()))
    assert model_sizes.title(str(path)) == expected


def test_caveats_name_the_budgets_that_were_asked_for() -> None:
    (with_two,) = made(budgets=["2%", 0.3, "7.5%"])[0].caveats()
    assert with_two.endswith("read the relative budgets (+2 %, +7.5 %).")
    (without,) = made(budgets=[0.3])[0].caveats()
    assert "%" not in without
