"""Searches over everything at once, and what the store knows before they begin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from methods import shares
from sweep.errors import InputError
from sweep.inputs import model_ref, text_files
from sweep.plan.grid import expand
from sweep.search import study
from sweep.spec import file as spec
from sweep.spec.values import spread
from sweep.studies.distributions import distribution_of, is_ordered, nearest
from tests.sweep import made_up
from tests.sweep.search.test_study import SPEED, interrupted, records, run, trials

GROUPS = ("input", "intermediate")
LAYERS = 30
COARSE = {
    "gamma": {"from": 0.2, "to": 1.0, "step": 0.4},
    "density": {"from": 0.5, "to": 0.9, "step": 0.1},
}


@pytest.fixture(autouse=True)
def _made_up_evaluations(monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)


def tuned(out: Path) -> list[str]:
    """Keys of the evaluations of trials."""
    text = text_files.fingerprint("embedded-wiki-validation")
    done = [r for r in records(out) if r["kind"] == "evaluate"]
    return [r["key"] for r in done if r["payload"]["text"] == text]


# -- what the store knows --------------------------------------------------------------------------


def test_what_the_store_knows_enters_and_is_not_run_again(tmp_path: Path):
    entry = SPEED | {"search": COARSE, "sampler": "grid", "prune": False}
    run(entry, tmp_path)
    before = tuned(tmp_path)
    run(SPEED | {"search": COARSE, "trials": 4}, tmp_path)
    told = trials(tmp_path)
    known = [t for t in told if t["known"]]
    assert len(known) == 15
    assert len(told) == 15 + 4
    assert told[:15] == known
    assert {t["state"] for t in known} == {"done"}
    assert tuned(tmp_path) == before
    assert "15 of them the store knew before" in (tmp_path / "study.md").read_text()


def test_only_points_that_are_known_whole_and_can_be_searched_enter(tmp_path: Path):
    some = [{"gamma": 0.2, "density": 0.8}, {"gamma": 0.2, "density": 0.55}]
    run(SPEED | {"enqueue": some, "trials": 2, "prune": False}, tmp_path)
    run(SPEED | {"search": {"gamma": [0.1, 1.0], "density": [0.6, 0.95]}, "trials": 2}, tmp_path)
    known = [t for t in trials(tmp_path) if t["known"]]
    assert [(t["gamma"], t["density"]) for t in known] == [("0.2", "0.8")]
    run(SPEED | {"windows": 12, "trials": 2}, tmp_path)
    assert not [t for t in trials(tmp_path) if t["known"]]


def test_interrupted_equals_uninterrupted_with_known_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = SPEED | {"trials": 5, "prune": False}
    second = SPEED | {"trials": 6, "search": {**SPEED["search"], "gamma": [0.1, 1.0]}}
    for name in "ab":
        run(first, tmp_path / name)
    run(second, tmp_path / "a")
    interrupted(monkeypatch, {0, 2, 4, 7}, lambda: run(second, tmp_path / "b"))
    assert trials(tmp_path / "a") == trials(tmp_path / "b")
    assert any(t["known"] for t in trials(tmp_path / "a"))
    keys = [sorted(r["key"] for r in records(tmp_path / name)) for name in "ab"]
    assert keys[0] == keys[1]


# -- Gaussian processes ----------------------------------------------------------------------------


def test_gp_stops_early_and_learns_from_what_it_stopped(tmp_path: Path):
    run(SPEED | {"sampler": "gp"}, tmp_path)
    told = trials(tmp_path)
    stopped = [t for t in told if t["state"] == "stopped"]
    assert len(stopped) >= 2
    assert all(0 < int(t["windows"]) < 8 for t in stopped)
    best = max(float(t["tokens_per_s"]) for t in told[:2] if t["feasible"] == "True")
    won = [t for t in told if t["state"] == "done" and t["feasible"] == "True"]
    assert max(float(t["tokens_per_s"]) for t in won) > best


def test_gp_is_told_that_a_choice_makes_no_point(tmp_path: Path):
    space = {"method": ["dip", "glu"], "density": [0.4, 0.9]}
    run(SPEED | {"search": space, "sampler": "gp", "trials": 12}, tmp_path)
    low = [t for t in trials(tmp_path) if t["method"] == "glu" and float(t["density"]) < 0.66]
    assert low
    assert {(t["state"], t["feasible"]) for t in low} == {("stopped", "False")}


def test_gp_is_what_searches_one_objective():
    plain = {key: value for key, value in SPEED.items() if key != "sampler"}
    assert made_up.loaded(plain).sampler == "gp"
    goals = {"maximize": "tokens_per_s", "minimize": "delta_ppl"}
    assert made_up.loaded(plain | {"objective": goals}).sampler == "tpe"


def test_numbers_of_a_range_are_ordered():
    values = spread({"from": 0.5, "to": 0.9, "step": 0.05})
    space = study.Choices(values)
    assert is_ordered(space)
    assert not is_ordered(study.Choices(("paper", "uniform")))
    made: Any = distribution_of(space, ordered=True)
    assert (made.low, made.high, made.step) == (0.5, 0.9, 0.05)
    assert nearest(made, 0.68) == pytest.approx(0.7)
    assert distribution_of(space, ordered=False).choices == values  # type: ignore[attr-defined]


# -- selectors and quantisations -------------------------------------------------------------------


def test_a_trial_leaves_out_what_its_selector_does_not_have():
    space = {
        "selector": ["topk", "resident-threshold"],
        "gamma": [0.05, 1.0],
        "density": [0.5, 0.9],
        "chunk": {"from": 1, "to": 2, "step": 1},
        "policy": ["lfu", "lru"],
    }
    made = made_up.loaded(SPEED | {"search": space})
    given = {"gamma": 0.2, "density": 0.6, "chunk": 2, "policy": "lru"}
    (setting,) = made.settings
    plain = made.point(setting, given | {"selector": "topk"})
    assert (plain.selector, plain.gamma, plain.chunk, plain.policy) == (
        "cache-aware",
        0.2,
        2,
        "lru",
    )
    thresholds = made.point(setting, given | {"selector": "resident-threshold"})
    assert (thresholds.selector, thresholds.gamma, thresholds.chunk) == ("resident-threshold", 1, 1)


def test_a_price_of_reads_takes_the_place_of_the_density():
    space = {"selector": ["topk", "read-aware"], "density": [0.5, 0.9], "lam": [1.0, 100.0]}
    devices = [{"device": "oneplus-15r", "dram_gb": 0.064}]
    made = made_up.loaded(SPEED | {"search": space}, devices=devices)
    (setting,) = made.settings
    priced = made.point(setting, {"selector": "read-aware", "density": 0.7, "lam": 5.0})
    assert (priced.selector, priced.lam) == ("read-aware", 5.0)
    plain = made.point(setting, {"selector": "topk", "density": 0.7, "lam": 5.0})
    assert (plain.selector, plain.density, plain.lam) == ("topk", 0.7, None)


def test_quantisations_are_held_against_the_weights_as_they_are():
    space = {
        "quant": ["none", "rtn", "gptq"],
        "bits": {"from": 3, "to": 4, "step": 1},
        "density": [0.5, 0.9],
    }
    made = made_up.loaded(SPEED | {"search": space}, quant=[{"method": "rtn", "group_size": 64}])
    (setting,) = made.settings
    assert setting.quant.method == "none"
    point = made.point(setting, {"quant": "gptq", "bits": 3.0, "density": 0.6})
    assert (point.quant.method, point.quant.bits, point.quant.group_size) == ("gptq", 3, 64)
    assert made.dense(setting).quant.method == "none"
    with pytest.raises(InputError, match="one quant is expected"):
        made_up.loaded(SPEED | {"search": space}, quant=["rtn", "gptq"])


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"selector": ["topk", "nearest"]}, "search.selector: unknown selector 'nearest'"),
        ({"quant": ["rtn", "gtpq"]}, "search.quant: unknown quantisation 'gtpq'"),
        ({"bits": [3, 4]}, "numbers are expected for bits"),
    ],
)
def test_what_does_not_exist_is_said_before_anything_runs(search: dict[str, Any], words: str):
    with pytest.raises(InputError) as caught:
        made_up.loaded(SPEED | {"search": {**search, "density": [0.5, 0.9]}})
    assert words in str(caught.value)


# -- shares from sensitivities ---------------------------------------------------------------------


def curves_file(path: Path, **changes: Any) -> str:
    """Sensitivities in which the first layer loses most."""
    options = np.linspace(1, 0, 11)
    steep = np.where(np.arange(LAYERS) == 0, 10.0, 1.0)[:, None, None]
    lost = steep * np.array([2.0, 1.0])[:, None] * (1 - options) ** 2
    read = np.broadcast_to(options * 3e5, lost.shape)
    content = {
        "model": "smollm2-135m",
        "weights": model_ref.fingerprint("smollm2-135m"),
        "selector": "resident-threshold",
        "gamma": 1.0,
        "policy": "lfu",
        "groups": list(GROUPS),
        "measured_at": [0.8, 0.4],
        "shares": options.tolist(),
        "kl": lost.tolist(),
        "missed_bytes_per_token": read.tolist(),
    }
    path.write_text(json.dumps(content | changes))
    return str(path)


def test_sensitivities_are_shares_at_every_density(tmp_path: Path):
    file = curves_file(tmp_path / "s.json")
    space = {
        "method": ["dip", "dip-shares"],
        "selector": ["topk", "resident-threshold"],
        "shares": ["uniform", file],
        "density": [0.4, 0.9],
    }
    made = made_up.loaded(SPEED | {"search": space})
    (setting,) = made.settings
    assert made.first[-1] == {"method": "dip-shares", "selector": "resident-threshold",
                              "shares": file, "density": 0.9}  # fmt: skip
    for density in (0.45, 0.7, 0.85):
        point = made.point(setting, made.first[-1] | {"density": density})
        table = shares.parse(str(dict(point.parameters)["shares"]))
        assert point.density == pytest.approx(density, abs=2e-3)
        assert len(table) == LAYERS
        assert table[0][0] > max(row[0] for row in table[1:])
    plain = made.point(setting, made.first[-1] | {"method": "dip"})
    assert "shares" not in dict(plain.parameters)


def test_shares_of_a_winner_are_a_file_of_a_sweep(tmp_path: Path):
    file = curves_file(tmp_path / "s.json")
    space = {"method": ["dip-shares"], "shares": [file], "density": [0.5, 0.9]}
    done = run(SPEED | {"search": space, "trials": 3}, tmp_path / "run")
    (winner,) = done.winners
    written = tmp_path / "run" / "shares.json"
    assert winner.shares is not None
    assert json.loads(written.read_text())["shares"] == winner.shares.shares
    used = {"method": "dip-shares", "shares": str(written)}
    sweep = spec.from_mapping(made_up.sweep_file(methods=[used])).sweeps["a"]
    (point,) = expand(sweep).points
    assert point.density == winner.shares.density
    assert shares.parse(str(dict(point.parameters)["shares"]))[0][0] == table_of(winner)[0][0]


def table_of(winner: Any) -> list[tuple[float, ...]]:
    return list(zip(*(winner.shares.shares[group] for group in GROUPS), strict=True))


def test_a_file_of_shares_brings_its_own_density(tmp_path: Path):
    path = tmp_path / "shares.json"
    path.write_text(json.dumps({"shares": {"input": 0.5, "intermediate": 0.8}}))
    space = {"method": ["dip-shares"], "shares": [str(path)], "density": [0.4, 0.9]}
    made = made_up.loaded(SPEED | {"search": space})
    point = made.point(made.settings[0], made.first[0] | {"density": 0.8})
    assert point.density == pytest.approx(0.6)


def test_sensitivities_of_another_model_or_groups_are_refused(tmp_path: Path):
    space: dict[str, Any] = {"method": ["dip-shares"], "density": [0.4, 0.9]}
    other = curves_file(tmp_path / "o.json", model="phi-3-mini", weights="0" * 64)
    with pytest.raises(InputError, match="was found for the model phi-3-mini"):
        made_up.loaded(SPEED | {"search": space | {"shares": [other]}})
    groups = curves_file(tmp_path / "g.json", groups=["gate-input", "up-input"])
    with pytest.raises(InputError, match="sensitivities of input, intermediate are expected"):
        made_up.loaded(SPEED | {"search": space | {"shares": [groups]}})


# -- what is known of densities of groups and layers -----------------------------------------------


def test_known_splits_and_densities_by_layer_enter(tmp_path: Path):
    splits = {"sweep": "a", "search": {"input": [0.2, 0.95], "intermediate": [0.1, 1.0]},
              "objective": {"minimize": ["mlp_density", "delta_ppl"]}, "prune": False}  # fmt: skip
    run(splits | {"trials": 9, "sampler": "random"}, tmp_path)
    before = [(t["input"], t["intermediate"]) for t in trials(tmp_path)]
    run(splits | {"trials": 2, "search": {"input": [0.2, 0.9], "intermediate": [0.1, 1]}}, tmp_path)
    known = [(t["input"], t["intermediate"]) for t in trials(tmp_path) if t["known"]]
    assert set(known) == {pair for pair in before if float(pair[0]) <= 0.9}

    by_layer = {
        "sweep": "a",
        "method": {"method": "dip", "density": 0.6},
        "prune": False,
        "search": {"layers": [-0.5, 0.5]},
        "objective": {"minimize": "delta_ppl"},
    }
    done = run(by_layer | {"trials": 6, "sampler": "random"}, tmp_path / "l")
    (told,) = done.trials.values()
    again = run(by_layer | {"trials": 2, "search": {"layers": [-0.7, 0.7]}}, tmp_path / "l")
    (begun,) = again.trials.values()
    known_ppl = {t.notes["ppl"] for t in begun if t.notes.get("known")}
    assert known_ppl == {t.notes["ppl"] for t in told}
