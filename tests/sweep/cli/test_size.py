"""`sweep size`, and what `sweep plan` says a run will take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator import Geometry, Storage, footprint
from sweep.cli import size
from sweep.cli.app import app
from sweep.errors import InputError
from sweep.execution import estimates
from sweep.execution.resources import Resources, needs_of
from sweep.measures import losses
from sweep.plan.sweep_plan import plan_sweep
from sweep.store.store import Store
from tests.sweep import tiny_gguf
from tests.sweep.tinysweep import sweep_of


def test_sizes_of_a_built_in_model_are_those_of_the_simulator() -> None:
    about = size.described("llama-2-7b", [4.007133184, 3.0, 2.5], 2048)
    geometry = Geometry.load("llama-2-7b")
    whole = footprint(geometry, ())
    assert about["weight_bytes"] + about["kv_bytes"] == whole.total_bytes
    assert about["weights"]["gate"]["bits"] == 4.125
    dip = next(one for one in about["methods"] if "dip" in one["methods"])
    sizes = footprint(geometry, ("input", "intermediate"))
    assert (dip["pinned_bytes"], dip["cached_bytes"]) == (sizes.static_bytes, sizes.pruned_bytes)
    fits = [{k: v for k, v in one["cached_share"].items() if k == "dense"} for one in about["fits"]]
    assert fits == [{"dense": 1.0}, {"dense": None}, {"dense": None}]
    name = next(name for name in about["fits"][1]["cached_share"] if "dip" in name.split(", "))
    share = (3e9 - sizes.static_bytes) / sizes.pruned_bytes
    assert about["fits"][1]["cached_share"][name] == pytest.approx(share)


def test_what_methods_add_is_pinned_as_in_a_row() -> None:
    """Norms and cheap copies of 16 bits, a predictor for all layers, attention that is pruned."""
    geometry, storage = Geometry.load("smollm2-135m"), Storage()
    needs = size.described("smollm2-135m", [1.0], 2048)["methods"]
    pinned = {name: one["pinned_bytes"] for one in needs for name in one["methods"]}
    hidden, intermediate, layers = geometry.hidden, geometry.intermediate, geometry.layers
    norms = 2 * (2 * hidden + intermediate) * layers
    assert pinned["wina"] - pinned["teal"] == pytest.approx(norms)
    network = 512 * (hidden + layers * intermediate) * storage.bytes_per_weight
    assert pinned["shadow-llm"] - pinned["glu-oracle"] == pytest.approx(network)
    attention = footprint(geometry, ("attn-input", "attn-output")).pruned_bytes
    assert pinned["teal"] - pinned["active-flow"] == pytest.approx(attention)


def test_the_command_prints_text_or_json(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "tiny.gguf")
    done = CliRunner().invoke(app, ["size", str(path), "--dram", "1", "--context", "64"])
    assert done.exit_code == 0, done.output
    assert "(bits of the file)" in done.output
    assert "KV cache of 64 tokens" in done.output
    assert "1 GB of DRAM: all of it fits" in done.output
    done = CliRunner().invoke(app, ["size", str(path), "--json"])
    (about,) = json.loads(done.output)
    assert about["weight_bytes"] == pytest.approx(about["file_bytes"])
    assert about["context"] == 2048
    done = CliRunner().invoke(app, ["size", str(path), "--json", "--bits", "4"])
    assert json.loads(done.output)[0]["weight_bytes"] < about["file_bytes"] / 7


def test_what_fits_is_said_in_words() -> None:
    assert size._fit_words({"dense": 1.0, "dip, up": 1.0}) == "all of it fits"
    some = {"dense": None, "glu": 0.25, "dip, up": 0.5}
    assert size._fit_words(some) == "glu caches 25%; dip, up cache 50%; dense does not fit"
    fewer = {"dense": None, "glu": None, "dip, up": 0.5}
    assert size._fit_words(fewer) == "dip, up cache 50%; dense, glu do not fit"
    words = "nothing fits, pruned or dense: every token uses more than that"
    assert size._fit_words({"dense": None, "dip, up": None}) == words


def test_memory_counts_logits_as_the_losses_hold_them(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    assert estimates.LOSS_ROWS == losses.ROWS
    wide = Geometry("wide", 1, 48, 96, 2, 2, 24, 262_144, True).to_mapping()
    del wide["name"]
    models = [{"model": str(tiny_llama), "geometry": wide}]
    short, long = (
        sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=models, window_tokens=tokens)
        for tokens in (1024, 8192)
    )
    states = 4 * 7168 * (8 * 48 + 5 * 96) / 1e9
    grown = estimates.memory_gb(long) - estimates.memory_gb(short)
    assert grown == pytest.approx(states)
    logits = losses.ROWS * 262_144 * 8 / 1e9
    assert logits < estimates.memory_gb(short) - estimates.PROCESS / 1e9 < logits + 0.1


def test_bits_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="a number or `file`"):
        size.described("llama-2-7b", [], 2048, "many")


def test_plan_says_minutes_memory_and_disk(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", {"method": "dip", "density": 0.7})
    planned = plan_sweep(sweep, fetch=True)
    todo = dict.fromkeys(planned.plan.tasks, "new")
    minutes, memory, disk = estimates.lines(planned, todo, Store(tmp_path / "store"), 2)
    assert "on the 2 cores of this machine (a guess from sizes of evaluate" in minutes
    assert memory == "about 0.8 GB of memory for each task with a model"
    assert disk.endswith("GB of disk for traces and changed weights")
    assert list(estimates.lines(planned, {}, Store(tmp_path / "store"), 2)) == []


def test_memory_is_asked_for_by_sizes_and_refuses_nothing_alone(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense")
    roomy, small = Resources(2, memory_gb=64), Resources(2, memory_gb=0.5)
    assert 0.8 < needs_of(sweep, have=roomy)["evaluate"].memory_gb < 0.9
    assert needs_of(sweep, have=small)["evaluate"].memory_gb == 0.5
    assert needs_of(sweep, have=roomy)["simulate"].memory_gb == 0
    own = {"evaluate": {"memory_gb": 0}}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", resources=own)
    assert needs_of(sweep, have=roomy)["evaluate"].memory_gb == 0
