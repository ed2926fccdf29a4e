"""How sure a decision is said to be, against its interval and its neighbours."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import reports
from reports.findings.budgets import Budget
from reports.findings.certainty import chosen_among, outlook, sentences, windows_needed
from reports.findings.costs import upper_end
from reports.findings.decisions import Decision
from tests.reports import synthetic


def decided() -> Decision:
    decisions = reports.decide(synthetic.table(flaws=False), ["5%"])
    return next(d for d in decisions if d.best and d.runner_up and not d.best.dense)


def with_best(decision: Decision, high: float, windows: float = 2) -> Decision:
    assert decision.best is not None
    setting = replace(decision.best.setting, windows=windows)
    best = replace(decision.best, delta_ppl_high=high, setting=setting, windows=windows)
    return replace(decision, best=best)


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


def measured(decision: Decision, share: float, half: float, windows: float = 4) -> Decision:
    """With a choice whose loss is `share` of the dense perplexity, known to a factor `half`."""
    assert decision.best is not None
    dense = 20.0
    best = replace(
        decision.best,
        ppl=dense * (1 + share),
        ppl_dense=dense,
        delta_ppl=dense * share,
        delta_ppl_high=dense * share + 5,  # the level is not known: no matter for a share
        ppl_ratio_high=(1 + share) * half,
        windows=windows,
    )
    return replace(decision, best=best, budget=Budget.parse("5%"), limit=0.05 * dense)


def test_a_share_of_the_dense_perplexity_is_held_to_the_ratio() -> None:
    """How sure its level is does not count: 4 % of any level is within 5 % of it."""
    given = measured(decided(), 0.03, 1.01)
    assert given.best is not None
    assert upper_end(given.best, given.budget) == pytest.approx(20 * (1.03 * 1.01 - 1))
    assert given.certainty == "within"
    assert measured(decided(), 0.03, 1.03).certainty == "beyond"
    absolute = replace(given, budget=Budget.parse("1"), limit=1.0)
    assert absolute.certainty == "beyond"


def test_windows_needed_bring_the_interval_within() -> None:
    """As many as Student's t asks for, and no fewer."""
    from scipy import stats

    given = measured(decided(), 0.03, 1.03)
    assert given.best is not None
    count = windows_needed(given.best, given.budget)
    spread = math.log(1.03) * 2 / stats.t.ppf(0.975, 3)
    margin = math.log(1.05 / 1.03)
    assert stats.t.ppf(0.975, count - 1) * spread / math.sqrt(count) <= margin
    assert stats.t.ppf(0.975, count - 2) * spread / math.sqrt(count - 1) > margin
    beyond = measured(decided(), 0.06, 1.03)
    assert beyond.best is not None
    assert windows_needed(beyond.best, beyond.budget) == math.inf


def test_the_report_says_how_many_windows_and_minutes_would_settle_it() -> None:
    given = measured(decided(), 0.03, 1.03)
    assert given.best is not None
    count = windows_needed(given.best, given.budget)
    (line,) = outlook([given, measured(decided(), 0.01, 1.001)], seconds=600)
    minutes = round(10 * (count / 4 - 1))
    assert line.startswith(
        f"For +5 % you need about {count:,} windows where 4 were evaluated, {minutes} minutes"
    )
    assert "more here" not in outlook([given], seconds=0)[0]
    assert outlook([measured(decided(), 0.01, 1.001)], 600) == []
    near = measured(decided(), 0.05 - 1e-6, 1.03)
    assert "1 more are too near the budget" in outlook([given, near], 600)[0]


def test_a_choice_among_many_is_said_to_be_one() -> None:
    points = reports.findings.points.points(reports.results.rows(synthetic.table(flaws=False)))
    (line,) = chosen_among(points)
    settings = {p.setting for p in points}
    most = max(
        sum(p.setting == s and p.measured and not (p.bound or p.dense) for p in points)
        for s in settings
    )
    assert f"up to {most:,} points" in line
    assert chosen_among(points[:5]) == []
