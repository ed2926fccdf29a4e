"""Mixtures of experts through a whole sweep: plan, tasks, table; and what is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simulator import Geometry, Storage, footprint
from sweep.errors import InputError
from tests import moe
from tests.sweep import tinysweep

pytestmark = pytest.mark.usefixtures("one_thread")

DRAM = 0.00016
"""Half of the experts of the tiny Mixtral."""


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moe.save("mixtral", tmp_path_factory.mktemp("mixtral"))


def sweep_of(model: Path, folder: Path, text: str, *methods: Any, **settings: Any) -> Any:
    usual: dict[str, Any] = {
        "devices": [{"device": "apple-a18", "dram_gb": DRAM}],
        "policies": ["lru"],
        "window_tokens": 48,
        "windows": 1,
    }
    return tinysweep.sweep_of(model, folder, text, *methods, **(usual | settings))


def table_of(sweep: Any, out: Path) -> pd.DataFrame:
    _, table = tinysweep.run(sweep, out)
    assert table["error"].tolist() == [""] * len(table)
    assert set(table["status"]) == {"done"}
    return table


def test_rules_and_caches_in_one_table(mixtral: Path, tmp_path: Path, tiny_text: str) -> None:
    sweep = sweep_of(
        mixtral,
        tmp_path,
        tiny_text,
        "dense",
        "stock",
        {"method": "cache-prior", "lam": [0, 0.5], "protected": 1},
        {"method": "stock", "inside": "glu", "density": 0.8},
        policies=["lru", "lfru", "slru", "hot-set", "min", "belady", "none"],
        distances=True,
    )
    table = table_of(sweep, tmp_path / "out")
    dense = table[table.method == "dense"].iloc[0]
    stock = table.query("method == 'stock' and density == 1").set_index("policy")
    assert (stock.ppl == dense.ppl).all()
    assert (stock.kl == 0).all()
    assert stock.hit_rate["min"] >= stock.hit_rate["belady"] >= stock.hit_rate["lru"]
    assert stock.bound.to_dict() == dict.fromkeys(stock.index, False) | {
        "min": True,
        "belady": True,
    }
    assert stock.asked_per_slot["lru"] == 1.0
    assert stock.asked_above_slots["lru"] == 0.0
    assert stock.misses_per_token["none"] == 8  # 2 experts in each of 4 layers
    prior = table.query("method == 'cache-prior'")
    still = prior.query("lam == 0").set_index("policy")
    assert (still.ppl == dense.ppl).all()
    assert still.misses_per_token.equals(stock.misses_per_token)
    biased = prior.query("lam == 0.5").set_index("policy")
    assert {"min", "belady"}.isdisjoint(biased.index)
    assert biased.misses_per_token["lru"] < stock.misses_per_token["lru"]
    assert biased.swaps["lru"] > 0
    assert (biased.series == "cache-prior").all()
    unit = footprint(Geometry.load(_geometry(mixtral)), ["expert"], Storage()).groups["expert"]
    assert stock.flash_bytes_per_token["none"] == pytest.approx(8 * unit.unit_bytes)
    inside = table[(table.density == 0.8) & (table.policy == "none")].iloc[0]
    assert inside.flash_bytes_per_token == pytest.approx(8 * unit.unit_bytes * inside.mlp_density)


def _geometry(model: Path) -> Any:
    from sweep.inputs import model_sizes

    return model_sizes.geometry(str(model)).to_mapping()


def test_one_pool_and_hot_starts(mixtral: Path, tmp_path: Path, tiny_text: str) -> None:
    sweep = sweep_of(
        mixtral,
        tmp_path,
        tiny_text,
        "stock",
        policies=["lru", "min"],
        cache={"pool": ["layer", "model"], "start": ["empty", "hot"]},
    )
    table = table_of(sweep, tmp_path / "out").set_index(["policy", "pool", "cache_start"])
    assert len(table) == 8
    assert table.hit_rate["min", True, "empty"] > table.hit_rate["min", False, "empty"]
    assert table.hit_rate["min", True, "hot"] > table.hit_rate["min", True, "empty"]
    assert table.point_key.is_unique


@pytest.mark.parametrize("kind", ["qwen2_moe", "deepseek_v3", "gpt_oss"])
def test_other_families_run_too(kind: str, tmp_path: Path, tiny_text: str) -> None:
    model = moe.save(kind, tmp_path / kind)
    methods = ("dense", "stock", {"method": "cache-prior", "protected": 1})
    sizes = footprint(Geometry.load(_geometry(model)), ["expert"], Storage())
    half = (sizes.static_bytes + sizes.pruned_bytes / 2) / 1e9
    devices = [{"device": "apple-a18", "dram_gb": half}]
    sweep = sweep_of(model, tmp_path, tiny_text, *methods, devices=devices)
    table = table_of(sweep, tmp_path / "out")
    by_method = table.set_index("method")
    assert by_method.ppl["stock"] == by_method.ppl["dense"]
    assert by_method.misses_per_token["cache-prior"] < by_method.misses_per_token["stock"]


def test_reads_of_experts(mixtral: Path, tmp_path: Path, tiny_text: str) -> None:
    """A missed expert is one read, on a device that says what a read costs."""
    device = {"device": "apple-a18", "dram_gb": DRAM, "latency_us": 50}
    methods = ("stock", {"method": "score-gap"})
    sweep = sweep_of(mixtral, tmp_path, tiny_text, *methods, devices=[device])
    table = table_of(sweep, tmp_path / "out")
    assert (table.reads_per_token <= table.misses_per_token).all()
    assert (table.reads_per_token > 0).all()
    assert (table.tokens_per_s < table.tokens_per_s_paper).all()


@pytest.mark.parametrize(
    ("methods", "settings", "said"),
    [
        (["glu"], {}, "glu is for plain MLPs; rules choose its experts"),
        ([{"method": "cache-prior", "protected": 3}], {}, "protected 3 of cache-prior: a token us"),
        ([{"method": "stock", "experts": 5}], {}, "experts 5 of stock: the model has 4"),
        (["stock"], {"quant": [{"method": "rtn"}]}, "no quantiser and no other activation"),
        (["stock"], {"cache": {"pool": "model"}, "dram": 0.00006}, "smaller than one event, which"),
        (["score-gap"], {"cache": {"pool": "model"}}, "score-gap reads the cache: in one pool"),
        (["score-gap"], {"policies": "min"}, "score-gap reads the cache, and min knows the future"),
        ([{"method": "stock", "selector": "topk"}], {}, "stock decides its masks itself"),
        ([{"method": "stock", "chunk": 2}], {}, "gamma and chunk are for neurons"),
    ],
)
def test_what_is_refused(
    mixtral: Path, tmp_path: Path, tiny_text: str, methods: Any, settings: Any, said: str
) -> None:
    dram = settings.pop("dram", DRAM)
    methods = [
        {"method": m, "density": 0.8} if m == "glu" else m for m in methods
    ]  # glu needs a density
    device = {"device": "apple-a18", "dram_gb": dram}
    sweep = sweep_of(mixtral, tmp_path, tiny_text, *methods, devices=[device], **settings)
    with pytest.raises(InputError, match=said):
        tinysweep.run(sweep, tmp_path / "out")


def test_a_rule_on_a_dense_model(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> None:
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "stock")
    with pytest.raises(InputError, match=r"stock chooses experts; model .* has none"):
        tinysweep.run(sweep, tmp_path / "out")


def test_an_unknown_family(tmp_path: Path, tiny_text: str) -> None:
    from tests.zoo import tiny

    tiny.saved("ernie4_5_moe", tmp_path / "ernie")
    sweep = sweep_of(tmp_path / "ernie", tmp_path, tiny_text, "stock")
    with pytest.raises(InputError, match="mixture of experts"):
        tinysweep.run(sweep, tmp_path / "out")
