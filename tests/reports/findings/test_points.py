"""Settings: a failed point is a row of one, empty ones come last, and no path is a name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reports.findings.points import (
    by_setting,
    configuration,
    device_label,
    points,
    setting_label,
    short_name,
    weights_label,
)
from reports.results import rows
from tests.reports import synthetic

SHAPE = synthetic.Shape(densities=(0.7, 0.9), dram_gb=(0.05, 0.06), flash_gbps=(1.0,))


def table_rows() -> list[dict[str, Any]]:
    return synthetic.table(SHAPE, flaws=False).to_pylist()


def test_a_failed_point_of_an_older_run_joins_the_setting_of_its_kin() -> None:
    """Runs did not write the windows of what they had not measured."""
    found = table_rows()
    failed = [row for row in found if row["method"] == "dip"][:3]
    for row in failed:
        row.update(dict.fromkeys(synthetic.FIGURES), status="failed", error="boom", windows=None)
    made = points(rows(synthetic.to_table(found)))
    assert {p.setting.windows for p in made} == {2.0}
    assert len(by_setting(made)) == 2
    assert sum(p.status == "failed" for p in made) == 3


def test_a_setting_without_a_measured_point_comes_last_and_names_no_absent_number() -> None:
    found = table_rows()
    for row in found:
        if row["dram_gb"] == 0.05:
            row.update(dict.fromkeys(synthetic.FIGURES), status="missing", windows=None)
            row["text"] = "another"
    made = by_setting(points(rows(synthetic.to_table(found))))
    first, last = made
    assert (first.dram_gb, last.dram_gb) == (0.06, 0.05)
    assert "-1" not in device_label(last, ("windows", "text"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/me/models/tiny-llama", "tiny-llama"),
        ("./gemma-3-270m-q4_k_m.gguf", "gemma-3-270m-q4_k_m"),
        ("org/name@main", "org/name@main"),
        ("smollm2-135m", "smollm2-135m"),
        ("/data/reported.txt", "reported.txt"),
    ],
)
def test_a_path_is_shown_by_its_last_part(given: str, expected: str) -> None:
    assert short_name(given) == expected


def test_titles_stand_for_names_and_change_no_setting() -> None:
    found = table_rows()
    for i, row in enumerate(found):
        row |= {"model": "/models/secret/tiny", "text": "/texts/secret/words.txt"}
        row["model_title"] = "Tiny" if i % 2 else None
    made = points(rows(synthetic.to_table(found)))
    assert len(by_setting(made)) == 2
    assert made[1].setting.model == "/models/secret/tiny"
    assert weights_label(made[1].setting) in ("Tiny · 4 bit", "tiny · 4 bit")
    assert device_label(made[0].setting, ("text",)).endswith("on words.txt")


@pytest.mark.parametrize(
    ("method", "parameters", "told"),
    [
        ("teal", {"attention": "none", "shares": "uniform"}, ""),
        ("teal", {"attention": "same", "shares": "uniform"}, "attention same"),
        ("was", {"attention": 0.5, "shares": "greedy"}, "attention 0.5 · shares greedy"),
        ("wina", {"attention": 1, "variant": "code"}, "attention 1 · variant code"),
        ("wina", {"variant": "paper", "rotation": False}, ""),
        ("wina", {"rotation": True}, "rotation"),
        ("cett", {"shares": "cett"}, ""),
        ("cett", {"shares": "uniform"}, "shares uniform"),
        ("sparsegpt", {"pattern": "2:4"}, "2:4"),
        ("dip", {"allocation": "paper", "layers": ""}, ""),
        ("mine", {"attention": None}, ""),
    ],
)
def test_rows_of_a_method_are_told_apart_by_its_parameters(
    method: str, parameters: dict[str, Any], told: str
) -> None:
    row = next(r for r in table_rows() if r["method"] == "up")
    row |= {"method": method, "series": method, "parameters": json.dumps(parameters)}
    (made,) = points(rows(synthetic.to_table([row])))
    assert made.told == told
    assert (f" · {told} · " in configuration(made)) == bool(told)


@pytest.mark.parametrize("parameters", ["{broken", "[]", "null", "", None])
def test_parameters_that_cannot_be_read_tell_nothing(parameters: str | None) -> None:
    row = next(r for r in table_rows() if r["method"] == "up") | {"parameters": parameters}
    (made,) = points(rows(synthetic.to_table([row])))
    assert made.told == ""


def test_long_shares_are_told_apart_by_a_digest() -> None:
    texts = []
    for last in (0.5, 0.6):
        row = next(r for r in table_rows() if r["method"] == "up")
        row["parameters"] = json.dumps(
            {"shares": {"input": [0.4] * 30, "intermediate": [last] * 30}}
        )
        texts.append(points(rows(synthetic.to_table([row])))[0].told)
    assert texts[0] != texts[1]
    assert all(len(text) < 20 and text.startswith("shares own ") for text in texts)


def test_windows_that_begin_dense_are_a_setting_of_their_own_and_say_so() -> None:
    found = table_rows()
    for i, row in enumerate(found):
        row["dense_tokens"] = 512 * (i % 2)
    made = by_setting(points(rows(synthetic.to_table(found))))
    assert len(made) == 4
    for setting, members in made.items():
        assert {p.setting.dense_tokens for p in members} == {setting.dense_tokens}
        for label in (device_label(setting), device_label(setting, ("dense_tokens",))):
            assert label.count("first 512 tokens dense") == (setting.dense_tokens == 512)
        assert ("first 512 tokens dense" in setting_label(setting)) == (setting.dense_tokens == 512)


def test_an_older_run_left_no_token_dense() -> None:
    old, new = (points(rows(synthetic.to_table(table_rows()))) for _ in range(2))
    stated = [row | {"dense_tokens": 0} for row in table_rows()]
    assert points(rows(synthetic.to_table(stated)))[0].setting == old[0].setting == new[0].setting
