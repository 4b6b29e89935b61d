"""A line of the export gives back the exact bytes of its record."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.audit import leaf, lines, partition, standalone
from chimera.audit.files import row_of
from chimera.audit.leaf import leaf_of, see
from chimera.audit.lines import ATTRIBUTES, UNREADABLE, BadLine, line, parse
from chimera.audit.partition import outcome_leaf
from chimera.events.envelope import NewRecord, SigningKey, decode, encode
from chimera.events.raw import RawRecord
from chimera.events.records import AgentStatusSet
from chimera.events.state import Ruling

RULING = Ruling("applied", "", 3, 4)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=8) | st.just("data"), json_values, max_size=4).map(orjson.dumps)
header_values = st.none() | st.binary(max_size=12) | st.text(max_size=8).map(str.encode)
headers = st.lists(st.tuples(st.sampled_from([*ATTRIBUTES, "stranger"]), header_values), max_size=16)
raws = st.builds(
    RawRecord,
    st.just("chimera.log"),
    st.integers(0, 23),
    st.integers(0, 2**40),
    st.integers(0, 4 * 10**12),
    st.none() | st.binary(max_size=12),
    st.none() | st.binary(max_size=30) | bodies | bodies.map(lambda b: b.replace(b",", b", ")) | bodies.map(lambda b: b + b"\n"),
    headers,
)


@given(raws)
def test_any_record_comes_back_as_it_was(raw: RawRecord) -> None:
    seen = see(raw)
    text = line(seen, decode(raw), RULING)
    assert b"\n" not in text
    assert partition._read(seen, text) == standalone.read_line(text)
    back, members = parse(text, "chimera.log")
    assert back == raw
    assert (members["ruling"], members["stateversion"]) == ("applied", 4)


@given(raws)
def test_both_verifiers_make_the_same_leaf_of_a_line(raw: RawRecord) -> None:
    assert standalone.leaf_of(standalone.read_line(line(see(raw), decode(raw), RULING))) == leaf_of(raw)
    assert standalone.leaf_of(standalone.read_line(line(see(raw), None, None))) == leaf_of(raw)
    hash_ = standalone.leaf_hash(leaf_of(raw))
    told = (raw.offset, hash_, RULING.outcome, RULING.reason, RULING.version)
    assert standalone.outcome_of(*told) == outcome_leaf(raw.offset, hash_, RULING)


def test_an_ordinary_record_needs_no_wire_form_and_reads_as_a_cloudevent() -> None:
    data = AgentStatusSet(command_no=1, status="paused", reason='says ,"data":{} in "quotes"')
    wire = encode(NewRecord("agent/1", data, "acme", 'kim,"data":', "2026-11-22T00:00:00Z", "id-1"), SigningKey.generate())
    raw = RawRecord("chimera.log", 3, 7, 1_700_000_000_123, wire.key.encode(), wire.value, wire.headers)
    text = line(see(raw), decode(raw), RULING)
    event = orjson.loads(text)
    assert "wire" not in event
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "AgentStatusSet", "agent/1")
    assert event["data"]["status"] == "paused"
    assert event["appendtime"] == "2023-11-14T22:13:20.123+00:00"
    assert text.endswith(b',"data":' + wire.value + b"}")
    assert parse(text, "chimera.log")[0] == raw


def test_an_unreadable_record_is_a_line_that_says_so() -> None:
    raw = RawRecord("chimera.log", 3, 7, 1, None, b"\xff", [("ce_id", b"\xff"), ("ce_id", b"2")])
    event = orjson.loads(line(see(raw), decode(raw), Ruling("void", "unreadable", 0, 0)))
    assert (event["type"], event["id"]) == (UNREADABLE, "chimera.log/3/7")
    assert event["defect"]


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"7", b'{"partition":"x"}', b"\xff"])
def test_what_is_no_line_is_named_and_never_crashes(text: bytes) -> None:
    with pytest.raises(BadLine):
        parse(text, "chimera.log")


plain_values = st.text("abc019 /:+-_~'<&", max_size=30) | st.sampled_from(['"', "\\", "\x7f", "\n", "é", "x" * 300])


@given(
    st.lists(st.sampled_from(ATTRIBUTES), unique=True).map(lambda names: sorted(names, key=ATTRIBUTES.index)),
    st.lists(plain_values.map(str.encode), min_size=len(ATTRIBUTES), max_size=len(ATTRIBUTES)),
    st.integers(0, 4 * 10**12),
    bodies,
)
def test_what_is_written_without_an_encoder_is_what_the_encoder_writes(
    names: list[str], values: list[bytes], ts: int, value: bytes
) -> None:
    headers = [(name, content) for name, content in zip(names, values, strict=False)]
    raw = RawRecord("chimera.log", 3, 7, ts, dict(headers).get("ce_subject"), value, headers)
    seen = see(raw)
    assert seen.leaf == leaf._any_leaf(raw, seen.digest)
    assert line(seen, None, RULING) == lines._any_line(seen, None, RULING)
    hash_ = standalone.leaf_hash(seen.leaf)
    assert seen.hash == hash_
    assert row_of(seen, None) == row_of(seen._replace(shape=None, contents=()), None)
