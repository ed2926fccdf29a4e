"""The identity of code: what computes counts, wherever it stands and whatever it is called."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from methods.names import BUILT_IN
from methods.registry import reachable
from simulator import POLICIES
from simulator.policies import policy_class
from sweep.plan import code
from sweep.plan.code import FACADES, NEUTRAL, closure, code_fingerprint
from sweep.plan.grid import expand
from sweep.plan.materials import Materials
from sweep.plan.planner import plan_points
from sweep.plan.task_code import (
    MODULES,
    POLICY_MODULES,
    ROUNDING,
    USES,
    code_of_method,
    code_of_policy,
    code_of_uses,
)
from tests.sweep import tinysweep, tinytasks

ROOT = '''"""What it does."""

from typing import TYPE_CHECKING

from keyed import plain
from keyed.deep import inner

if TYPE_CHECKING:
    from keyed.hints import Hint


def work(x: "Hint") -> float:
    """Twice, and what others add."""
    from keyed.late import more

    if x is None:
        raise ValueError(f"no {x}")
    return 2 * x + plain.ONE + inner.TWO + more(x)  # a sum
'''

FILES = {
    "__init__.py": "",
    "root.py": ROOT,
    "plain.py": "ONE = 1\n",
    "deep/__init__.py": "",
    "deep/inner.py": "from keyed.deep.inmost import THREE\nTWO = 2 + THREE\n",
    "deep/inmost.py": "THREE = 3\n",
    "late.py": "def more(x):\n    return x\n",
    "hints.py": "Hint = float\n",
    "stranger.py": "raise SystemExit('never imported')\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `keyed` whose fingerprint a test may change by writing its files."""
    for name, content in FILES.items():
        path = tmp_path / "keyed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "PACKAGES", (*code.PACKAGES, "keyed"))
    forget()
    yield tmp_path / "keyed"
    for name in [name for name in sys.modules if name.split(".")[0] == "keyed"]:
        del sys.modules[name]
    forget()


def forget() -> None:
    code.forget()
    code._folder.cache_clear()


def fingerprint() -> str:
    forget()
    return code_fingerprint("keyed.root")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a sum", "  # another remark"),
        ('"""What it does."""', '"""Something else,\n\nin more words."""'),
        ('    """Twice, and what others add."""\n', ""),
        ("2 * x + plain.ONE", "(2*x\n            + plain.ONE)"),
        ("\n\n\ndef work", "\n# a line of its own\n\n\n\n\ndef work"),
        ('"Hint"', "'Hint'"),
    ],
)
def test_what_does_not_run_does_not_count(package: Path, old: str, new: str) -> None:
    before = fingerprint()
    assert old in ROOT
    (package / "root.py").write_text(ROOT.replace(old, new))
    assert fingerprint() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("root.py", "2 * x", "3 * x"),
        ("root.py", "x + plain", "x - plain"),
        ("plain.py", "1", "1.0"),
        ("deep/inner.py", "2 +", "3 +"),
        ("deep/inmost.py", "3", "4"),
        ("late.py", "return x", "return -x"),
    ],
)
def test_code_counts_wherever_it_is_imported(package: Path, name: str, old: str, new: str) -> None:
    before = fingerprint()
    (package / name).write_text(FILES[name].replace(old, new))
    assert fingerprint() != before
    (package / name).write_text(FILES[name])
    assert fingerprint() == before


@pytest.mark.parametrize("name", ["stranger.py", "hints.py"])
def test_what_is_not_imported_does_not_count(package: Path, name: str) -> None:
    before = fingerprint()
    (package / name).write_text("Hint = int\n")
    assert fingerprint() == before


def test_nothing_is_imported_to_be_fingerprinted(package: Path) -> None:
    (package / "root.py").write_text(ROOT + "\nraise SystemExit('imported')\n")
    assert len(fingerprint()) == 16
    assert not {"keyed.root", "keyed.plain", "keyed.deep.inner"} & set(sys.modules)


