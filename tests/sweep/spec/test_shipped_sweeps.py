"""The sweep file that ships: valid, with the settings of the paper's tables, its schema current."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml

import simulator
from methods.dynamic.dejavu import DejaVu
from methods.registry import method_class
from reports.paper.field import values
from reports.paper.published import published
from reports.paper.registry import EXHIBITS, OTHERS
from reports.paper.write import STUDIES
from sweep.plan import grid
from sweep.plan.point import Point
from sweep.spec import describe, schema_page
from sweep.spec import file as spec
from sweep.spec.entries import MethodEntry, QuantEntry, SweepEntry

ROOT = Path(__file__).parents[3]
MODELS = ("phi-3-medium", "phi-3-mini", "llama-3-8b", "mistral-7b")


@pytest.fixture(scope="module")
def file() -> spec.SweepFile:
    return spec.load(ROOT / "sweeps.yaml")


def points(file: spec.SweepFile, name: str) -> tuple[Point, ...]:
    return grid.expand(spec.select(file, name)).points


def evaluations(found: tuple[Point, ...]) -> set[tuple[object, ...]]:
    """What has a perplexity of its own: with gamma below 1 the cache takes part."""
    return {
        (p.model, p.method, p.density, p.parameters, p.gamma)
        + ((p.device.dram_gb, p.policy) if p.gamma < 1 else ())
        for p in found
    }


def test_demo_has_every_method_and_compares_policies(file: spec.SweepFile):
    found = points(file, "demo")
    assert {p.model for p in found} == {"smollm2-135m"}
    assert {p.method for p in found} == {"dense", "glu", "glu-oracle", "gate", "up", "dip"}
    dip = [p for p in found if p.method == "dip"]
    assert {dict(p.parameters)["allocation"] for p in dip} == {"paper", "uniform"}
    assert len({p.density for p in dip}) >= 5
    assert len({p.gamma for p in dip if p.gamma < 1}) >= 3
    assert len({p.device.dram_gb for p in found}) >= 2
    assert len({p.device.flash_gbps for p in found}) >= 2
    assert {p.policy for p in dip} >= {"none", "lfu", "lru", "belady", "min"}
    assert {p.policy for p in dip if p.gamma < 1} == {"lfu"}


def test_demo_is_small_enough_for_two_cores(file: spec.SweepFile):
    """About 12 core-seconds for an evaluation of 2048 tokens: five minutes are 50 of them."""
    demo = spec.select(file, "demo")
    assert demo.windows is not None
    assert demo.windows * demo.window_tokens <= 2048
    assert len(evaluations(points(file, "demo"))) <= 50


def test_demo_caches_about_a_third_and_about_two_thirds_of_the_mlps(file: spec.SweepFile):
    dip = next(p for p in points(file, "demo") if p.method == "dip")
    geometry = simulator.Geometry.load("smollm2-135m")
    footprint = simulator.footprint(geometry, ["input", "intermediate"], dip.storage)
    sizes = sorted({p.device.dram_gb for p in points(file, "demo")})
    fractions = [simulator.allocate(footprint, gb * 1e9).fraction for gb in sizes]
    assert fractions == pytest.approx([0.31, 0.60], abs=0.01)
    assert footprint.static_bytes == pytest.approx(0.0514e9, rel=0.01)


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "table4", "table6", "table7"])
def test_tables_use_the_papers_setting(file: spec.SweepFile, table: str):
    sweep = spec.select(file, table)
    found = points(file, table)
    assert (sweep.text, sweep.windows, sweep.window_tokens) == ("wikitext2", None, 2048)
    assert {p.policy for p in found if method_class(p.method).groups} == {"lfu"}
    assert {p.device.dram_gbps for p in found} == {60.0}
    assert {(p.quant.bits, p.timing) for p in found} == {(4, "overlap")}


@pytest.mark.parametrize("table", [e.name for e in EXHIBITS if e.name.startswith("table")])
def test_tables_have_every_row_and_every_model_that_the_paper_prints(
    file: spec.SweepFile, table: str
):
    asked = {(p.model, row(p)) for p in points(file, table)}
    rows = {(p.model, p.method) for p in published() if p.exhibit == table}
    assert len(rows) >= 5
    assert rows - asked == set()


@pytest.mark.parametrize(("table", "density"), [("table1", 0.5), ("table3", 0.6), ("table4", 0.4)])
def test_tables_1_3_and_4_have_one_density_and_no_rows_of_their_own(
    file: spec.SweepFile, table: str, density: float
):
    found = points(file, table)
    assert [m.model for m in spec.select(file, table).models] == list(MODELS)
    assert {p.density for p in found if p.method != "dense"} == {density}
    printed = {(p.model, p.method) for p in published() if p.exhibit == table}
    assert {(p.model, row(p)) for p in found} == printed


def row(point: Point) -> str:
    pattern = dict(point.parameters).get("pattern")
    method = "dip-ca" if point.selector == "cache-aware" else point.method
    return f"{method} {pattern}" if pattern else method


def test_figure_9_combines_quantisation_with_dip_and_static_pruning(file: spec.SweepFile):
    found = {(p.quant.method, p.quant.bits, p.method) for p in points(file, "figure9")}
    alone = {(by, bits, "dense") for by in ("gptq", "gptvq") for bits in (2, 3, 4)}
    assert found == alone | {("gptq", 4, "dip"), ("gptvq", 3, "dip"), ("gptq", 4, "sparsegpt")}


def test_table2_has_the_papers_dram_for_each_model(file: spec.SweepFile):
    found = points(file, "table2")
    assert {(p.model, p.device.dram_gb, p.device.flash_gbps) for p in found} == {
        ("phi-3-medium", 4.0, 1.0),
        ("phi-3-mini", 1.5, 1.0),
        ("llama-3-8b", 2.5, 1.0),
        ("mistral-7b", 2.0, 1.0),
    }
    assert spec.select(file, "table2").budgets == ("0.2", "0.5")
    assert {p.gamma for p in found if p.selector == "cache-aware"} == {0.2}


def test_tables_6_and_7_vary_dram_and_flash(file: spec.SweepFile):
    six, seven = points(file, "table6"), points(file, "table7")
    assert {(p.device.dram_gb, p.device.flash_gbps) for p in six} == {(2, 1), (4, 1), (6, 1)}
    assert {(p.device.dram_gb, p.device.flash_gbps) for p in seven} == {(4, 0.5), (4, 1), (4, 2)}
    assert {p.model for p in six + seven} == {"phi-3-medium"}
    assert evaluations(seven) < evaluations(six)


def test_every_exhibit_of_the_paper_names_what_can_be_run(file: spec.SweepFile):
    for exhibit in (*EXHIBITS, *OTHERS):
        for name in (*exhibit.sweeps, *exhibit.twins):
            assert name in (file.studies if name in STUDIES else file.sweeps), name
        assert exhibit.sweeps
        assert exhibit.twins


def test_sweeps_of_other_papers_have_what_they_print(file: spec.SweepFile):
    """Perplexities of WAS but for what prunes MLPs alone here, of ActiveFlow, and of TEAL."""
    asked = {(p.model, p.method, p.density) for p in points(file, "field-paper")}
    sources = {"was": {"dense", "teal", "was"}, "active-flow": {"dense", "active-flow"}}
    printed = {
        (v.model, v.method, round(1 - v.sparsity, 6))
        for v in values()
        if v.metric == "ppl" and v.method in sources.get(v.source, ())
    }
    assert len(printed) == 22
    assert printed - asked == set()
    pruned = [p for p in points(file, "field-paper") if p.method != "dense"]
    wide = [dict(p.parameters) for p in pruned if p.method in ("was", "teal", "active-flow")]
    assert {parameters["attention"] for parameters in wide} == {"same"}
    alone = {p.method: dict(p.parameters) for p in pruned if p.density == 0.3}
    assert {"wanda", "dsnot", "losa"} < set(alone)
    grown = [dict(p.parameters)["ppl_percent"] for p in pruned if p.method == "cett"]
    assert set(grown) == {1, 5, 10}
    teal = points(file, "field-teal")
    assert {p.accuracy.dense_tokens for p in teal} == {1024}
    assert {(p.method, p.density) for p in teal} == {("dense", 1), ("teal", 0.6), ("teal", 0.5)}


def test_opportunities_are_percentile_thresholds_over_models(file: spec.SweepFile):
    found = [p for p in points(file, "opportunities") if p.method != "dense"]
    assert len({p.model for p in found}) == 4
    assert {(p.method, p.selector) for p in found} == {
        ("glu-oracle", "layer-threshold"),
        ("cats", "layer-threshold"),
    }
    assert len({p.density for p in found}) == 6


def test_densities_of_the_tables_are_dense_enough_to_search(file: spec.SweepFile):
    for table in ("table2", "table6", "table7"):
        for method in ("glu", "up", "cats", "dip"):
            densities = sorted({p.density for p in points(file, table) if p.method == method})
            steps = [b - a for a, b in pairwise(densities)]
            assert max(steps) <= 0.021
            assert densities[-1] >= 0.95


def test_the_schema_file_is_current_and_accepts_the_shipped_file():
    assert (ROOT / "sweeps.schema.json").read_text(encoding="utf-8") == spec.schema_text()
    schema = spec.json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    value = yaml.safe_load((ROOT / "sweeps.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(value, schema)


def test_the_schema_names_what_an_editor_can_complete():
    definitions = spec.json_schema()["$defs"]
    for name, keys in {
        "MethodEntry": ("dip", "dip-ca"),
        "DeviceEntry": ("apple-a18", "snapdragon-8s-gen-3"),
        "SweepEntry": ("belady", "bfloat16", "embedded-wiki"),
        "ModelEntry": ("smollm2-135m",),
    }.items():
        text = str(definitions[name])
        assert [key for key in keys if f"'{key}'" not in text] == []
    mapping = definitions["MethodEntry"]["anyOf"][1]
    assert mapping["additionalProperties"] is False
    assert "allocation" in mapping["properties"]
    wrong = {"models": "smollm2-135m", "methods": ["dpi"], "devices": "apple-a18"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sweeps": {"a": wrong}}, spec.json_schema())


def properties(schema: object) -> list[tuple[str, dict[str, object]]]:
    """Every (key, schema) under a `properties` anywhere in a schema."""
    if isinstance(schema, list):
        return [pair for item in schema for pair in properties(item)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("properties", {})
    return [*own.items(), *(pair for value in schema.values() for pair in properties(value))]


def test_the_schema_describes_its_keys():
    keys = properties(spec.json_schema())
    assert len(keys) > 150
    described = [key for key, value in keys if len(str(value.get("description", ""))) > 5]
    assert len(described) >= 0.95 * len(keys)


def test_every_parameter_of_a_method_has_a_sentence_and_its_own_default():
    parameters = describe.method_parameters()
    assert set(parameters) == set(MethodEntry.own_keys())
    assert set(describe.quantiser_parameters()) == set(QuantEntry.own_keys())
    for each in (*parameters.values(), *describe.quantiser_parameters().values()):
        assert not each["description"].endswith(": a parameter.")
    assert parameters["width"]["default"] == DejaVu.width
    assert parameters["allocation"]["description"].startswith(
        "Of dip, dip+lora, dip+lozo: how the density"
    )


def test_descriptions_are_inherited_and_need_a_source():
    docs = describe.field_docs(SweepEntry)
    assert docs["seed"] == "Seed of everything that is random."
    assert docs["models"] == "The models to compare on."
    assert describe.field_docs(type("Nowhere", (), {"__module__": "no.such.module"})) == {}


def test_the_page_of_all_keys_is_current():
    text = (ROOT / "sweeps.yaml").read_text(encoding="utf-8")
    example = schema_page.example_of(text, "demo")
    assert list(yaml.safe_load(example)["sweeps"]) == ["demo"]
    page = schema_page.markdown(spec.json_schema(), example)
    assert (ROOT / "docs" / "sweep-file.md").read_text(encoding="utf-8") == page
    missing = [key for key, _ in properties(spec.json_schema()) if f"| `{key}` |" not in page]
    assert set(missing) == {"from", "to", "step", "log"}


def test_a_page_without_an_example_has_none():
    assert schema_page.example_of("sweeps:\n  a:\n    models: b\n", "demo") == ""
    assert "```" not in schema_page.markdown(spec.json_schema())


def test_sweeps_for_a_second_family_are_those_of_the_field():
    """The files name models that have to be put in place: here it is another."""

    def with_another(name: str) -> spec.SweepFile:
        value = yaml.safe_load((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))
        for sweep in value["sweeps"].values():
            sweep["models"] = ["smollm2-135m"]
        return spec.from_mapping(value)

    static, file = with_another("static.yaml"), with_another("family.yaml")
    assert {p.method for p in points(static, "static")} >= {"dfloat11", "wanda", "dsnot", "losa"}
    asked = {(p.method, p.selector) for p in points(file, "second-beyond")}
    assert {("dip", "resident-threshold"), ("dip", "cache-aware"), ("dip", "topk")} < asked
    shipped = {p.method for p in points(spec.load(ROOT / "sweeps.yaml"), "field")}
    left_out = {"cett", "la-rosa", "shadow-llm", "dejavu", "glu"}
    assert {p.method for p in points(file, "second-field")} == shipped - left_out
