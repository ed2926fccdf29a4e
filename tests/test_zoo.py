"""The model zoo: what docs/models.md says of each decoder family is what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import zoo


@pytest.mark.parametrize("family", zoo.FAST)
def test_a_family_is_what_the_page_says(family: str, tmp_path: Path) -> None:
    found = zoo.look(family, tmp_path)
    assert found.outcome in (zoo.RUNS, zoo.DENSE)
    section = _section(family)
    assert section == zoo.MEANINGS[found.outcome][0]
    if found.outcome == zoo.DENSE:
        assert f"| `{family}` | {found.reason} |" in zoo.PAGE.read_text(encoding="utf-8")


def test_every_family_of_transformers_is_on_the_page() -> None:
    page = zoo.PAGE.read_text(encoding="utf-8")
    assert [family for family in zoo.families() if f"`{family}`" not in page] == []
    assert page.endswith(zoo.FILES.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_is_what_comes_out() -> None:
    found = sorted(zoo.look_at_all(list(zoo.families())), key=lambda one: one.family)
    assert zoo.page(found) == zoo.PAGE.read_text(encoding="utf-8")


def _section(family: str) -> str:
    """The heading under which the page has the family."""
    heading = ""
    for line in zoo.PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").rpartition(" (")[0]
        elif f"`{family}`" in line:
            return heading
    return ""
