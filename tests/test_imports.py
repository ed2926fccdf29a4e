"""Who imports what: four folders in one direction, and each heavy library in its own file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("methods", "simulator", "sweep", "reports")

MAY_IMPORT = {
    "methods": set(),
    "simulator": set(),
    "reports": set(),
    "sweep": {"methods", "simulator", "reports"},
}
"""Folders that each folder may import beside itself."""

ONE_FILE = {
    "ray": "sweep/execution/ray_executor.py",
    "transformers": "sweep/inputs/models.py",
    "lm_eval": "sweep/downstream/harness.py",
}
"""Libraries that one file imports, once it is there."""

HOMES = {
    "torch": (
        "methods/",
        "sweep/inputs/models.py",
        "sweep/inputs/drelu.py",
        "sweep/inputs/model_trial.py",
        "sweep/tasks/evaluate.py",
        "sweep/gpu/",
        "sweep/batched/",
        "sweep/flash/",
        "sweep/placement/place.py",
        "sweep/scans.py",
        "sweep/read_aware.py",
        "sweep/resident_selector.py",
        "sweep/routing/",
        "sweep/selectors.py",
        "sweep/tasks/calibrate.py",
        "sweep/tasks/prelude.py",
        "sweep/tasks/transform.py",
        "sweep/tasks/uses.py",
        "sweep/tasks/as_planned.py",
        "sweep/measures/losses.py",
        "sweep/measures/distances.py",
        "sweep/cli/method_trial.py",
        "sweep/downstream/generation.py",
        "sweep/downstream/packed.py",
        "sweep/downstream/requests.py",
        "sweep/tasks/run.py",
        "sweep/downstream/harness.py",
        "sweep/contracts/selectors.py",
    ),
    "triton": ("sweep/gpu/",),
    "optuna": ("sweep/studies/",),
    "peft": ("methods/",),
    "numba": (
        "simulator/",
        "sweep/probe/compute.py",
        "sweep/probe/reader.py",
        "sweep/replay/products.py",
    ),
    "plotly": ("reports/",),
    "jinja2": ("reports/",),
    "pandas": ("reports/", "sweep/results/table.py", "sweep/store/store.py", "sweep/run.py"),
    "pyarrow": (
        "reports/",
        "sweep/results/table.py",
        "sweep/store/store.py",
        "sweep/inputs/text_files.py",
        "sweep/downstream/local_datasets.py",
        "sweep/results/reuse.py",
        "sweep/results/written/",
        "sweep/files/mirror.py",
    ),
    "datasets": ("sweep/downstream/local_datasets.py",),
    "pydantic": ("sweep/",),
    "typer": ("sweep/",),
    "rich": ("sweep/",),
}
"""Libraries that only these folders and files import."""

PASSED_ON = ("footprint", "throughput")
"""Names of functions that hide the modules of that name."""

LIGHT = ("sweep.spec.file", "sweep.plan.grid", "sweep.errors", "sweep.keys", "methods", "simulator")
HEAVY = ("torch", "ray", "transformers", "numba", "pandas", "pyarrow", "optuna", "lm_eval")


def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """First names of the modules that a file imports when it runs, inside functions too."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")))


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import: {ast.unparse(node)}"
        yield str(node.module).partition(".")[0]
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        children = list(node.orelse)
    for child in children:
        yield from _imports(child)


def all_imports() -> list[tuple[str, str]]:
    """(file, module) pairs of the four folders."""
    pairs = [
        (path.relative_to(ROOT).as_posix(), name) for path in files() for name in imports(path)
    ]
    return sorted(set(pairs))


def test_the_reader_of_imports_reads_them(tmp_path: Path):
    path = tmp_path / "a.py"
    path.write_text(
        "import ray.util as r, os\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\nelse:\n    import numba\n"
        "def f():\n    from pandas.core import frame\n"
    )
    assert set(imports(path)) == {"ray", "os", "typing", "numba", "pandas"}


def test_all_four_folders_are_read():
    assert {path.relative_to(ROOT).parts[0] for path in files()} == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_in_one_direction(folder):
    allowed = MAY_IMPORT[folder] | {folder}
    wrong = [
        (file, name)
        for file, name in all_imports()
        if file.startswith(f"{folder}/") and name in FOLDERS and name not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize(("library", "home"), ONE_FILE.items())
def test_a_library_of_one_file(library, home):
    assert [f for f, name in all_imports() if name == library and f != home] == []


@pytest.mark.parametrize(("library", "homes"), HOMES.items())
def test_a_library_of_few_places(library, homes):
    users = [file for file, name in all_imports() if name == library]
    assert [file for file in users if not file.startswith(homes)] == []


def test_contracts_stand_at_the_roof():
    """They may import every room, so only the command line may import them."""
    users = [
        path.relative_to(ROOT).as_posix()
        for path in files()
        if re.search(
            r"(from|import) sweep\.contracts|from sweep import .*\bcontracts\b", path.read_text()
        )
    ]
    assert users
    assert [f for f in users if not f.startswith(("sweep/contracts/", "sweep/cli/"))] == []


@pytest.mark.parametrize("module", LIGHT)
def test_planning_needs_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", ["methods", "simulator"])
def test_what_computes_imports_the_modules_that_it_uses(folder):
    """Not through the package: its door passes on names, and what is behind them is not seen."""
    through_the_door = [
        (path.relative_to(ROOT).as_posix(), alias.name)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if alias.name == folder
        or (
            getattr(node, "module", "") == folder
            and (alias.name in PASSED_ON or not (ROOT / folder / f"{alias.name}.py").is_file())
        )
    ]
    assert through_the_door == []
