"""Rooms: each imports only those below it, has a door of words alone, and stays small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES, MOST_LINES = 14, 350
LONGER: dict[str, str] = {}
"""Files that may be longer than MOST_LINES, each with the reason."""


@dataclass(frozen=True, slots=True)
class House:
    """A package and its floors from the ground up; rooms and files of one floor may import each
    other as long as no circle comes of it."""

    package: str
    floors: tuple[tuple[str, ...], ...]

    def floor(self, module: str) -> int:
        name = module.split(".")[1]
        return next(i for i, names in enumerate(self.floors) if name in names)


SWEEP = House(
    "sweep",
    (
        (
            *("errors", "messages", "keys", "options", "plugins", "gpu"),
            *("scans", "selectors", "read_prices", "read_aware", "resident_selector"),
            "make_selector",
        ),
        ("files",),
        ("gguf",),
        ("sizes",),
        ("inputs",),
        ("allocation",),
        ("spec",),
        ("studies",),
        ("downstream",),
        ("measures",),
        ("placement",),
        ("tasks", "routing", "batched", "flash"),
        ("plan",),
        ("store",),
        ("execution",),
        ("results",),
        ("search", "certainty"),
        ("api", "traces", "contracts"),
        ("probe",),
        ("replay",),
        ("cli",),
        ("__main__",),
    ),
)
REPORTS = House(
    "reports",
    (
        ("results", "numbers", "read_sizes"),
        ("findings",),
        ("reading",),
        ("pages", "experts"),
        ("report", "compare", "paper"),
    ),
)
HOUSES = pytest.mark.parametrize("house", [SWEEP, REPORTS], ids=lambda house: house.package)


def files(house: House) -> Iterator[Path]:
    return (ROOT / house.package).rglob("*.py")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(house: House) -> dict[str, set[str]]:
    """What each module imports of its package, for types and in functions too; the outermost door
    is left out."""
    modules = {name_of(path): path for path in files(house)}
    return {
        name: _imported(path, set(modules)) - {name}
        for name, path in modules.items()
        if name != house.package
    }


def _imported(path: Path, modules: set[str]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inside & modules) or {str(node.module)}
    return {name for name in names if name in modules and "." in name}


@HOUSES
def test_every_file_has_a_room(house: House) -> None:
    assert {name.split(".")[1] for name in imports(house)} == {
        name for floor in house.floors for name in floor
    }


@HOUSES
def test_rooms_import_those_below_them(house: House) -> None:
    upward = [
        (name, imported)
        for name, wanted in imports(house).items()
        for imported in wanted
        if house.floor(imported) > house.floor(name)
    ]
    assert upward == []


@HOUSES
def test_no_modules_import_each_other(house: House) -> None:
    with_imports = imports(house)
    done: set[str] = set()
    while left := {name: w for name, w in with_imports.items() if name not in done}:
        free = {name for name, wanted in left.items() if wanted <= done}
        assert free, f"circle among {sorted(left)}"
        done |= free


@HOUSES
def test_doors_are_a_docstring(house: House) -> None:
    for door in (ROOT / house.package).rglob("*/__init__.py"):
        statements = ast.parse(door.read_text(encoding="utf-8")).body
        if door == ROOT / "sweep" / "cli" / "__init__.py":
            statements = [node for node in statements if not is_main(node)]
        (only,) = statements
        assert isinstance(only, ast.Expr), door
        assert isinstance(only.value, ast.Constant), door
        assert isinstance(only.value.value, str), door


def is_main(node: ast.stmt) -> bool:
    """What the entry point `sweep` calls, and what its file needs for it."""
    future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
    return future or (isinstance(node, ast.FunctionDef) and node.name == "main")


@HOUSES
def test_rooms_stay_small(house: House) -> None:
    for door in (ROOT / house.package).glob("*/__init__.py"):
        inside = [path for path in door.parent.glob("*.py") if path != door]
        assert len(inside) <= MOST_FILES, door.parent
    for path in files(house):
        if path.relative_to(ROOT).as_posix() not in LONGER:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= MOST_LINES, f"{path}: {lines} lines"
