"""The identity of code: a fingerprint of what computes a task, without the names of its modules.

The mark of a module is the hash of its syntax tree without imports of ours, and of what its
imported names are bound to: the mark of a module, or one attribute of it. So a file may move, and
an import may be written in another way, but no statement that runs may change unseen. Left out is
what cannot change a result: comments, docstrings, `__all__`, imports for types only, the words of
errors, and the modules of `NEUTRAL`.

The grain is the module: code that moves from one module to another makes its results new.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from sweep.keys import digest

VERSION = 2
"""Of this algorithm. Another one makes every stored result new, or adopts it (`sweep.adopt`)."""

PACKAGES = ("sweep", "methods", "simulator", "reports")

NEUTRAL = frozenset(
    {
        "methods.names",
        "simulator.errors",
        "sweep.files.atomic",
        "sweep.files.cache",
        "sweep.errors",
        "sweep.gguf.parts",
        "sweep.inputs.wheels",
        "sweep.inputs.malloc",
        "sweep.inputs.hub",
        "sweep.inputs.model_files",
        "sweep.downstream.data",
        "sweep.inputs.text_files",
        "sweep.inputs.model_ref",
        "sweep.messages",
    }
)
"""Modules that decide whether something is to be had, where it lies, or how a fault is worded, and
never what a result is: weights, texts and prompts enter keys by their content."""

FACADES = frozenset({"methods", "simulator", "reports", "sweep"})
"""Packages whose door hands on names of their modules. A name taken from a door is bound to the
module behind it; the door itself does not count."""

COMPUTED = {("simulator", "OFFLINE"): ("simulator.policies", "offline_policies")}
"""Names that a door computes when they are asked for, and what from."""

Import = ast.Import | ast.ImportFrom


class Binding(NamedTuple):
    """A name of a module's code, and what it stands for: `attribute` of `module`, or all of it."""

    name: str
    module: str
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """A module: its tree as text, without imports of ours, and what these bind."""

    tree: str
    bindings: tuple[Binding, ...]


@cache
def code_fingerprint(*modules: str, plugin: str = "") -> str:
    """16 hexadecimal digits over these modules and all that they import of ours.

    `plugin` is the source of a plug-in, which counts with what it imports of ours. Nothing is
    imported for this. Raises CircleError where modules import each other.
    """
    marks = {mark(module) for module in modules}
    if plugin:
        marks.add(_mark_of(_parts(ast.parse(plugin)), ()))
    return digest([VERSION, sorted(marks)])


def plugin_modules(plugin: str) -> frozenset[str]:
    """Modules of ours that the source of a plug-in takes names from."""
    return frozenset(binding.module for binding in _parts(ast.parse(plugin)).bindings)


def closure(*modules: str) -> frozenset[str]:
    """These modules and all that they import of ours when they run; neutral ones are not entered,
    and do not count as part."""
    seen: set[str] = set()
    waiting = [module for module in modules if module not in NEUTRAL]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += [b.module for b in parts(module).bindings if b.module not in NEUTRAL]
    return frozenset(seen)


class CircleError(ValueError):
    """Modules that compute import each other, so that neither has a mark of its own."""


def mark(module: str, above: tuple[str, ...] = ()) -> str:
    """64 hexadecimal digits over what a module computes, and all that it imports of ours."""
    if module in NEUTRAL:
        return "neutral"
    if module in above:
        raise CircleError(f"modules import each other: {' -> '.join((*above, module))}")
    if module not in _marks:
        _marks[module] = _mark_of(parts(module), (*above, module))
    return _marks[module]


_marks: dict[str, str] = {}


def _mark_of(parts: Parts, above: tuple[str, ...]) -> str:
    bound = sorted([b.name, mark(b.module, above), b.attribute] for b in parts.bindings)
    return hashlib.sha256(f"{parts.tree}\n{bound}".encode()).hexdigest()


def forget() -> None:
    """Read every file anew when it is next asked for, as after an edit."""
    for remembered in (code_fingerprint, parts, _handed_on, _holds_code):
        remembered.cache_clear()
    _marks.clear()


# -- reading modules -------------------------------------------------------------------------


@cache
def parts(module: str) -> Parts:
    """A module of ours, read from its file."""
    return _parts(ast.parse(_file(module).read_text(encoding="utf-8")))


def _parts(tree: ast.Module) -> Parts:
    imports = [node for node in _runtime_nodes(tree) if isinstance(node, Import)]
    ours = [node for node in imports if _is_ours(node)]
    bindings = {binding for node in ours for binding in _bindings(node, tree)}
    behind = {Binding("", door) for b in bindings for door in _doors(b.module)}
    _Cleaned({id(node) for node in ours}).visit(tree)
    return Parts(_as_text(tree), tuple(sorted(bindings | behind)))


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All statements but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            if not _for_types_only(child):
                yield from _runtime_nodes(child)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and not node.orelse and "TYPE_CHECKING" in ast.dump(node.test)


