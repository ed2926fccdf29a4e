"""Once: what a store of release 0.1.0 has finished, under the keys of today.

Keys held another fingerprint of code then, over names of modules. `release_0_1_0.json` has that
release's modules, by hash and imports, so that its fingerprints can be computed, of plug-ins too;
and, of each module that a task begins with, what stands in its place today with the mark that was
proven to compute the same. A task is adopted if its code was that release's and is that today;
nothing is guessed. This module goes with the release after the next.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from methods.names import BUILT_IN, QUANTISERS
from sweep import plugins
from sweep.keys import digest
from sweep.plan import code
from sweep.plan.task_code import MODULES
from sweep.store.store import Store
from sweep.tasks.task import Record

FILE = Path(__file__).with_name("release_0_1_0.json")


@dataclass(frozen=True, slots=True)
class Adopted:
    """How many finished tasks were taken over, and how many were left: their code differs."""

    tasks: int
    left: int


def adopt(store: Store) -> Adopted:
    """Write finished tasks of release 0.1.0 again, under the keys that they have now.

    Old lines stay; what a task handed over moves to its new key. The store must be open for
    writing. Plug-ins that are loaded are known, others are left.
    """
    adoption = _Adoption(store, Release.load().same_code())
    finished = [key for key, record in store.records.items() if record.status == "done"]
    adopted = [key for key in finished if adoption.adopt(key)]
    current = {record.key for record in map(store.records.__getitem__, finished)}
    digits = {before for _, _, before in adoption.codes} | set(adoption.codes.values())
    left = [key for key in current if store.records[key].payload.get("code") not in digits]
    return Adopted(len(adopted), len(left))


Program = tuple[str, tuple[str, ...], str]
"""Kind of task, names of the parts of a transform, and fingerprint of the release: closures of two
transforms can be equal, so that the fingerprint alone does not tell them apart."""


def _program(record: Record) -> Program:
    recipe = record.payload.get("recipe", {})
    parts = tuple(part["method"] for part in (recipe.get("prune"), recipe.get("quant")) if part)
    return record.kind, parts, str(record.payload.get("code"))


class _Adoption:
    """Gives records their new keys, those that they need first."""

    def __init__(self, store: Store, codes: Mapping[Program, str]) -> None:
        self.store, self.codes = store, codes
        self._keys: dict[str, str] = {}
        """New keys by old ones; empty where a record cannot be adopted."""

    def adopt(self, key: str) -> str:
        """The key of today of a finished task, whose record is written under it; empty if none."""
        if key not in self._keys:
            self._keys[key] = self._adopted(key)
        return self._keys[key]

    def _adopted(self, key: str) -> str:
        record = self.store.done(key)
        code_now = self.codes.get(_program(record), "") if record else ""
        if record is None or not code_now:
            return ""
        inputs = {role: self.adopt(k) for role, k in record.payload.get("inputs", {}).items()}
        if not all(inputs.values()):
            return ""
        payload = {**record.payload, "inputs": inputs, "code": code_now}
        new = digest([record.kind, payload])
        self._write(record, replace(record, key=new, payload=payload))
        return new

    def _write(self, old: Record, new: Record) -> None:
        path = self.store.artefact(old.key)
        if path is not None and self.store.keeps(old.key):
            self.store.save(new.key, self.store.load(old.key))
            path.unlink()
        if self.store.done(new.key) is None:
            self.store.add(new)


@dataclass(frozen=True)
class Release:
    """The code of a release: hashes and imports of its modules, and what they are today."""

    modules: Mapping[str, tuple[str, list[str]]]
    """By name: hash of the tree without docstrings, and the modules of ours that it imports."""
    kinds: Mapping[str, str]
    """The module of each kind of task."""
    today: Mapping[str, tuple[str, str]]
    """Of modules that tasks and plug-ins begin with: their name of today, and the mark that was
    proven to compute the same."""

    @classmethod
    def load(cls) -> Release:
        return cls(**json.loads(FILE.read_text(encoding="utf-8")))

    def same_code(self) -> dict[Program, str]:
        """Programs of the release with the fingerprint of today, where both are one code."""
        codes: dict[Program, str] = {}
        for kind, parts, modules, plugin in self._programs():
            roots = (self.kinds[kind], *modules)
            if all(map(self._is_same, roots)) and self._has_same_imports(plugin):
                now = [self.today[root][0] for root in roots]
                before = self.fingerprint(roots, plugin)
                codes[kind, parts, before] = code.code_fingerprint(*now, plugin=plugin)
        return codes

    def _programs(self) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...], str]]:
        """(kind, names of a transform's parts, modules of that release, source of a plug-in)."""
        methods, quantisers = self._modules(BUILT_IN), self._modules(QUANTISERS)
        for kind in MODULES:
            if kind == "transform":
                for pair in product(("", *methods), ("", *quantisers)):
                    parts = tuple(name for name in pair if name)
                    yield kind, parts, tuple((methods | quantisers)[name] for name in parts), ""
                for plugin in plugins.loaded():
                    yield from ((kind, (name,), (), plugin.source) for name in plugin.methods)
                continue
            modules = [()] if kind == "simulate" else [(module,) for module in methods.values()]
            yield from ((kind, (), one_module, "") for one_module in modules)
            yield from ((kind, (), (), plugin.source) for plugin in plugins.loaded())

    def _modules(self, table: Mapping[str, str]) -> dict[str, str]:
        """Names of methods or quantisers that the release had, with their modules in it."""
        before = {new: old for old, (new, _) in self.today.items()}
        modules = {name: before.get(path.partition(":")[0], "") for name, path in table.items()}
        return {name: module for name, module in modules.items() if module}

    def _is_same(self, module: str) -> bool:
        name, proven = self.today[module]
        return code.mark(name) == proven

    def _has_same_imports(self, plugin: str) -> bool:
        same = {name for module, (name, _) in self.today.items() if self._is_same(module)}
        return code.plugin_modules(plugin) <= same

    # -- the algorithm of that release -------------------------------------------------------

    def fingerprint(self, modules: Iterable[str], plugin: str = "") -> str:
        """As that release computed it: over names and hashes of all modules that are imported."""
        tree = ast.parse(plugin)
        hashes = [("plug-in", _hash(tree))] if plugin else []
        seen: set[str] = set()
        waiting = [*modules, *(self._imported(tree) if plugin else ())]
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += self.modules[module][1]
        return digest(hashes + [(name, self.modules[name][0]) for name in sorted(seen)])

    def _imported(self, tree: ast.Module) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return names & self.modules.keys()


def _hash(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