def test_a_plug_in_counts_by_its_code(package: Path) -> None:
    source = "from keyed.plain import ONE\n\n\ndef f():\n    return ONE\n"
    forget()
    before = code_fingerprint("keyed.late", plugin=source)
    assert code_fingerprint("keyed.late", plugin="# mine\n" + source) == before
    changed = source.replace("return ONE", "return -ONE")
    assert code_fingerprint("keyed.late", plugin=changed) != before
    (package / "plain.py").write_text("ONE = 11\n")
    forget()
    assert code_fingerprint("keyed.late", plugin=source) != before


def test_a_pure_move_does_not_count(package: Path) -> None:
    """Other folders, other names of modules, imports written in another way and order."""
    before = fingerprint()
    (package / "deep" / "inner.py").rename(package / "core.py")
    (package / "deep" / "inmost.py").rename(package / "ground.py")
    (package / "core.py").write_text("TWO = 2 + THREE\nfrom keyed.ground import THREE\n")
    moved = ROOT.replace(
        "from keyed import plain\nfrom keyed.deep import inner\n",
        "import keyed.core as inner\nimport keyed.plain as plain\n",
    )
    (package / "root.py").write_text(moved)
    assert fingerprint() == before


def test_names_that_change_places_count(package: Path) -> None:
    before = fingerprint()
    (package / "deep" / "inner.py").write_text(
        "from keyed.plain import ONE as THREE\nTWO = 2 + THREE\n"
    )
    assert fingerprint() != before


def test_the_words_of_an_error_do_not_count_but_its_type_does(package: Path) -> None:
    before = fingerprint()
    (package / "root.py").write_text(ROOT.replace('f"no {x}"', 'f"there is no {x!r} here"'))
    assert fingerprint() == before
    (package / "root.py").write_text(ROOT.replace("raise ValueError", "raise TypeError"))
    assert fingerprint() != before


def test_code_in_a_door_counts_and_words_in_it_do_not(package: Path) -> None:
    before = fingerprint()
    (package / "deep" / "__init__.py").write_text('"""What is deep."""\n')
    assert fingerprint() == before
    (package / "deep" / "__init__.py").write_text("import os\n")
    assert fingerprint() != before


