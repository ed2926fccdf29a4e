"""What a point's bytes are counted with: bits of files, context, and the notes about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.findings.points import by_setting, device_label, varying
from reports.findings.points import points as read_points
from reports.results import rows
from simulator.geometry import Geometry, Storage
from sweep.errors import InputError
from sweep.inputs import model_sizes
from sweep.plan import sizes
from sweep.plan.grid import expand
from sweep.plan.materials import Materials
from sweep.plan.planner import plan_points
from sweep.plan.point import Point
from sweep.spec import file as spec
from sweep.spec.entries import Sweep
from tests.sweep import tiny_gguf, tinysweep


@pytest.fixture
def gguf_file(tiny_llama: Path, tmp_path: Path) -> Path:
    return tiny_gguf.write(tiny_llama, tmp_path / "tiny.gguf")


def sweep_of(model: Any, folder: Path, **settings: Any) -> Sweep:
    for name in ("text", "calibration"):
        (folder / f"{name}.txt").write_text(f"{name} of words " * 200)
    body = {
        "models": [str(model) if isinstance(model, Path) else model],
        "methods": ["dense"],
        "devices": [{"device": "apple-a18", "dram_gb": 0.0001}],
        "text": str(folder / "text.txt"),
        "calibration": str(folder / "calibration.txt"),
        "windows": 1,
        "window_tokens": 16,
        **settings,
    }
    return spec.from_mapping({"sweeps": {"s": body}}).sweeps["s"]


def points(*arguments: Any, **settings: Any) -> tuple[Point, ...]:
    return expand(sweep_of(*arguments, **settings)).points


# -- bits ------------------------------------------------------------------------------------


def test_weights_that_come_quantised_have_the_bits_of_their_file(
    gguf_file: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    (of_file,) = points(gguf_file, tmp_path)
    assert of_file.quant.of_file
    (plain,) = points(tiny_llama, tmp_path)
    (built_in,) = points("smollm2-135m", tmp_path)
    assert plain.quant.bits == built_in.quant.bits == 4
    (written,) = points(gguf_file, tmp_path, quant=[{"method": "none", "bits": 8}])
    assert written.quant.bits == 8
    (rounded,) = points(gguf_file, tmp_path, quant=["rtn"])
    assert rounded.quant.bits == 4
    (asked,) = points(tiny_llama, tmp_path, quant=[{"method": "none", "bits": "file"}])
    assert asked.quant.of_file


def test_storage_has_the_bits_of_the_file(gguf_file: Path, tmp_path: Path) -> None:
    sweep = sweep_of(gguf_file, tmp_path)
    (point,) = expand(sweep).points
    storage = Materials(sweep).storage(point)
    assert storage.file is not None
    assert storage.file.gate == storage.file.embedding == 32


def test_a_file_of_other_bits_than_counted_is_said(
    gguf_file: Path, tiny_llama: Path, tmp_path: Path
) -> None:
    def notes(model: Path, **settings: Any) -> list[str]:
        sweep = sweep_of(model, tmp_path, **settings)
        return plan_points(expand(sweep).points, Materials(sweep)).notes

    assert notes(gguf_file) == []
    (note,) = notes(gguf_file, quant=[{"method": "none", "bits": 4}])
    assert "GB of weights are simulated (4 bit), its files have" in note
    (note,) = notes(tiny_llama)
    assert "bits: file" in note
    close = [{"method": "none", "bits": 32, "group_size": 0, "embedding_bits": 32}]
    assert notes(tiny_llama, quant=close) == []


def test_bits_of_the_file_are_of_weights_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rtn makes others of them"):
        points("smollm2-135m", tmp_path, quant=[{"method": "rtn", "bits": "file"}])


def test_rounded_embeddings_count_their_own_bits(tmp_path: Path) -> None:
    (left, rounded) = points(
        "smollm2-135m",
        tmp_path,
        quant=[{"method": "rtn", "bits": 4, "group_size": 64, "embeddings": [0, 8]}],
    )
    assert left.storage == Storage(group_size=64)
    assert rounded.storage == Storage(group_size=64, embedding_bits=8, embedding_group=64)
    assert rounded.storage.embedding_bytes(1, 576) == 576 + 9 * 2


# -- context ---------------------------------------------------------------------------------


def test_context_is_an_axis_of_the_device(tmp_path: Path) -> None:
    device = {"device": "apple-a18", "dram_gb": 0.06, "context": [512, 2048, 8192]}
    short, usual, long = points("smollm2-135m", tmp_path, devices=[device])
    assert [p.kv_tokens for p in (short, usual, long)] == [512, 2048, 8192]
    (without,) = points("smollm2-135m", tmp_path, devices=[{**device, "context": 2048}])
    (default,) = points(
        "smollm2-135m", tmp_path, devices=[{"device": "apple-a18", "dram_gb": 0.06}]
    )
    assert without == usual == default
    assert usual.key == default.key != long.key
    (of_kv,) = points(
        "smollm2-135m",
        tmp_path,
        devices=[{"device": "apple-a18", "dram_gb": 0.06}],
        kv={"tokens": 8192},
    )
    assert of_kv == long


def test_context_can_be_excluded(tmp_path: Path) -> None:
    device = {"device": "apple-a18", "dram_gb": 0.06, "context": [512, 2048]}
    (left,) = points("smollm2-135m", tmp_path, devices=[device], exclude=[{"context": 512}])
    assert left.kv_tokens == 2048


def test_context_changes_an_evaluation_through_slots_alone(
    tiny_llama: Path, tmp_path: Path
) -> None:
    device = {"device": "apple-a18", "dram_gb": 1.0, "context": [16, 64]}
    methods = [{"method": "dip", "density": 0.7}, {"method": "dip", "density": 0.7, "gamma": 0.5}]

    def tasks(dram_gb: float) -> int:
        sweep = sweep_of(
            tiny_llama, tmp_path, methods=methods, devices=[{**device, "dram_gb": dram_gb}]
        )
        plan = plan_points(expand(sweep).points, Materials(sweep))
        return plan.counts()["evaluate"]

    assert tasks(1.0) == 3  # all fits: dense, dip, and one of the cache
    assert tasks(3.3e-5) == 4  # the cache is another where the context leaves less room


# -- sizes given in the file -----------------------------------------------------------------


def test_a_geometry_in_the_file_is_that_of_the_provenance(tiny_llama: Path, tmp_path: Path) -> None:
    sizes = Geometry.load("smollm2-135m").to_mapping()
    given = {name: size for name, size in sizes.items() if name != "name"} | {"layers": 7}
    (tmp_path / "model").mkdir()
    for path in tiny_llama.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "no-such"}))
    sweep = sweep_of({"model": str(tmp_path / "model"), "geometry": given}, tmp_path)
    materials = Materials(sweep)
    (point,) = expand(sweep).points
    assert materials.geometry(point).layers == 7
    about = materials.describe_models()[point.model]["geometry"]
    assert about["layers"] == 7
    assert materials.caveats()
    assert json.loads(materials.where(point, "text")["sizes"])["layers"] == 7


# -- all the way to the table ----------------------------------------------------------------


def test_a_run_has_a_row_for_each_context(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    device = {"device": "apple-a18", "dram_gb": 0.0001, "context": [16, 64]}
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, "dense", devices=[device])
    _, table = tinysweep.run(sweep, tmp_path / "run")
    assert list(table.context) == [16, 64]
    assert list(table.status) == ["done", "done"]
    geometry = model_sizes.geometry(str(tiny_llama))
    kv = [geometry.kv_bytes(Storage(kv_tokens=tokens)) for tokens in (16, 64)]
    assert table.static_bytes[1] - table.static_bytes[0] == kv[1] - kv[0]
    short, long = by_setting(read_points(rows(table)))
    assert (short.context, long.context) == (16, 64)
    assert device_label(long, varying([short, long])).endswith("64 tokens of context")
    notes = json.loads((tmp_path / "run" / "provenance.json").read_text())["notes"]
    assert any("GB of weights are simulated (4 bit), its files have" in note for note in notes)


def test_a_model_that_is_not_the_one_planned_fails_by_name(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sizes = model_sizes.geometry(str(tiny_llama)).to_mapping()
    given = {k: v for k, v in sizes.items() if k != "name"} | {"intermediate": 8}
    model = {"model": str(tiny_llama), "geometry": given}
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, "dense", models=[model])
    done, table = tinysweep.run(sweep, tmp_path / "run")
    assert done.exit_code == 1
    assert "was planned with 8 units of an MLP" in table.error[0]


# -- operations ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "a_layer"),
    [
        ({"method": "dip"}, 0),
        ({"method": "hire", "scorer_rank": 8}, 2 * 2 * 8 * (48 + 96)),
        ({"method": "hire", "scorer": "low-bit", "scorer_bits": 2}, 2 * 2 * 96 * (48 + 1)),
        ({"method": "r-sparse", "branch_rank": 4}, 2 * 3 * 4 * (48 + 96)),
        ({"method": "magnitude"}, 0),
    ],
)
def test_operations_are_two_for_each_weight_that_a_method_adds(
    tiny_llama: Path, tmp_path: Path, method: dict[str, Any], a_layer: int
) -> None:
    (point,) = points(tiny_llama, tmp_path, methods=[{**method, "density": 0.5}])
    geometry = Geometry("tiny", 3, 48, 96, 4, 2, 12, 64)
    assert sizes.overhead_flops(point, geometry) == a_layer * 3
