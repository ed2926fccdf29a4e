"""Which code a task runs: the module of its kind, and the method or policy that it is about."""

from __future__ import annotations

from collections.abc import Mapping

from methods.experts.rules import Rule
from methods.registry import method_class
from simulator.policies import policy_class
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

ROUTED: Mapping[str, str] = {
    "evaluate": "sweep.routing.evaluate",
    "calibrate": "sweep.routing.uses",
    "simulate": "sweep.routing.pool",
}
"""The module of each kind of task about experts, where these have one of their own."""

POLICY_MODULES = ("simulator.engine_policies",)
"""Modules of policies that no simulation imports, as the door of `simulator` registers them."""

COACTIVE = "sweep.flash.coactive"
"""The module of a calibration that finds which units are used together."""

CLASSES = "sweep.flash.classes"
"""The module of a simulation that counts reads and classes of their sizes."""

BUNDLES = "sweep.flash.bundles"
"""The module of a simulation of what is read ahead, in bundles over layers."""

PRICED = "sweep.flash.evaluate"
"""The module of an evaluation at a fixed price of reads."""

USES = "sweep.tasks.uses"
"""The module of a calibration that counts uses."""

READS = "sweep.tasks.reads"
"""The module of a simulation that counts reads."""
TRIALS = "sweep.tasks.train_by_trials"
"""The module of a training that asks a study for trials."""
ROUNDING = "sweep.tasks.rotated.train"
"""The module of a training whose rotated weights are quantised."""


def code_of_method(kind: str, method: str, policy: str = "") -> str:
    """Fingerprint of the code of a task that runs a method, under a cache of a policy where its
    masks read one; a user's own counts by its source."""
    return _with_method(MODULES[kind], method, policy)


def code_of_rule(rule: Rule, policy: str = "") -> str:
    """Fingerprint of the code of an evaluation under a routing rule, with the method inside of
    experts and the policy of the cache that it reads."""
    extra = [method_class(rule.inside).__module__] if rule.inner() else []
    if policy and plugins.origin(policy, "policies") is None:
        extra += _of_policy(policy)
    return _with_method(ROUTED["evaluate"], rule.name, policy, tuple(extra))


def code_of_priced(method: str, policy: str) -> str:
    """Fingerprint of the code of an evaluation of a method at a fixed price of reads."""
    return _with_method(PRICED, method, policy)


def code_of_coactive(method: str) -> str:
    """Fingerprint of the code of an order by the masks of a method, of units used together."""
    return _with_method(COACTIVE, method)


def code_of_bundles() -> str:
    """Fingerprint of the code that counts what is read ahead and what on demand."""
    return code_fingerprint(BUNDLES)


def code_of_uses(method: str) -> str:
    """Fingerprint of the code that counts the uses of units by the masks of a method."""
    routes = issubclass(method_class(method), Rule)
    return _with_method(ROUTED["calibrate"] if routes else USES, method)


def code_of_trials(method: str) -> str:
    """Fingerprint of the code of a training by trials, Optuna's file among it."""
    return _with_method(TRIALS, method)


def code_of_rounding(method: str, modules: tuple[str, ...]) -> str:
    """Fingerprint of the code of a training whose rotated weights are quantised by `modules`."""
    return _with_method(ROUNDING, method, extra=modules)


def _with_method(module: str, method: str, policy: str = "", extra: tuple[str, ...] = ()) -> str:
    plugin, cache = plugins.origin(method), plugins.origin(policy, "policies")
    source = "\0".join(dict.fromkeys(p.source for p in (plugin, cache) if p is not None))
    modules = (module,) if plugin else (module, method_class(method).__module__)
    return code_fingerprint(*modules, *extra, plugin=source)


def code_of_policy(policy: str, reads: str = "", pool: bool = False) -> str:
    """Fingerprint of the code of a simulation, or of the module that counts reads, or of one pool.

    A policy of a user's own counts by its source, one of ours by its module too where the
    simulation does not import that anyway."""
    simulation = reads or (ROUTED if pool else MODULES)["simulate"]
    plugin = plugins.origin(policy, "policies")
    if plugin is not None:
        return code_fingerprint(simulation, plugin=plugin.source)
    return code_fingerprint(simulation, *_of_policy(policy))


def _of_policy(policy: str) -> list[str]:
    """The module of a policy of ours, where tasks do not import that anyway."""
    module = policy_class(policy).__module__
    return [module] if module in POLICY_MODULES else []


def code_of_transform(method: str, modules: tuple[str, ...]) -> str:
    """Fingerprint of the code of a transform: the modules of the methods and quantisers that it
    runs, of which those that are not ours are the plug-in that `method` is from."""
    ours = tuple(module for module in modules if module.startswith("methods."))
    plugin = plugins.origin(method)
    source = plugin.source if plugin and len(ours) < len(modules) else ""
    return code_fingerprint(MODULES["transform"], *ours, plugin=source)