def _is_ours(node: Import) -> bool:
    if isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError(f"relative import: {ast.unparse(node)}")
        return _package(str(node.module)) in PACKAGES
    return any(_package(alias.name) in PACKAGES for alias in node.names)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _bindings(node: Import, tree: ast.Module) -> Iterator[Binding]:
    if isinstance(node, ast.ImportFrom):
        module = str(node.module)
        for alias in node.names:
            yield _bound(alias.asname or alias.name, module, alias.name)
        return
    for alias in node.names:
        if alias.name in FACADES:
            yield from _taken_from(alias.asname or alias.name, alias.name, tree)
        elif _package(alias.name) in PACKAGES:
            yield Binding(alias.asname or alias.name, alias.name)


def _bound(name: str, module: str, attribute: str) -> Binding:
    """What `from module import attribute as name` binds."""
    if _exists(f"{module}.{attribute}"):
        return Binding(name, f"{module}.{attribute}")
    if module not in FACADES:
        return Binding(name, module, attribute)
    behind = _handed_on(module).get(attribute)
    if behind is None:
        raise ValueError(f"package {module} hands on no {attribute!r}")
    return Binding(name, *behind)


def _taken_from(name: str, facade: str, tree: ast.Module) -> Iterator[Binding]:
    """What `import facade as name` stands for: the attributes that are used, or all of them."""
    nodes = list(ast.walk(tree))
    attributes = [n.attr for n in nodes if isinstance(n, ast.Attribute) and _is_name(n.value, name)]
    handed_about = len(attributes) < sum(_is_name(node, name) for node in nodes)
    for attribute in _handed_on(facade) if handed_about else attributes:
        yield _bound(f"{name}.{attribute}", facade, attribute)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


@cache
def _handed_on(facade: str) -> dict[str, tuple[str, str]]:
    """Names that a door hands on, each with its module and its name there."""
    tree = ast.parse(_file(facade).read_text(encoding="utf-8"))
    handed_on = {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and _package(str(node.module)) == facade
        for alias in node.names
    }
    return handed_on | {name: behind for (of, name), behind in COMPUTED.items() if of == facade}


def _doors(module: str) -> Iterator[str]:
    """Packages around a module whose doors hold code, which runs when the module is imported."""
    names = module.split(".")
    for count in range(1, len(names)):
        package = ".".join(names[:count])
        if package not in FACADES and package not in NEUTRAL and _holds_code(package):
            yield package


@cache
def _holds_code(package: str) -> bool:
    body = ast.parse(_file(package).read_text(encoding="utf-8")).body
    return any(not _is_text(node) for node in body)


def _exists(module: str) -> bool:
    try:
        return _file(module).is_file()
    except ModuleNotFoundError:
        return False


def _file(module: str) -> Path:
    """The source of a module; no module is imported, but its outermost package."""
    package, *inner = module.split(".")
    path = _folder(package).joinpath(*inner)
    if path.is_dir() and (path / "__init__.py").is_file():
        return path / "__init__.py"
    if inner and path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    raise ModuleNotFoundError(f"no source for module {module}")


@cache
def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source for module {package}")
    return Path(spec.origin).parent


def _as_text(value: object) -> str:
    """A tree as text, in which what is empty or absent is left out: `ast.dump` writes these in
    some versions of Python and not in others."""
    if isinstance(value, ast.AST):
        fields = [(name, getattr(value, name, None)) for name in value._fields]
        inside = ", ".join(f"{n}={_as_text(v)}" for n, v in fields if v is not None and v != [])
        return f"{type(value).__name__}({inside})"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_text, value))}]"
    return repr(value)


# -- what does not count ---------------------------------------------------------------------


class _Cleaned(ast.NodeTransformer):
    """Takes out what cannot change a result."""

    def __init__(self, dropped: set[int]) -> None:
        self.dropped = dropped

    def visit(self, node: ast.AST) -> ast.AST | None:
        if id(node) in self.dropped or _for_types_only(node) or _is_list_of_names(node):
            return None
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.body and _is_text(node.body[0]):
                del node.body[0]
        elif isinstance(node, ast.Raise) and node.exc is not None:
            node.exc = _Wordless().visit(node.exc)
        return self.generic_visit(node)


class _Wordless(ast.NodeTransformer):
    """Takes the words out of an exception that is raised; its type and other values stay."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node


def _is_text(node: ast.AST) -> bool:
    """A statement that is nothing but text: a docstring."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return False
    return isinstance(node.value.value, str)


def _is_list_of_names(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
