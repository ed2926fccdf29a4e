"""Rows whose weights are stored in a code: their bytes, their tasks, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from methods.static.huffman import decoded, encoded
from simulator.geometry import Storage
from sweep.cli.app import app
from sweep.errors import InputError
from sweep.inputs import coded, models
from sweep.plan.grid import expand
from sweep.plan.materials import Materials
from sweep.spec import file as spec
from tests.sweep.tinysweep import planned, run, sweep_of

FILE = {"method": "none", "bits": "file"}


def rewritten(model: Path, folder: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    """A copy of the model whose matrices are others."""
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    new = {n: change(n, t).contiguous() if t.dim() == 2 else t for n, t in tensors.items()}
    save_file(new, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def half(tiny_llama: Path, tmp_path: Path) -> Path:
    """The tiny model in bfloat16."""
    return rewritten(tiny_llama, tmp_path / "half", lambda _, t: t.to(torch.bfloat16))


@pytest.fixture
def sparse(tiny_llama: Path, tmp_path: Path) -> Path:
    """The tiny model with zeros: 70 % of attention, 2:4 in the MLPs."""

    def change(name: str, weight: Tensor) -> Tensor:
        if ".mlp." in name:
            blocks = weight.view(weight.shape[0], -1, 4)
            least = blocks.abs().argsort(-1)[..., :2]
            return blocks.scatter(-1, least, 0).view_as(weight)
        if "attn" in name:
            flat = weight.flatten()
            flat[flat.abs().argsort()[: round(0.7 * len(flat))]] = 0
            return flat.view_as(weight)
        return weight

    return rewritten(tiny_llama, tmp_path / "sparse", change)


def matrices(folder: Path) -> dict[str, Tensor]:
    return {n: t for n, t in load_file(folder / "model.safetensors").items() if t.dim() == 2}


# -- dfloat11 ----------------------------------------------------------------------------------


def test_dfloat11_has_the_bytes_that_writing_takes_and_the_dense_perplexity(
    half: Path, tiny_text: str, tmp_path: Path
) -> None:
    written = {n: encoded(_bits(t)) for n, t in matrices(half).items()}
    for name, weight in matrices(half).items():
        assert np.array_equal(decoded(written[name]), _bits(weight).reshape(-1))
    sweep = sweep_of(half, tmp_path, tiny_text, "dense", "dfloat11", quant=[FILE])
    _, table = run(sweep, tmp_path / "out")
    dense, coded_row = (table[table.method == name].iloc[0] for name in ("dense", "dfloat11"))
    assert coded_row.weight_bytes == pytest.approx(sum(one.nbytes for one in written.values()))
    assert coded_row.weight_bytes_dense == dense.weight_bytes == dense.weight_bytes_16bit
    assert coded_row.ppl == dense.ppl
    assert coded_row.delta_ppl == 0
    assert json.loads(coded_row.task_keys) == json.loads(dense.task_keys)
    ratio = dense.weight_bytes / coded_row.weight_bytes
    assert ratio > 1.2  # small matrices: a table of 256 bytes each
    assert coded_row.tokens_per_s > dense.tokens_per_s


def _bits(weight: Tensor) -> Any:
    return weight.view(torch.uint16).numpy()


@pytest.mark.parametrize(
    ("quant", "message"),
    [
        ({"method": "rtn", "bits": 4}, "and rtn changes them; quant: .*bits: file"),
        ({"method": "none", "bits": 4}, "and the quantisation counts other bits"),
        ({"method": "none", "bits": 16}, "and the quantisation counts other bits"),
    ],
)
def test_dfloat11_after_a_quantisation_is_one_clear_error(
    half: Path, tiny_text: str, tmp_path: Path, quant: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        expand(sweep_of(half, tmp_path, tiny_text, "dense", "dfloat11", quant=[quant]))


def test_dfloat11_of_weights_that_are_not_bfloat16_is_one_clear_error(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"proj.weight: dfloat11 codes bfloat16 weights alone"):
        planned(sweep_of(tiny_llama, tmp_path, tiny_text, "dfloat11", quant=[FILE]))


def test_coded_rows_need_no_density_and_have_no_other(tmp_path: Path) -> None:
    own = {"device": "own", "dram_gb": 1, "flash_gbps": 1, "dram_gbps": 1}

    def load(entry: Any) -> Any:
        body = {"models": ["llama-2-7b"], "methods": [entry], "devices": [own]}
        return spec.from_mapping({"sweeps": {"s": body}})

    load({"method": ["dense", "packed", "dfloat11"]})
    with pytest.raises(InputError, match="out of reach of packed; it has only 1"):
        load({"method": "packed", "density": 0.5})
    with pytest.raises(InputError, match="'density' is missing"):
        load({"method": ["packed", "dip"]})


# -- packed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_packed_rows_have_the_smallest_code_of_each_matrix(
    sparse: Path, tiny_text: str, tmp_path: Path, bits: int
) -> None:
    group = 0 if bits == 16 else 128
    quant = {"method": "none", "bits": bits, "group_size": group, "embedding_bits": bits}
    sweep = sweep_of(sparse, tmp_path, tiny_text, "dense", "packed", quant=[quant], windows=1)
    plan, materials = planned(sweep), Materials(sweep)
    row = {p.point.method: p.point for p in plan.points}
    expected: dict[str, float] = {"mixers": 0, "mlp": 0}
    for name, weight in matrices(sparse).items():
        rows, length = weight.shape
        scales = 16 * -(-length // 128) / length if group else 0
        if ".mlp." in name:
            expected["mlp"] += rows * length * ((bits + scales) / 2 + 1) / 8
        elif "attn" in name:
            kept = int((weight != 0).sum()) / weight.numel()
            expected["mixers"] += rows * length * (1 + kept * (bits + scales)) / 8
    storage = materials.storage(row["packed"])
    geometry = materials.geometry(row["packed"])
    assert storage.file is not None
    assert geometry.mixer_weights * storage.file.mixers / 8 == pytest.approx(expected["mixers"])
    one = geometry.hidden * geometry.intermediate * geometry.layers
    mlp = one * (storage.file.gate + storage.file.up + storage.file.down) / 8
    assert mlp == pytest.approx(expected["mlp"])
    assert storage.file.embedding == storage.file.head == bits
    assert materials.storage(row["dense"]).file is None
    assert "its weights arrive sparse" in "".join(plan.notes)


def test_factors_of_a_packed_row_stand_apart_and_rtn_keeps_the_zeros(
    sparse: Path, tiny_text: str, tmp_path: Path
) -> None:
    quant = {"method": "rtn", "bits": 4, "group_size": 16}
    sweep = sweep_of(sparse, tmp_path, tiny_text, "dense", "packed", quant=[quant], windows=1)
    _, table = run(sweep, tmp_path / "out")
    dense, packed = (table[table.method == name].iloc[0] for name in ("dense", "packed"))
    assert packed.ppl == dense.ppl
    assert packed.weight_bytes < packed.weight_bytes_dense < packed.weight_bytes_16bit
    assert packed.weight_bytes_dense == dense.weight_bytes
    from methods.static import quantiser

    rounded = quantiser.create("rtn", 4, 16, {})
    for name, weight in matrices(sparse).items():
        if ".mlp." in name:
            assert not rounded.quantised(weight, None, 0)[weight == 0].any()


def test_packed_after_a_quantiser_that_moves_zeros_is_one_clear_error(
    sparse: Path, tiny_text: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="packed stores no zeros, and gptq moves weights"):
        expand(
            sweep_of(sparse, tmp_path, tiny_text, "packed", quant=[{"method": "gptq", "bits": 4}])
        )


def test_a_dense_model_packed_is_the_dense_model(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    plan = planned(sweep_of(tiny_llama, tmp_path, tiny_text, "packed", windows=1))
    assert not [note for note in plan.notes if "sparse" in note]
    stored = coded.stored(str(tiny_llama), None, Storage())
    assert coded.stored(str(tiny_llama), _packed(), Storage()) == stored


def _packed() -> Any:
    from methods.registry import create

    return create("packed")


def test_what_was_read_of_a_model_is_kept(sparse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = coded.contents(str(sparse), "a test")
    monkeypatch.setattr(coded.values, "contents", lambda entries: pytest.fail("read again"))
    assert coded.contents(str(sparse), "a test") == first
    mlp = first["model.layers.0.mlp.up_proj.weight"]
    assert (mlp.zeros, mlp.most, mlp.exponents) == (mlp.weights // 2, (2, 4), None)


def test_size_says_what_codes_save(sparse: Path, half: Path) -> None:
    done = CliRunner().invoke(app, ["size", str(sparse), "--codes"])
    assert done.exit_code == 0, done.output
    assert "in 2:4" in done.output
    (about,) = json.loads(CliRunner().invoke(app, ["size", str(half), "--codes", "--json"]).output)
    rows = {(row["code"], row["bits"]): row["of_32_bit"] for row in about["codes"]["stored"]}
    assert rows["dense", 16] == 0.5
    assert rows["packed", 16] == 0.5
    assert 0.33 < rows["dfloat11", 16] < 0.45
    assert 2 < about["codes"]["exponent_entropy"] < 3.2


def test_gguf_files_are_refused(tiny_llama: Path, tmp_path: Path) -> None:
    from tests.sweep import tiny_gguf

    path = tiny_gguf.write(tiny_llama, tmp_path / "tiny.gguf")
    with pytest.raises(InputError, match="is a GGUF file; packed needs the floats of safetensors"):
        coded.stored(str(path), _packed(), Storage())


def test_a_sparse_model_is_loaded_as_any_other(sparse: Path) -> None:
    model = models.load(str(sparse), "float32")
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert float((weight == 0).float().mean()) == 0.5
