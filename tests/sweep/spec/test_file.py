"""The sweep file: what is accepted, and every fault of a bad one at once, with its line."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.errors import InputError
from sweep.spec import file as spec

DOCUMENTED = """\
# yaml-language-server: $schema=./sweeps.schema.json
plugins: []
defaults: {seed: 0, text: embedded-wiki, calibration: embedded-c4, windows: 2, window_tokens: 2048,
           shard_windows: 1, dtype: float32}
sweeps:
  demo:
    models: [smollm2-135m]
    quant: [{method: none, bits: 4}]
    methods:
      - dense
      - {method: [glu, up], density: [0.7, 0.8, 0.9]}
      - {method: dip, density: {from: 0.5, to: 0.9, step: 0.1}, allocation: [paper, uniform]}
      - {method: dip, density: [0.6, 0.7, 0.8], gamma: [0.2, 0.5]}
    devices:
      - {device: apple-a18, dram_gb: [0.06, 0.075], flash_gbps: [0.5, 1, 2]}
    policies: [lfu, lru, belady]
    cache: {start: empty, scope: window}
    timing: overlap
    budgets: [0.1, 0.2, 0.5, 1%, 5%, 10%]
    tasks: []
    exclude: [{method: up, density: 0.7}]
    resources: {evaluate: {gpu: auto, cpu: 1}, simulate: {cpu: 1}}
studies:
  gamma-a18: {sweep: demo, search: {gamma: [0.05, 1.0], density: [0.5, 0.95]},
              objective: {maximize: tokens_per_s, within: 5%}, trials: 60, sampler: tpe}
"""

SMALL: dict[str, Any] = {
    "sweeps": {"a": {"models": "smollm2-135m", "methods": "dense", "devices": "apple-a18"}}
}


def faults(text: str, tmp_path: Path, *overrides: str) -> list[str]:
    """Faults of a file, without its folder."""
    path = tmp_path / "s.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        spec.load(path, overrides)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def faults_of(**changes: Any) -> list[str]:
    """Faults of the small sweep with these keys."""
    value = copy.deepcopy(SMALL)
    value["sweeps"]["a"].update(changes)
    with pytest.raises(InputError) as caught:
        spec.from_mapping(value, "s")
    return [line.removeprefix("s: sweeps.a") for line in str(caught.value).splitlines()]


def sweep_of(**changes: Any) -> spec.Sweep:
    value = copy.deepcopy(SMALL)
    value["sweeps"]["a"].update(changes)
    return spec.from_mapping(value).sweeps["a"]


def test_the_documented_file_is_valid_as_written(tmp_path: Path):
    (tmp_path / "sweeps.yaml").write_text(DOCUMENTED)
    file = spec.load(tmp_path / "sweeps.yaml")
    demo = spec.select(file, "demo")
    assert demo.name == "demo"
    assert [model.model for model in demo.models] == ["smollm2-135m"]
    assert demo.methods[1].method == ("glu", "up")
    assert demo.methods[2].density == (0.5, 0.6, 0.7, 0.8, 0.9)
    assert demo.methods[2].parameters == {"allocation": ("paper", "uniform")}
    assert demo.methods[3].gamma == (0.2, 0.5)
    assert demo.devices[0].flash_gbps == (0.5, 1.0, 2.0)
    assert demo.budgets == ("0.1", "0.2", "0.5", "1%", "5%", "10%")
    assert demo.resources.evaluate.gpu is None
    assert file.studies["gamma-a18"].objective.within == "5%"
    assert demo.model_dump(mode="json")["methods"][2]["allocation"] == ["paper", "uniform"]


def test_defaults_are_merged_key_by_key():
    value = copy.deepcopy(SMALL)
    value["defaults"] = {
        "windows": "all",
        "seed": 3,
        "cache": {"scope": "carry"},
        "timing": "serial",
    }
    value["sweeps"]["a"] |= {"seed": 4, "cache": {"start": ["hot", "empty"]}}
    sweep = spec.from_mapping(value).sweeps["a"]
    assert (sweep.windows, sweep.seed, sweep.timing) == (None, 4, ("serial",))
    assert (sweep.cache.start, sweep.cache.scope) == (("hot", "empty"), ("carry",))
    assert sweep.window_tokens == 2048


def test_one_value_stands_for_a_list_and_text_for_its_mapping():
    of_kl = sweep_of(budgets=["kl=0.020", "KL = 1", "5%"])
    assert of_kl.budgets == ("kl=0.02", "kl=1", "5%")
    others = sweep_of(budgets=["joule=0.40", "acc_arc_easy = 0.02", "Joule=1"])
    assert others.budgets == ("joule=0.4", "acc_arc_easy=0.02", "joule=1")
    sweep = sweep_of(policies="lru", budgets=0.2, quant="none", tasks="mmlu", exclude=[])
    assert sweep.policies == ("lru",)
    assert sweep.budgets == ("0.2",)
    assert sweep.quant[0].method == ("none",)
    assert sweep.tasks[0].task == "mmlu"


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"from": 0.1, "to": 0.3, "step": 0.1}, (0.1, 0.2, 0.3)),
        ({"from": 0.5, "to": 0.99, "step": 0.25}, (0.5, 0.75)),
        ({"from": 0.5, "to": 0.5, "step": 1}, (0.5,)),
    ],
)
def test_ranges_have_both_ends_and_no_rounding_noise(given, values):
    assert sweep_of(methods=[{"method": "dip", "density": given}]).methods[0].density == values


def test_all_faults_at_once_each_with_its_line(tmp_path: Path):
    text = """\
