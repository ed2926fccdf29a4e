"""Content keys: what a task is, is the hash of exactly what can change its result."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("sweep", "methods", "simulator")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def code_fingerprint(*modules: str, plugin: str = "") -> str:
    """Fingerprint of these modules and of every module of ours that they import.

    Comments, docstrings and formatting do not count: what is hashed is the syntax tree. `plugin`
    is the source of a plug-in, which counts with what it imports of ours.
    """
    own = [("plug-in", _hash(ast.parse(plugin)))] if plugin else []
    imported = _names(ast.parse(plugin)) if plugin else ()
    closure = sorted(_closure((*modules, *imported)))
    return digest(own + [(name, _tree_hash(_source(name))) for name in closure])


def _closure(roots: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _imports(name)
    return seen


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Modules of our packages that `module` imports when it runs, functions' imports included."""
    return _names(_tree(_source(module)))


def _names(tree: ast.AST) -> tuple[str, ...]:
    names = {name for node in _runtime_nodes(tree) for name in _imported(node)}
    ours = {n for n in names if n.split(".")[0] in PACKAGES}
    return tuple(sorted(n for n in ours if "." in n and find_spec(n) is not None))


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING`."""
    yield node
    for child in _statements(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield from _runtime_nodes(child)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements directly inside a node; expressions hold none."""
    inner = (ast.stmt, ast.excepthandler, ast.match_case)
    return (child for child in ast.iter_child_nodes(node) if isinstance(child, inner))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        inside = node.names if _is_package(node.module) else []
        submodules = [f"{node.module}.{alias.name}" for alias in inside]
        return [node.module, *(name for name in submodules if find_spec(name) is not None)]
    return []


def _is_package(module: str) -> bool:
    """Whether it is a package of ours; looking inside what is none would import it."""
    if module.split(".")[0] not in PACKAGES:
        return False
    spec = find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def _source(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for module {module}")
    return Path(spec.origin)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _tree_hash(path: Path) -> str:
    return _hash(_tree(path))


def _hash(tree: ast.Module) -> str:
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _drop_docstrings(node: ast.AST) -> None:
    for child in _statements(node):
        _drop_docstrings(child)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        body = node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
