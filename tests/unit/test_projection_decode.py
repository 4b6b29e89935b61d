"""Short cuts of the decoder, each against the long way."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from chimera.events.envelope import _DIGITS_ALIKE, _KNOWN, _LONG_NUMBER, _READ, _REQUIRED, _any_headers, _plain_headers

names = st.sampled_from([*sorted(_KNOWN), "another's"])
contents = st.one_of(
    st.sampled_from([b"", b"1", b"a\0b", b"\0", b"\xff", "müller".encode(), b"\xc3", b"\xbc", None]), st.binary(max_size=4)
)
headers = st.lists(st.tuples(names, contents), max_size=16)


@given(headers)
def test_headers_read_in_one_go_are_those_read_one_by_one(found: list[tuple[str, bytes]]) -> None:
    plain = _plain_headers(found)
    if plain is not None:
        one_by_one, defect = _any_headers(found)
        assert defect is None
        assert plain == tuple(one_by_one.get(name, "") for name in _READ)


@given(
    st.lists(
        st.tuples(names.filter(_KNOWN.__contains__), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
        unique_by=lambda h: h[0],
    )
)
def test_headers_as_this_code_writes_them_take_the_short_way(found: list[tuple[str, str]]) -> None:
    found += [(name, "any") for name in _REQUIRED if name not in dict(found)]
    texts = dict(found)
    assert _plain_headers([(name, text.encode()) for name, text in found]) == tuple(texts.get(name, "") for name in _READ)


@given(st.text(alphabet="0123456789a.- ", max_size=60))
def test_a_long_number_is_seen_by_its_digits(text: str) -> None:
    value = text.encode()
    assert (_LONG_NUMBER in value.translate(_DIGITS_ALIKE)) == bool(re.search(rb"\d{19}", value))
