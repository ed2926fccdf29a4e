"""Figures are written by one rule, and escaped text is read back literally."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reports import numbers
from reports.pages.markup import bullets, fence, markdown, table
from reports.pages.summary import flatten
from tests.reports.synthetic import NASTY

RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
TEXT = st.text(st.sampled_from("ab1 .:/@-+=#*_~`<>[]()!|\\$&;{}^\"'\n\twh"), max_size=30)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12.345, "12.3"), (0.0, "0"), (172.4, "172"), (1234.5, "1,234"), (0.01234, "0.0123")],
)
def test_figure_keeps_three_digits(value: float, expected: str) -> None:
    assert numbers.figure(value) == expected


def test_an_absent_figure_is_a_dash() -> None:
    writers = (numbers.figure, numbers.percent, numbers.megabytes, numbers.times, numbers.signed)
    assert {write(math.nan) for write in writers} == {"–"}
    assert {write(None) for write in writers} == {"–"}


def test_signs_units_and_durations() -> None:
    assert numbers.signed(0.1234) == "+0.123"
    assert numbers.signed(-0.1234) == "−0.123"
    assert numbers.percent(0.123) == "12.3 %"
    assert numbers.megabytes(2.5e6) == "2.50 MB"
    assert numbers.fixed(-0.0001, 2) == "0.00"
    assert [numbers.duration(s) for s in (8.21, 250, 11_100)] == [
        "8.2 s",
        "4 min 10 s",
        "3 h 05 min",
    ]


def pieces(tokens: list[Token]) -> list[Token]:
    return [t for token in tokens for t in (token, *(token.children or []))]


def literal(value: str) -> str:
    return " ".join(value.split())


@given(TEXT)
@example(NASTY)
@example("- item")
@example("1. item")
@example("# head")
@example("http://a.example and www.a.example and @someone")
def test_a_table_cell_shows_the_value_literally(value: str) -> None:
    tokens = RENDERER.parse(table(("Name", "Next"), [[markdown(value), "after"]]))
    texts = [t for t in tokens if t.type == "inline"]
    assert len(texts) == 4
    shown = "".join(
        t.content for t in texts[2].children or [] if t.type in ("text", "text_special")
    )
    assert shown == literal(value)
    assert not [t for t in pieces(tokens) if "html" in t.type or "link" in t.type]


@given(TEXT.filter(lambda text: text.strip()))
@example(NASTY)
@example("===")
@example("12) item")
def test_a_list_item_shows_the_value_literally(value: str) -> None:
    tokens = RENDERER.parse(bullets([value]))
    (inline,) = [t for t in tokens if t.type == "inline"]
    children = inline.children or []
    assert "".join(t.content for t in children) == literal(value)
    assert {t.type for t in children} <= {"text", "text_special"}


@given(st.text(st.sampled_from("a`~ \n<#"), max_size=30))
def test_a_code_block_cannot_be_closed_from_inside(value: str) -> None:
    tokens = RENDERER.parse(fence(value))
    assert [t.type for t in tokens] == ["fence"]
    assert tokens[0].content == f"{value}\n"


def test_nested_documents_become_pairs() -> None:
    document = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": True, "g": {}, "h": []}
    assert flatten(document) == [
        ("a.b", "1"),
        ("a.c", "1, 2"),
        ("d.0.e", "none"),
        ("f", "yes"),
        ("g", "none"),
        ("h", "none"),
    ]