@pytest.mark.parametrize(
    "taken",
    ["from front import TWO", "import front\nTWO = front.TWO", "import front as f\nTWO = f.TWO"],
)
def test_a_name_from_a_facade_counts_as_what_is_behind_it(
    package: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    front = package.parent / "front"
    front.mkdir()
    (front / "__init__.py").write_text("from front.behind import TWO, OTHER\n")
    (front / "behind.py").write_text("TWO = 2\nOTHER = 3\n")
    (front / "beside.py").write_text("THREE = 3\n")
    monkeypatch.setattr(code, "PACKAGES", (*code.PACKAGES, "front"))
    monkeypatch.setattr(code, "FACADES", code.FACADES | {"front"})
    (package / "plain.py").write_text(f"{taken}\nONE = TWO / 2\n")
    before = fingerprint()
    (front / "beside.py").write_text("THREE = 4\n")
    (front / "__init__.py").write_text(
        "from front.behind import OTHER, TWO\nfrom front.beside import THREE\n"
    )
    assert fingerprint() == before
    (front / "behind.py").write_text("TWO = 4\nOTHER = 3\n")
    assert fingerprint() != before


def test_a_facade_that_is_handed_about_counts_with_all_its_names(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = package.parent / "front"
    front.mkdir()
    (front / "__init__.py").write_text("from front.behind import TWO\n")
    (front / "behind.py").write_text("TWO = 2\n")
    monkeypatch.setattr(code, "PACKAGES", (*code.PACKAGES, "front"))
    monkeypatch.setattr(code, "FACADES", code.FACADES | {"front"})
    (package / "plain.py").write_text("import front\nONE = getattr(front, 'TW' + 'O')\n")
    before = fingerprint()
    (front / "behind.py").write_text("TWO = 4\n")
    assert fingerprint() != before


def test_modules_that_import_each_other_have_no_identity(package: Path) -> None:
    (package / "deep" / "inmost.py").write_text("from keyed.deep.inner import TWO\nTHREE = 3\n")
    with pytest.raises(
        code.CircleError, match=r"inner -> keyed\.deep\.inmost -> keyed\.deep\.inner"
    ):
        fingerprint()


EVALUATES = {
    "methods.apply",
    "methods.mlp",
    "methods.select",
    "simulator.selection",
    "simulator.state",
    "simulator.kernels.select",
    "sweep.tasks.evaluate",
    "sweep.inputs.models",
    "sweep.selectors",
    "sweep.inputs.texts",
}
SIMULATES = {
    "simulator.cache",
    "simulator.kernels.recency",
    "simulator.kernels.scans",
    "simulator.packing",
    "simulator.simulation",
    "sweep.tasks.simulate",
}
NEVER = {
    "sweep.api",
    "sweep.execution.driver",
    "sweep.execution.executor",
    "sweep.plan.planner",
    "sweep.store.store",
    "sweep.results.table",
    "simulator.footprint",
    "simulator.throughput",
}


@pytest.mark.parametrize(("kind", "inside"), [("evaluate", EVALUATES), ("simulate", SIMULATES)])
def test_a_task_counts_the_code_that_computes_it(kind: str, inside: set[str]) -> None:
    assert inside <= closure(MODULES[kind])


@pytest.mark.parametrize("kind", MODULES)
def test_no_task_counts_what_plans_stores_or_prices(kind: str) -> None:
    assert not NEVER & closure(MODULES[kind])


def edited(monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str) -> None:
    """As if the source of a module of ours were another."""
    path, read = code._file(module), Path.read_text
    assert old in path.read_text(encoding="utf-8")

    def changed(self: Path, *given: Any, **options: Any) -> str:
        text = read(self, *given, **options)
        return text.replace(old, new) if self == path else text

    monkeypatch.setattr(Path, "read_text", changed)
    code.forget()


@pytest.fixture
def forgetful() -> Iterator[None]:
    """No fingerprint of edited code outlives its test."""
    yield
    code.forget()


def every_code() -> dict[str, str]:
    """Fingerprints by kind, of DIP where a kind runs a method."""
    codes = {kind: code_of_method(kind, "dip") for kind in MODULES if kind != "simulate"}
    return codes | {"simulate": code_of_policy("lfu")}


RUNS_A_MODEL = {"evaluate", "calibrate", "train", "transform", "score"}


@pytest.mark.parametrize(
    ("module", "old", "new", "kinds"),
    [
        ("methods.names", '"up": ', '"other": "methods.other:Other",\n    "up": ', set()),
        ("sweep.messages", "did you mean", "perhaps", set()),
        ("sweep.errors", "class SweepError(Exception)", "class SweepError(RuntimeError)", set()),
        ("sweep.inputs.wheels", '"--retries", "2"', '"--retries", "3"', set()),
        (
            "sweep.inputs.model_ref",
            '"phi-3-mini":',
            '"other": "org/other",\n    "phi-3-mini":',
            set(),
        ),
        ("sweep.downstream.data", '"Apache-2.0"', '"Apache-2.0 or MIT"', set()),
        ("sweep.inputs.text_files", '"utf-8"', '"utf8"', set()),
        ("simulator.policies", "farthest next use", "next use that is farthest", set()),
        ("sweep.selectors", "one sequence at a time", "a single sequence", set()),
        ("sweep.selectors", "rows.sum(axis=-1", "rows.sum(axis=1", {"evaluate", "score"}),
        ("sweep.measures.losses", "ROWS = 256", "ROWS = 128", {"evaluate"}),
        ("sweep.inputs.models", "use_cache = False", "use_cache = True", RUNS_A_MODEL),
        ("methods.dynamic.dip", "mlp.down(", "-mlp.down(", RUNS_A_MODEL),
        ("methods.dynamic.up", "mlp.down(", "-mlp.down(", set()),
        ("simulator.simulation", "axis=1", "axis=0", {"evaluate", "score", "simulate"}),
        ("simulator.throughput", "max(", "min(", set()),
    ],
)
def test_each_edit_makes_new_what_it_changes(
    monkeypatch: pytest.MonkeyPatch,
    forgetful: None,
    module: str,
    old: str,
    new: str,
    kinds: set[str],
) -> None:
    before = every_code()
    edited(monkeypatch, module, old, new)
    after = every_code()
    assert {kind for kind in before if before[kind] != after[kind]} == kinds


@pytest.mark.parametrize(
    ("module", "policies", "uses"),
    [
        ("simulator.engine_policies", {"slru", "window-5", "window-8", "hot-set"}, False),
        ("simulator.kernels.engines", {"slru", "window-5", "window-8", "hot-set"}, False),
        ("sweep.tasks.uses", set(), True),
        ("sweep.tasks.calibrate", set(), False),
    ],
)
def test_a_policy_counts_by_its_own_module(
    monkeypatch: pytest.MonkeyPatch,
    forgetful: None,
    module: str,
    policies: set[str],
    uses: bool,
) -> None:
    names = ("lru", "min", "static", "slru", "window-5", "window-8", "hot-set")
    before = {name: code_of_policy(name) for name in names}, code_of_uses("dip")
    edited(monkeypatch, module, "from __future__", "ADDED = 1\nfrom __future__")
    after = {name: code_of_policy(name) for name in names}, code_of_uses("dip")
    assert {name for name in names if before[0][name] != after[0][name]} == policies
    assert (before[1] != after[1]) == uses


def test_modules_of_all_policies_are_known() -> None:
    modules = {policy_class(name).__module__ for name in POLICIES}
    assert modules == {"simulator.policies", *POLICY_MODULES}


# -- what is neutral -------------------------------------------------------------------------

HEAVY = {"torch", "transformers", "numba", "peft", "lm_eval", "datasets"}


@pytest.mark.parametrize("module", sorted(NEUTRAL))
def test_a_neutral_module_imports_nothing_that_computes(module: str) -> None:
    """It hands over paths, names and words: no array, no model, nothing of methods or caches."""
    tree = ast.parse(code._file(module).read_text(encoding="utf-8"))
    imported = {name for node in code._runtime_nodes(tree) for name in _imported(node)}
    assert not {name.partition(".")[0] for name in imported} & HEAVY
    ours = {binding.module for binding in code.parts(module).bindings}
    assert ours <= NEUTRAL


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_neutral_modules_are_there() -> None:
    assert all(code._exists(module) for module in NEUTRAL)


@pytest.mark.parametrize("facade", sorted(FACADES))
def test_the_door_of_a_facade_only_hands_on(facade: str) -> None:
    """All its public names have a module behind them, and nothing else is defined in it."""
    tree = ast.parse(code._file(facade).read_text(encoding="utf-8"))
    functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert functions <= {"__getattr__", "__dir__", "run"}  # run: `sweep.run`, which no task calls
    names = next((n.value for n in tree.body if code._is_list_of_names(n)), None)  # type: ignore[attr-defined]
    public = set(ast.literal_eval(names)) if names is not None else set()
    assert public <= set(code._handed_on(facade))


# -- nothing that runs is left out -----------------------------------------------------------

RUN_ALL = """
import json, pickle, sys
from sweep.tasks import run as tasks
from sweep.tasks.task import Task
given = json.load(open(sys.argv[1]))
handed, loaded = {}, {}
seen = set(sys.modules)
for one in given:
    task = Task(**one)
    record, handed[task.key] = tasks.run(task, tuple(handed[key] for key in task.needs))
    assert record.status == "done", (record.label, record.error)
    new = sorted(set(sys.modules) - seen)
    seen |= set(new)
    loaded[task.key] = new
print(json.dumps(loaded))
"""


def test_no_code_that_runs_is_left_out(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    """Each module that a task of any kind and method loads is in that task's fingerprint.

    One process runs every task; what a task loads that none before it has loaded must be its own.
    """
    folder = tinytasks.write(tmp_path / "asked", documents=2)
    parameters = {"dejavu": tinysweep.SMALL_DEJAVU}
    adapted = ("dip+lora", "cats+lora", "dip+lozo")
    parameters |= dict.fromkeys(adapted, tinysweep.SMALL_LORA)
    parameters["shadow-llm"] = {"width": 8, "tokens": 128, "epochs": 1}
    parameters["active-flow"], parameters["ffn-skip"] = {"ahead": 1}, {"cold": 0, "skips": 1}
    methods: list[Any] = ["dense", {"method": "dip", "density": 0.5, "gamma": 0.5}]
    others = [name for name in BUILT_IN if reachable(name)[0] < 1]
    methods += [{"method": name, "density": 0.7, **parameters.get(name, {})} for name in others]
    sweep = tinysweep.sweep_of(
        tiny_llama,
        tmp_path,
        tiny_text,
        *methods,
        quant=[{"method": ["none", "gptq"], "bits": 4, "group_size": 16}],
        policies=["lru", "lfu", "belady", "min", "static", "none", "slru", "hot-set"],
        tasks=[{"task": str(folder / "even.yaml"), "shots": 0}],
        windows=1,
    )
    sweep = sweep.model_copy(update={"source": str(tmp_path / "sweeps.yaml")})
    materials = Materials(sweep, downstream=True)
    points = expand(sweep).points
    materials.fetch(points, True, lambda _: None)
    made = plan_points(points, Materials(sweep, downstream=True))
    assert set(made.counts()) == set(MODULES)
    assert all(made.counts().values())
    given = [
        {"kind": t.kind, "key": t.key, "payload": t.payload, "label": t.label, "where": t.where}
        for t in made.tasks.values()
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(given))
    command = [sys.executable, "-c", RUN_ALL, str(tmp_path / "tasks.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for key, modules in json.loads(done.stdout.splitlines()[-1]).items():
        ours = {m for m in modules if m.partition(".")[0] in code.PACKAGES}
        unknown = {m for m in ours - NEUTRAL if not is_door(m)} - counted(made.tasks[key])
        assert not unknown, made.tasks[key].label


def is_door(module: str) -> bool:
    """A façade, or a package whose door holds no code."""
    return module in FACADES or (
        code._file(module).name == "__init__.py" and not code._holds_code(module)
    )


DOORS = frozenset({"methods.base", "methods.density", "methods.registry", *POLICY_MODULES})
"""What the doors of `methods` and `simulator` import themselves, whatever is taken from them."""


def counted(task: Any) -> frozenset[str]:
    """Modules that the fingerprint of a task goes over, and what doors of façades import."""
    recipe = task.payload.get("recipe", {})
    named = [recipe[part]["method"] for part in ("prune", "quant") if recipe.get(part)]
    counting = task.kind == "calibrate" and "selector" in task.payload
    rounding = task.kind == "train" and recipe
    roots = [USES if counting else ROUNDING if rounding else MODULES[task.kind]]
    if task.kind == "simulate":
        roots.append(policy_class(task.payload["policy"]).__module__)
    for name in (task.payload.get("method"), *named):
        if name in BUILT_IN:
            roots.append(BUILT_IN[name].partition(":")[0])
        elif name:
            roots.append(f"methods.static.{name}")
    return closure(*roots) | DOORS
