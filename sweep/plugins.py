"""Methods and policies in users' own files: loaded on the driver, and on workers from the task.

A plug-in is one file with `@methods.register` over a class like those of `methods/`, or
`@simulator.register` over a cache policy. Its code runs with the rights of who runs the sweep.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from methods import registry
from simulator.policies import POLICIES, policy_class
from simulator.policies import forget as forget_policy
from sweep.errors import InputError


@dataclass(frozen=True, slots=True)
class Plugin:
    """A file that has been loaded, and the names that it registered."""

    file: str
    source: str
    methods: tuple[str, ...]
    policies: tuple[str, ...]


Prefix = Literal["", "policy_"]

_loaded: dict[str, Plugin] = {}


def load(path: Path) -> Plugin:
    """Run a plug-in's file, which registers itself; InputError says what is wrong with it."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"plug-in {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"plug-in {path} is no text") from None
    return install(path.name, source)


def install(file: str, source: str) -> Plugin:
    """Run a plug-in's source, in the place of an earlier one of that file."""
    earlier = _loaded.get(file)
    if earlier is not None and earlier.source == source and _stands(earlier):
        return earlier
    if earlier is not None:
        _forget(earlier)
    before, known_policies = registry.names(), set(POLICIES)
    try:
        module = _run(file, source)
    except (Exception, SystemExit) as error:
        for name in set(registry.names()) - set(before):
            registry.forget(name)
        for name in set(POLICIES) - known_policies:
            forget_policy(name)
        raise InputError(f"plug-in {file}: {_reason(file, error)}") from error
    added = tuple(name for name in registry.names() if name not in before)
    policies = tuple(n for n in POLICIES if policy_class(n).__module__ == module.__name__)
    if not added and not policies:
        raise InputError(f"plug-in {file} registers nothing: put @methods.register over its class")
    _loaded[file] = Plugin(file, source, added, policies)
    return _loaded[file]


def _stands(plugin: Plugin) -> bool:
    """Whether all that it registered is still known."""
    return set(plugin.methods) <= set(registry.names()) and set(plugin.policies) <= set(POLICIES)


def loaded() -> tuple[Plugin, ...]:
    """The plug-ins of this process."""
    return tuple(_loaded.values())


def _forget(plugin: Plugin) -> None:
    for name in plugin.methods:
        registry.forget(name)
    for name in plugin.policies:
        forget_policy(name)
    del _loaded[plugin.file]


def _run(file: str, source: str) -> ModuleType:
    module = ModuleType("sweep_plugin_" + re.sub(r"\W", "_", Path(file).stem))
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    exec(compile(source, file, "exec"), module.__dict__)
    return module


def _reason(file: str, error: BaseException) -> str:
    """The error in one line, with the line of the file where it arose."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    line_named = f"line {line}: " if line else ""
    return f"{line_named}{type(error).__name__}: {error}"


def origin(name: str, kind: Literal["methods", "policies"] = "methods") -> Plugin | None:
    """The plug-in that a method or policy is from; None if it is built in."""
    return next((p for p in _loaded.values() if name in getattr(p, kind)), None)


def where(
    name: str, kind: Literal["methods", "policies"] = "methods", prefix: Prefix = ""
) -> dict[str, str]:
    """What a worker needs to load the plug-in of a method or policy; nothing if it is built in.

    A task that has both has the policy's under `policy_`.
    """
    plugin = origin(name, kind)
    if plugin is None:
        return {}
    return {f"{prefix}plugin": plugin.file, f"{prefix}plugin_source": plugin.source}


def ensure(described: dict[str, Any]) -> None:
    """Load the plug-ins that `where` describes, if there are any."""
    for prefix in ("", "policy_"):
        if f"{prefix}plugin" in described:
            install(described[f"{prefix}plugin"], described[f"{prefix}plugin_source"])
