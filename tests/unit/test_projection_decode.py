"""Short cuts of the decoder and the law, each against the long way."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chimera.events.does.steps import MAX_DECIMALS, MAX_USD, usable_amount
from chimera.events.envelope import _DIGITS_ALIKE, _LONG_NUMBER, _as_read, decode
from chimera.events.hashes import digest
from chimera.events.headers import KNOWN, READ, REQUIRED, any_headers, plain_headers, text_of
from chimera.events.raw import RawRecord
from chimera.events.records import EffectProposal, effect_body

names = st.sampled_from([*sorted(KNOWN), "another's"])
contents = st.one_of(
    st.sampled_from([b"", b"1", b"a\0b", b"\0", b"\xff", "müller".encode(), b"\xc3", b"\xbc", None]), st.binary(max_size=4)
)
headers = st.lists(st.tuples(names, contents), max_size=16)


@given(headers)
def test_headers_read_in_one_go_are_those_read_one_by_one(found: list[tuple[str, bytes]]) -> None:
    plain = plain_headers(found)
    if plain is not None:
        one_by_one, defect = any_headers(found)
        assert defect is None
        assert plain == tuple(one_by_one.get(name, "") for name in READ)


@given(
    st.lists(
        st.tuples(names.filter(KNOWN.__contains__), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
        unique_by=lambda h: h[0],
    )
)
def test_headers_as_this_code_writes_them_take_the_short_way(found: list[tuple[str, str]]) -> None:
    found += [(name, "any") for name in REQUIRED if name not in dict(found)]
    texts = dict(found)
    assert plain_headers([(name, text.encode()) for name, text in found]) == tuple(texts.get(name, "") for name in READ)


keys = st.sampled_from([None, b"", b"\0", b"\xff", b"agent/1", b"agent/2", "agent/ü".encode(), b"agent/1\0"])


@given(keys, keys, st.booleans())
def test_the_key_is_read_from_its_own_bytes_whatever_the_subject_says(
    key: bytes | None, subject: bytes | None, complete: bool
) -> None:
    found = dict.fromkeys(REQUIRED, b"1") | {"ce_specversion": b"1.0", "ce_subject": subject, "ce_type": b"Unknown"}
    if not complete:
        del found["ce_tenant"]
    record = decode(RawRecord("chimera.log", 0, 0, 1, key, b"{}", list(found.items())))  # type: ignore[arg-type]
    assert record.key == (text_of(key) or "")
    if text_of(subject) is None:
        assert record.defect == "header 'ce_subject' is not UTF-8 text"
    elif not record.key:
        assert record.defect == "no usable key"
    elif not complete:
        assert record.defect == "missing header 'ce_tenant'"
    else:
        assert record.defect == (None if subject == key else "ce_subject differs from the key")


amounts = st.decimals(allow_nan=True, allow_infinity=True) | st.builds(
    Decimal.scaleb, st.integers(-(10**12), 10**12).map(Decimal), st.integers(-40, 12)
)


@given(amounts | st.sampled_from([Decimal("0E-18"), Decimal("0E-19"), Decimal("1E-18"), Decimal("-0"), Decimal("1E+9")]))
def test_an_amount_is_usable_between_0_and_a_billion_with_18_decimals_at_most(amount: Decimal) -> None:
    exponent = amount.as_tuple().exponent
    assert usable_amount(amount) == (isinstance(exponent, int) and exponent >= -MAX_DECIMALS and 0 <= amount <= MAX_USD)


@given(st.text(alphabet="0123456789a.- ", max_size=60))
def test_a_long_number_is_seen_by_its_digits(text: str) -> None:
    value = text.encode()
    assert (_LONG_NUMBER in value.translate(_DIGITS_ALIKE)) == bool(re.search(rb"\d{19}", value))


PROPOSED: dict[str, Any] = {
    "effect_hash": "e", "effect_class": "publish", "tool_class": "keyed", "profile": "x", "mode": "sandbox", "tool": "t",
    "schema_sha256": "s", "platform": "x", "account": "a", "disclosure": "automated", "agent": "k", "input_state_version": 1,
    "salt": "s", "text_hash": "t", "simhash": "0",
}  # fmt: skip
told = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), told, max_size=4),
    st.sampled_from(["0", "-0", "1.50", "0E-20", "1e3", "1E+5", 1.5, 12]),
    st.lists(st.text(max_size=3), max_size=2),
)
def test_the_hash_of_an_effect_that_was_read_is_that_of_its_whole_dump(
    arguments: dict[str, Any], cost: str | float, assets: list[str]
) -> None:
    value = json.dumps(PROPOSED | {"arguments": arguments, "max_cost_usd": cost, "asset_hashes": assets}, ensure_ascii=False)
    effect = EffectProposal.model_validate_json(value.encode())
    assert digest(_as_read(effect)) == digest(effect_body(effect))
