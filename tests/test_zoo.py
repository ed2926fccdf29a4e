"""The model zoo: what docs/models.md says of each decoder family is what becomes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zoo import look, page


@pytest.mark.parametrize("family", look.FAST)
def test_a_family_is_what_the_page_says(family: str, tmp_path: Path) -> None:
    found = look.look(family, tmp_path)
    assert found.outcome != look.NO_TWIN
    heading, part = _place(family)
    assert heading == page.HEADINGS[found.outcome][0]
    if found.outcome == look.REFUSED:
        assert part == page.KINDS[page.kind_of(found.reason)][0]
    if found.outcome == look.DENSE:
        assert page.row(found) in page.PAGE.read_text(encoding="utf-8")


def test_every_family_of_transformers_is_on_the_page() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert [family for family in look.families() if f"`{family}`" not in text] == []
    assert text.endswith(page.FILES.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_page_is_what_comes_out() -> None:
    found = look.look_at_all(look.families())
    assert page.page(found) == page.PAGE.read_text(encoding="utf-8")


def _place(family: str) -> tuple[str, str]:
    """The heading, and that below it, under which the page first has the family."""
    heading, part = "", ""
    for line in page.PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            title = line.lstrip("# ").rpartition(" (")[0]
            heading, part = (heading, title) if line.startswith("###") else (title, "")
        elif f"`{family}`" in line:
            return heading, part
    return "", ""