defaults: {texts: foo, windows: 0, dtype: float23, text: embedded-wikki}
sweeps:
  demo:
    models: [smollm2-135n]
    quant: {method: none}
    methods:
      - dennse
      - {method: [glu, up], density: [0.5, 0.7]}
      - {method: dip, density: 1e-3, gamma: [0, 1.5], gama: 3, allocation: [papre]}
      - {methd: dip, density: [.nan, "0.5", 50%]}
    devices:
      - {device: apple-a81, dram_gb: 0}
    policies: [lfuu, no]
    cache: [empty]
  demo: {}
"""
    found = [line.split(": ", 2) for line in faults(text, tmp_path)]
    assert [(place.removeprefix("s.yaml:"), path) for place, path, _ in found] == [
        ("1", "defaults.text"),
        ("1", "defaults.windows"),
        ("1", "defaults.dtype"),
        ("1", "defaults.texts"),
        ("4", "sweeps.demo.models[0]"),
        ("5", "sweeps.demo.quant"),
        ("7", "sweeps.demo.methods[0]"),
        ("8", "sweeps.demo.methods[1].density[0]"),
        ("9", "sweeps.demo.methods[2].density"),
        ("9", "sweeps.demo.methods[2].gamma[0]"),
        ("9", "sweeps.demo.methods[2].gamma[1]"),
        ("9", "sweeps.demo.methods[2].gama"),
        ("9", "sweeps.demo.methods[2].allocation"),
        ("10", "sweeps.demo.methods[3]"),
        ("10", "sweeps.demo.methods[3].density[0]"),
        ("10", "sweeps.demo.methods[3].density[1]"),
        ("10", "sweeps.demo.methods[3].density[2]"),
        ("10", "sweeps.demo.methods[3].methd"),
        ("12", "sweeps.demo.devices[0].dram_gb"),
        ("12", "sweeps.demo.devices[0].device"),
        ("13", "sweeps.demo.policies[1]"),
        ("13", "sweeps.demo.policies[0]"),
        ("14", "sweeps.demo.cache"),
        ("15", "sweeps.demo"),
    ]


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"methods": "dpi"}, ".methods", "unknown method 'dpi'; did you mean dip? (allowed: dense"),
        ({"models": "smollm2-135n"}, ".models", "unknown model 'smollm2-135n'; did you mean smoll"),
        ({"models": "./nowhere"}, ".models", "no such file or folder: './nowhere'"),
        ({"models": {"a": 1}}, ".models", "a mapping is given; a list is expected"),
        ({"models": []}, ".models", "the list is empty"),
        ({"models": [7]}, ".models[0]", "7 is given; a mapping is expected"),
        ({"devices": "apple-a81"}, ".devices", "unknown device 'apple-a81'; did you mean apple-a"),
        ({"devices": [{"device": "x y"}]}, ".devices[0].device", "make no 'x y'"),
        ({"devices": [{"device": "my", "dram_gb": 1}]}, ".devices[0].device", "flash_gbps, dram_g"),
        ({"devices": [{"device": "apple-a18", "dram_gb": 0}]}, ".devices[0].dram_gb", "0 is given"),
        ({"devices": [{"device": "apple-a18", "models": "x"}]}, ".devices[0].models", "not among"),
        ({"policies": "lfuu"}, ".policies", "unknown policy 'lfuu'; did you mean lfu?"),
        ({"policies": [None]}, ".policies[0]", "nothing is given; the name of a policy"),
        ({"budgets": ["5 percent"]}, ".budgets[0]", "'5 percent' is text; a number"),
        ({"budgets": ["x%"]}, ".budgets[0]", "'x%' is given; a budget is a number, or a share"),
        ({"budgets": ["kl=x"]}, ".budgets[0]", "'kl=x' is given; a budget of KL is written as kl="),
        ({"budgets": ["joule=x"]}, ".budgets[0]", "such a budget is written as kl=0.02, joule="),
        ({"budgets": ["acc_=0.1"]}, ".budgets[0]", "'acc_=0.1' is given; such a budget is written"),
        ({"certify": {"alpha": 0}}, ".certify.alpha", "0 is given; a number above 0"),
        ({"certify": {"alpha": 1}}, ".certify.alpha", "1 is given; a number above 0"),
        ({"certify": {"alpha": "5%"}}, ".certify.alpha", "'5%' is text; a number"),
        ({"certify": {"most_windows": 0}}, ".certify.most_windows", "0 is given; a whole number"),
        ({"certify": {"most": 8}}, ".certify.most", "unknown key"),
        ({"budgets": ["kl=5%"]}, ".budgets[0]", "'kl=5%' is given; a budget of KL is written"),
        ({"budgets": ["ppl=1"]}, ".budgets[0]", "'ppl=1' is given; such a budget is written"),
        ({"budgets": [-1]}, ".budgets[0]", "-1 is given; a number of at least 0"),
        ({"budgets": ["-1%"]}, ".budgets[0]", "'-1%' is given; a budget is a number, or a sh"),
        ({"window": 1}, ".window", "unknown key; did you mean windows? (allowed: seed"),
        ({"windows": "some"}, ".windows", "'some' is text; a whole number of at least 1"),
        ({"windows": 1.5}, ".windows", "1.5 is given; a whole number"),
        ({"windows": True}, ".windows", "true is given; a whole number"),
        ({"seed": -1}, ".seed", "-1 is given"),
        ({"text": "nowhere/a.txt"}, ".text", "no such file: 'nowhere/a.txt'"),
        ({"text": "/"}, ".text", "a folder, not a file of text: '/'"),
        ({"text": None}, ".text", "nothing is given; the name of a text"),
        ({"keep_traces": "yes"}, ".keep_traces", "'yes' is given; true or false is expected"),
        ({"cache": {"start": "warm"}}, ".cache.start", "unknown cache start 'warm'"),
        ({"timing": "overlapped"}, ".timing", "unknown timing 'overlapped'; did you mean overlap?"),
        ({"kv": None}, ".kv", "nothing is given; a mapping is expected"),
        ({"kv": {"bit": 8}}, ".kv.bit", "unknown key; did you mean bits? (allowed: bits, tokens)"),
        ({"quant": "gptk"}, ".quant", "unknown quantisation 'gptk'; did you mean gptq?"),
        ({"resources": {"evaluate": {"gpu": 1.5}}}, ".resources.evaluate.gpu", "one GPU"),
        ({"resources": {"evaluate": {"cpu": 0.5}}}, ".resources.evaluate.cpu", "a whole number"),
        ({"tasks": [{"task": "mmlu", "shot": 5}]}, ".tasks[0].shot", "did you mean shots?"),
        ({"include": [{"method": "dip"}]}, ".include[0]", "'density' is missing"),
        ({"exclude": [{"method": "upp"}]}, ".exclude[0].method", "did you mean up?"),
        ({"exclude": [{"densty": 0.5}]}, ".exclude[0].densty", "did you mean density?"),
        ({"exclude": [{}]}, ".exclude[0]", "an empty rule would exclude every point"),
    ],
)
def test_one_fault_in_plain_words(changes, path, words):
    (line,) = faults_of(**changes)
    where, _, text = line.partition(": ")
    assert where == path
    assert words in text


@pytest.mark.parametrize(
    ("entry", "path", "words"),
    [
        ({"method": "dip"}, "", "'density' is missing; it reaches densities above 0 and up to 1"),
        ({"method": "dip-shares", "shares": "no.json"}, ".shares", "there is no file no.json"),
        ({"method": "glu", "density": 0.5}, ".density", "0.5 is out of reach of glu; it reaches d"),
        ({"method": "up", "density": [0.9, 0.3]}, ".density[1]", "0.3 is out of reach of up; it"),
        ({"method": "dense", "density": 0.5}, ".density", "out of reach of dense; it has only 1"),
        ({"method": "dip", "density": 1.5}, ".density", "1.5 is given; a number above 0 and up to"),
        ({"method": "dip", "density": 0}, ".density", "0 is given; a number above 0 and up to 1"),
        ({"method": "dip", "density": "1e-1"}, ".density", "read as text by YAML; write 1.0e-1"),
        ({"method": "dip", "density": "0.5"}, ".density", "text because it is quoted; write 0.5"),
        ({"method": "dip", "density": "50%"}, ".density", "a share is written 0.5"),
        ({"method": "dip", "density": float("nan")}, ".density", "nan is given"),
        ({"method": "dip", "density": []}, ".density", "the list is empty"),
        ({"method": "dip", "density": None}, ".density", "nothing is given"),
        (
            {"method": "dip", "density": {"form": 1}},
            ".density",
            "'form' of a range; did you mean",
        ),
        ({"method": "dip", "density": {"from": 0.1}}, ".density", "lacks to and step"),
        (
            {"method": "dip", "density": {"from": 0.9, "to": 0.1, "step": 0.1}},
            ".density",
            "a range from 0.9 to 0.1 is empty",
        ),
        (
            {"method": "dip", "density": {"from": 0.1, "to": 0.9, "step": 1e-9}},
            ".density",
            "a range of 800,000,001 values; at most 10,000 are allowed",
        ),
        ({"method": "dip", "density": 0.5, "gamma": 0}, ".gamma", "0 is given; a number above 0"),
        ({"method": "dip", "density": 0.5, "gamma": 1.1}, ".gamma", "1.1 is given; a number above"),
        ({"method": "dip", "density": 0.5, "gama": 1}, ".gama", "did you mean gamma?"),
        ({"method": "glu", "density": 0.7, "allocation": "paper"}, ".allocation", "unknown key"),
        ({"method": "dip", "density": 0.7, "allocation": "papr"}, ".allocation", "unknown alloc"),
        (
            {"method": "dip", "density": 0.7, "allocation": [None]},
            ".allocation",
            "nothing is given",
        ),
        ({"method": "dip", "density": 0.7, "models": "x"}, ".models", "not among the sweep's"),
        ({"method": "dip", "density": 0.7, "policies": "x"}, ".policies", "unknown policy 'x'"),
    ],
)
def test_one_fault_of_a_method_entry(entry, path, words):
    (line,) = faults_of(methods=[entry])
    where, _, text = line.partition(": ")
    assert where == f".methods[0]{path}"
    assert words in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "s.yaml:1: a list is given".replace("a list", "an empty list")),
        ("~", "s.yaml:1: nothing is given; a mapping is expected"),
        ("a", "s.yaml:1: 'a' is given; a mapping is expected"),
        ("sweeps: {}", "s.yaml:1: sweeps: an empty mapping is given; at least one entry is expec"),
        ("sweeps:\n- a", "s.yaml:1: sweeps: a list is given; a mapping of names is expected"),
        ("sweeps:\n  a b: 1", "s.yaml:2: sweeps.a b: 'a b' is given; a name of letters, digits"),
        ("sweeps:\n  a: 1", "s.yaml:2: sweeps.a: 1 is given; a mapping is expected"),
        ("defaults: 3", "s.yaml:1: defaults: 3 is given; a mapping is expected"),
        ("sweep: {}", "s.yaml:1: sweep: unknown key; did you mean sweeps? (allowed: plugins, def"),
        ("plugins: a.py", "s.yaml:1: plugins: plug-in "),
    ],
)
def test_faults_at_the_top(text, line, tmp_path: Path):
    assert any(found.startswith(line) for found in faults(text, tmp_path))


@pytest.mark.parametrize(
    ("study", "path", "words"),
    [
        ({"sweep": "b"}, ".sweep", "no sweep 'b' (allowed: a)"),
        ({"search": {"gama": [0.1, 1]}}, ".search.gama", "did you mean gamma?"),
        ({"search": {"gamma": [0.5, 0.1]}}, ".search.gamma", "low 0.5 is not below high 0.1"),
        ({"search": {"gamma": [0, 0.1]}}, ".search.gamma", "not within 0 (excluded) to 1"),
        ({"search": {"gamma": 0.1}}, ".search.gamma", "[low, high] or a list of names"),
        ({"search": {}}, ".search", "there is nothing to search"),
        ({"objective": {}}, ".objective", "either 'maximize' or 'minimize'"),
        ({"objective": {"maximize": "speed"}}, ".objective.maximize", "unknown metric 'speed'"),
        ({"sampler": "tp"}, ".sampler", "unknown sampler 'tp'; did you mean tpe?"),
        ({"trials": "08"}, ".trials", "08 is read as text by YAML; write 8"),
    ],
)
def test_faults_of_a_study(study, path, words):
    good = {
        "sweep": "a",
        "search": {"gamma": [0.1, 1.0], "allocation": ["paper", "uniform"]},
        "objective": {"maximize": "tokens_per_s", "within": "5%"},
    }
    value = {**SMALL, "studies": {"s": good}}
    assert spec.from_mapping(value).studies["s"].trials == 60
    with pytest.raises(InputError) as caught:
        spec.from_mapping({**SMALL, "studies": {"s": {**good, **study}}}, "f")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"f: studies.s{path}: ")
    assert words in line


def test_a_model_without_a_device_is_a_fault():
    devices = [{"device": "apple-a18", "models": "phi-3-mini"}]
    (line,) = faults_of(models=["phi-3-mini", "phi-3-medium"], devices=devices)
    assert line == ".devices: no device is given for model phi-3-medium"


def test_a_model_may_bring_its_geometry():
    sizes = {"layers": 2, "hidden": 8, "intermediate": 16, "heads": 2, "kv_heads": 1}
    sizes |= {"head_dim": 4, "vocabulary": 32}
    models = [
        {"model": "org/m@v1", "geometry": sizes},
        {"model": "org/n", "geometry": "phi-3-mini"},
    ]
    first, second = (model.load_geometry() for model in sweep_of(models=models).models)
    assert first is not None
    assert second is not None
    assert (first.name, first.kv_heads, first.tied_embeddings) == ("org/m@v1", 1, False)
    assert (second.name, second.layers) == ("org/n", 32)
    (line,) = faults_of(models=[{"model": "org/m", "geometry": "phi-3-mino"}])
    assert "unknown geometry 'phi-3-mino'; did you mean phi-3-mini?" in line
    (line,) = faults_of(models=[{"model": "org/m", "geometry": {**sizes, "heads": 0}}])
    assert line.startswith(".models[0].geometry.heads: 0 is given; a whole number of at least 1")


def test_keys_that_are_not_text_are_faults_of_a_mapping():
    with pytest.raises(InputError, match="sweeps: the key 1 is not text"):
        spec.from_mapping({"sweeps": {1: {}}})


def test_reads_in_flight_may_be_numbers_of_python():
    table = {1: [[4096, 0.1]], 8: [[4096, 0.4]]}
    written = {"device": "mine", "dram_gbps": 60, "flash_gbps": 1, "dram_gb": 4}
    (device,) = sweep_of(devices=[{**written, "flash": {"depth": table}}]).devices
    assert device.flash is not None
    assert set(device.flash["depth"]) == {"1", "8"}


def test_select_names_the_nearest_sweep(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(DOCUMENTED)
    with pytest.raises(InputError, match=r"s.yaml: no sweep 'dmeo'; did you mean demo\?"):
        spec.select(spec.load(tmp_path / "s.yaml"), "dmeo")


def test_overrides_set_values_as_yaml(tmp_path: Path):
    path = tmp_path / "s.yaml"
    path.write_text(DOCUMENTED)
    overrides = [
        "sweeps.demo.windows=1",
        "sweeps.demo.methods[1].density=[0.75]",
        "sweeps.demo.devices[0].dram_gb={from: 1, to: 2, step: 0.5}",
        "sweeps.demo.cache.start=hot",
        "sweeps.demo.kv.bits=16",
        "defaults.dtype=bfloat16",
        "studies.gamma-a18.trials=3",
    ]
    file = spec.load(path, overrides)
    demo = file.sweeps["demo"]
    assert (demo.windows, demo.dtype, demo.cache.start, demo.kv.bits) == (
        1,
        "bfloat16",
        ("hot",),
        16,
    )
    assert demo.methods[1].density == (0.75,)
    assert demo.devices[0].dram_gb == (1.0, 1.5, 2.0)
    assert file.studies["gamma-a18"].trials == 3


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("windows=1", "unknown path: no key 'windows'; write sweeps.NAME.windows"),
        ("sweps.demo.windows=1", "unknown path: no key 'sweps'; did you mean sweeps?"),
        ("sweeps.dmeo.windows=1", "unknown path: no sweep 'dmeo'; did you mean demo?"),
        ("sweeps.demo.window=1", "sweeps.demo.window: unknown key; did you mean windows?"),
        (
            "sweeps.demo.methods[9]=1",
            "no 9 in sweeps.demo.methods, which is a list of 4, up to",
        ),
        ("sweeps.demo.methods.a=1", "no 'a' in sweeps.demo.methods, which is a list of 4"),
        ("sweeps.demo.methods[0].density=1", "sweeps.demo.methods[0] is not a mapping"),
        (
            "sweeps.demo.windows=1e3",
            "sweeps.demo.windows: 1e3 is read as text by YAML; write",
        ),
        ("sweeps.demo.windows=", "sweeps.demo.windows: nothing is given"),
        ("sweeps.demo.windows=on", "sweeps.demo.windows: on is read as true by YAML"),
        ("sweeps.demo.windows=[1", "sweeps.demo.windows: not valid YAML"),
        ("sweeps.demo.windows", "has no '='"),
        ("a..b=1", "'a..b' is no path"),
        ("=1", "'' is no path"),
    ],
)
def test_a_wrong_override_is_one_fault(override, line, tmp_path: Path):
    (found,) = faults(DOCUMENTED, tmp_path, override)
    assert found.startswith(f"--set {override}: ")
    assert line in found


TOKENS = r"""[ ] { } : , - ? | > & * ! % @ ` ' " # ~ &a *a <<: !!x 1e-3 on 08 -1 .nan [[]] {}"""


def test_mutated_files_are_one_message_or_valid(tmp_path: Path):
    """Never a traceback: 300 files with tokens put in, pieces cut out, lines doubled."""
    draw = random.Random(20)
    path = tmp_path / "s.yaml"
    refused = 0
    for _ in range(300):
        path.write_text(_mutated(DOCUMENTED, draw), encoding="utf-8")
        lines = _message(lambda: spec.load(path)).splitlines()
        assert all(line.startswith(str(path)) for line in lines)
        refused += bool(lines)
    assert refused > 200


def _message(call: Callable[[], object]) -> str:
    """The text of its InputError, empty if it has none; other errors pass."""
    try:
        call()
    except InputError as error:
        return str(error) or "an error without a word"
    return ""


def _mutated(text: str, draw: random.Random) -> str:
    for _ in range(draw.randint(1, 3)):
        at, kind = draw.randrange(len(text)), draw.randrange(3)
        lines = text.split("\n")
        if kind == 0:
            text = f"{text[:at]}{draw.choice(TOKENS.split())} {text[at:]}"
        elif kind == 1:
            text = text[:at] + text[at + draw.randint(1, 9) :]
        else:
            text = "\n".join([*lines, draw.choice(lines)])
    return text


def test_every_value_replaced_by_every_kind_of_value_is_refused_or_valid():
    strange = [None, True, -1, 1.5, float("inf"), "x", [], {}, [[]], [{}], {"a": 1}, 10**30]
    base = yaml.safe_load(DOCUMENTED)
    for route in _routes(base):
        for value in strange:
            mutated = copy.deepcopy(base)
            holder = mutated
            for step in route[:-1]:
                holder = holder[step]
            holder[route[-1]] = value
            assert _message(lambda m=mutated: spec.from_mapping(m)) != "an error without a word"


def _routes(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for step, item in inner:
        found.append((*here, step))
        if isinstance(item, dict | list):
            found += _routes(item, (*here, step))
    return found
