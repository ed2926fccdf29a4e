"""Settings: a failed point is a row of one, empty ones come last, and no path is a name."""

from __future__ import annotations

from typing import Any

import pytest

from reports.findings.points import by_setting, device_label, points, short_name, weights_label
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
