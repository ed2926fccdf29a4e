"""A dense model split into experts: real routing, and the dense model again with all of them on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from methods.base import MethodError
from methods.experts.apply import routed
from methods.experts.splitting import Shape, clusters, split
from methods.experts.view import routed_layers
from methods.mlp import gated_mlps
from simulator.experts import Experts
from sweep.errors import InputError
from sweep.inputs import model_sizes, models
from sweep.routing import split as splitting
from sweep.routing.split import split_model

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = Shape(shared=2, routed=4, chosen=2)
IDS = torch.arange(1, 41)[None]


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory, tiny_text: str) -> str:
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text(tiny_text, encoding="utf-8")
    return str(path)


@pytest.fixture
def made(
    tiny_llama: Path, calibration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(splitting, "WINDOW", 64)
    split_model(
        str(tiny_llama), tmp_path / "moe", SHAPE, calibration=calibration, notify=lambda _: None
    )
    return tmp_path / "moe"


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits[0]


def test_all_experts_are_the_dense_model(tiny_llama: Path, made: Path) -> None:
    dense, moe = models.load(str(tiny_llama)), models.load(str(made))
    wanted = logits(dense)
    with routed(moe, lambda event: torch.ones_like(event.stock)):
        given = logits(moe)
    assert (given - wanted).norm() < 3e-3 * wanted.norm()
    assert (logits(moe) - wanted).norm() > 0.05 * wanted.norm()


def test_its_routing_is_real(made: Path) -> None:
    """Tokens differ in their experts, and chosen ones are mixed with weights near 1."""
    moe = models.load(str(made))
    seen = []
    with routed(moe, lambda event: seen.append(event)):
        logits(moe)
    for event, layer in zip(seen, routed_layers(moe), strict=True):
        assert len(event.stock.unique(dim=0)) > 2
        _, weights, _ = layer.router(event.hidden)
        assert torch.allclose(weights, torch.ones_like(weights), atol=0.01)


def test_its_sizes_are_those_of_the_folder(tiny_llama: Path, made: Path) -> None:
    dense, moe = (model_sizes.geometry(str(path)) for path in (tiny_llama, made))
    assert moe.experts == Experts(2, 4, 2, 16, shared=32, router=4 * 48)
    assert moe.weights == dense.weights + 2 * 4 * 48
    assert (moe.mixer_weights, moe.tied_embeddings) == (dense.mixer_weights, False)


def test_routers_learn(
    tiny_llama: Path, calibration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "WINDOW", 64)
    lines: list[str] = []
    options = {"calibration": calibration, "notify": lines.append}
    split_model(str(tiny_llama), tmp_path / "moe", SHAPE, tokens=192, **options)
    losses = [float(line.split()[-2]) for line in lines if line.startswith("step")]
    assert len(losses) == 3
    assert all(loss > 0 for loss in losses)
    moe, dense = models.load(str(tmp_path / "moe")), models.load(str(tiny_llama))
    with routed(moe, lambda event: torch.ones_like(event.stock)):
        assert (logits(moe) - logits(dense)).norm() < 3e-3 * logits(dense).norm()


def test_neurons_are_all_there_once(tiny_llama: Path) -> None:
    view = gated_mlps(models.load(str(tiny_llama)))[0]
    x = torch.randn(50, 48, generator=torch.Generator().manual_seed(1))
    parts = split(view, x, SHAPE)
    neurons = torch.cat([parts.shared, parts.routed.reshape(-1)])
    assert neurons.sort().values.tolist() == list(range(96))
    assert 0.5 < parts.share <= 1
    assert parts.router.shape == (4, 48)


def test_clusters_are_of_equal_size_and_alike() -> None:
    rows = torch.eye(3).repeat_interleave(4, dim=0) + 0.01 * torch.randn(
        12, 3, generator=torch.Generator().manual_seed(2)
    )
    found = clusters(torch.nn.functional.normalize(rows, dim=1), 3, seed=1)
    assert sorted(found.tolist()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_faults_are_one_sentence(tiny_llama: Path, tiny_phi3: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        split_model(str(tiny_llama), tmp_path, SHAPE)
    with pytest.raises(InputError, match="is of family phi3; llama can be split"):
        split_model(str(tiny_phi3), tmp_path / "a", SHAPE)
    with pytest.raises(InputError, match="7 experts do not divide the 96 neurons"):
        split_model(str(tiny_llama), tmp_path / "a", Shape(3, 4, 2))
    with pytest.raises(MethodError, match="no more can be chosen"):
        Shape(1, 2, 3).width(96)
