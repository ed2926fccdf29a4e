"""How sure a decision is said to be, against its interval and its neighbours."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import reports
from reports.findings.certainty import sentences
from reports.findings.decisions import Decision
from tests.reports import synthetic


def decided() -> Decision:
    decisions = reports.decide(synthetic.table(flaws=False), ["5%"])
    return next(d for d in decisions if d.best and d.runner_up and not d.best.dense)


def with_best(decision: Decision, high: float, windows: float = 2) -> Decision:
    assert decision.best is not None
    setting = replace(decision.best.setting, windows=windows)
    return replace(decision, best=replace(decision.best, delta_ppl_high=high, setting=setting))


def test_an_interval_within_is_sure_and_few_windows_are_rough() -> None:
    given = decided()
    text = " ".join(sentences(with_best(given, given.limit)))
    assert f"Sure: the 95 % interval ends at {given.limit:+.3f}, within the budget." in text
    assert "Rough: 2 windows of text." in text
    assert "Rough" not in " ".join(sentences(with_best(given, given.limit, windows=64)))


def test_an_interval_beyond_names_what_to_ship_instead() -> None:
    given = decided()
    assert given.best is not None
    beyond = with_best(given, given.limit + 0.1)
    safe = replace(given.best, tokens_per_s=given.best.tokens_per_s * 0.9)
    assert "Not sure" in sentences(beyond)[0]
    cases = {
        "The conservative choice is 10.0 % slower.": safe,
        "Only dense is surely within.": replace(safe, method="dense"),
        "No measured point is surely within.": None,
    }
    for words, conservative in cases.items():
        assert words in sentences(replace(beyond, conservative=conservative))[0]


def test_the_margin_is_that_over_the_runner_up() -> None:
    given = decided()
    assert given.best is not None
    other = replace(given.best, tokens_per_s=given.best.tokens_per_s / 1.25)
    assert "25.0 % faster than the runner-up." in sentences(replace(given, runner_up=other))
    near = replace(given.best, tokens_per_s=given.best.tokens_per_s / 1.001)
    assert "The runner-up is as fast." in sentences(replace(given, runner_up=near))


@pytest.mark.parametrize("best", ["dense", "none", "unknown"])
def test_what_needs_no_interval_says_so(best: str) -> None:
    given = decided()
    assert given.best is not None
    if best == "none":
        assert sentences(replace(given, best=None)) == []
    elif best == "dense":
        assert sentences(replace(given, best=replace(given.best, method="dense"))) == []
    else:
        assert sentences(with_best(given, math.nan))[0] == "Unknown: ΔPPL has no interval."
