"""Which code a task runs: the module of its kind, and the method or policy that it is about."""

from __future__ import annotations

from collections.abc import Mapping

from methods.registry import method_class
from sweep import plugins
from sweep.plan.code import code_fingerprint

MODULES: Mapping[str, str] = {
    "calibrate": "sweep.tasks.calibrate",
    "transform": "sweep.tasks.transform",
    "train": "sweep.tasks.train",
    "evaluate": "sweep.tasks.evaluate",
    "score": "sweep.tasks.score",
    "simulate": "sweep.tasks.simulate",
}
"""The module of each kind of task, in the order of `KINDS`."""


def code_of_method(kind: str, method: str, policy: str = "") -> str:
    """Fingerprint of the code of a task that runs a method, under a cache of a policy where its
    masks read one; a user's own counts by its source."""
    plugin, cache = plugins.origin(method), plugins.origin(policy, "policies")
    own = "\0".join(dict.fromkeys(p.source for p in (plugin, cache) if p is not None))
    modules = (MODULES[kind],) if plugin else (MODULES[kind], method_class(method).__module__)
    return code_fingerprint(*modules, plugin=own)


def code_of_policy(policy: str) -> str:
    """Fingerprint of the code of a simulation; a policy of a user's own counts by its source."""
    plugin = plugins.origin(policy, "policies")
    return code_fingerprint(MODULES["simulate"], plugin=plugin.source if plugin else "")


def code_of_transform(method: str, modules: tuple[str, ...]) -> str:
    """Fingerprint of the code of a transform: the modules of the methods and quantisers that it
    runs, of which those that are not ours are the plug-in that `method` is from."""
    ours = tuple(module for module in modules if module.startswith("methods."))
    plugin = plugins.origin(method)
    source = plugin.source if plugin and len(ours) < len(modules) else ""
    return code_fingerprint(MODULES["transform"], *ours, plugin=source)
