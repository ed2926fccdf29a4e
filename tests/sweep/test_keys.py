"""Keys: equal content has an equal key, whatever its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sweep.keys import canonical, digest


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": [1, 2.5], "a": {"y": None, "x": "γ"}}) == (
        '{"a":{"x":"γ","y":null},"b":[1,2.5]}'
    )


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False)))
def test_a_digest_is_that_of_the_content(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest(value) == digest(backwards)
    assert len(digest(value)) == 16
    assert digest({**value, "more": 1}) != digest({**value, "more": 2})
