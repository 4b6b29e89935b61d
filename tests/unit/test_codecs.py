"""The wire: what is written is what is read, what is touched on the way is seen, and nothing on it makes a reader raise."""

from __future__ import annotations

import hashlib
import os
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.events import records as rec
from chimera.events.envelope import NewRecord, Record, SigningKey, decode, encode, key_id, record_id, verify
from chimera.events.hashes import canonical, digest, distance, normal_words, simhash, text_hash
from chimera.events.raw import RawRecord
from chimera.events.sealed import Sealed
from chimera.events.upcasters import BrokenChain, check_chain, upcast
from tests.histories import AGENT, INLINE, artifact, proposal, row

DEEP = bool(os.environ.get("CHIMERA_DEEP"))
PROFILE = settings(max_examples=5_000 if DEEP else 200, deadline=None, derandomize=not DEEP)
KEY, OTHER = SigningKey.from_bytes(b"k" * 32), SigningKey.from_bytes(b"o" * 32)
AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
VOTE = {
    **AT,
    "policy_edition": 1,
    "input_state_version": 3,
    "artifact_hash": "a",
    "effect_hash": None,
    "expected_output_version": 4,
    "commit_hash": "c",
}
SEALED = Sealed(subject="s", nonce="bm9uY2U=", ciphertext="Ynl0ZXM=", key_commitment="00")
EFFECT = proposal(input_version=3)
FROM_AVA = rec.Copied(source=AGENT, number=1)
CONTENT = {"text": "better"}

EXAMPLES: tuple[rec.Data, ...] = (
    rec.LawAdopted(edition=1, law=1, keys={"command": [KEY.public]}),
    rec.AgentEnrolled(command_no=1, name="ava", groups=["eu"]),
    rec.SoulAdopted(command_no=2, digest="d", soul="calm, kind"),
    rec.PolicyAdopted(command_no=3, edition=1, digest="d", editor="eve", inline=INLINE, rules="# rules"),
    rec.AccountLinked(command_no=4, platform="x", account="@ava"),
    rec.AccountUnlinked(command_no=5, platform="x"),
    rec.ToolChanged(command_no=5, platform="x", tool="x.createPosts", reason="pinned anew"),
    rec.AgentStatusSet(command_no=6, status="paused", reason="lunch"),
    rec.AllowanceSet(command_no=7, limit_usd=Decimal("10.50"), window_ms=1_000),
    rec.CampaignStarted(command_no=8, campaign_id="c", name="tea", brief={"goal": "tea", "n": 1.5}, brief_hash="b"),
    rec.BriefChanged(copied=rec.Copied(source="tenant/acme", number=1), campaign=1, edition=2, brief={}, brief_hash="b"),
    rec.CampaignStatusSet(command_no=9, campaign=1, status="cancelled"),
    rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=[row(1), row(2, depends_on=[1], criteria=[{"rule": "short"}])]),
    rec.TaskPlanned(**AT),
    rec.CampaignCompleted(campaign=1),
    rec.WorkStarted(**AT, lease_ms=60_000),
    artifact(1, 1, 1, 3, EFFECT, tags=["politics"]),
    rec.WorkFailed(**AT, reason="model down", not_before=5, cost_usd=Decimal("0.01")),
    rec.SignalObserved(
        source="x", number=1, cursor="c", items=[rec.Signal(thread="t", external_id="e", author=SEALED, text=SEALED, observed_at=1)]
    ),
    rec.JudgeVerdict(**VOTE, judge="content", decision="pass", confidence_raw=0.8, confidence=0.75, trace={"why": ["fit"]}),
    rec.HumanApproved(**VOTE, shown_hash="h"),
    rec.HumanRejected(**AT, policy_edition=1, effect_hash="e", reason_code="timing"),
    rec.HumanEdited(
        **AT, policy_edition=1, old_effect_hash="e", edit=1, artifact_hash=digest(CONTENT), content=CONTENT, effect=EFFECT
    ),
    rec.FundsAnswered(**AT, copied=rec.Copied(source="tenant/acme", number=2), answer="held"),
    rec.EffectWithdrawn(command_no=10, **AT, effect_hash="e"),
    rec.CardHoldSet(command_no=11, **AT, effect_hash="e", held=True, until=5, reason="legal looks"),
    rec.EffectClaimed(**AT, effect_hash="e", claim=1, token="t", lease_ms=1),
    rec.EffectSubmitted(**AT, claim=1, token="t", handle="job", lease_ms=1),
    rec.EffectDeferred(**AT, claim=1, token="t", not_before=0, reason="switch"),
    rec.EffectUnknown(**AT, claim=1, reason="timeout"),
    rec.EffectEnded(**AT, claim=1, outcome="executed", token="t", platform_id="p", cost_usd=Decimal("0.30")),
    rec.Expired(**AT, what="card"),
    rec.CopiesDelivered(target="tenant/acme", upto=1),
    rec.TenantCreated(command_no=1, finance=["ann", "bob"], people=2),
    rec.BudgetSet(command_no=2, scope="day", limit_usd=Decimal("10.50")),
    rec.PayeeAllowed(command_no=3, payee="0xabc"),
    rec.PayeeRemoved(command_no=4, payee="0xabc"),
    rec.AgentJoined(command_no=5, agent=AGENT, name="ava", groups=["eu"]),
    rec.AgentLeft(command_no=6, agent=AGENT),
    rec.AccountClaimed(command_no=7, agent=AGENT, platform="x", account="@ava", secret_ref="env:X"),
    rec.AccountVerified(command_no=8, platform="x", account="@ava", secret_ref="env:X", found="@ava", platform_id="7"),
    rec.AccountReleased(command_no=8, platform="x", account="@ava"),
    rec.PolicyPublished(
        command_no=9, edition=1, digest="d", editor="eve", inline=INLINE, select=rec.Selector(group="eu", share_ppm=50_000)
    ),
    rec.SoulPublished(command_no=10, edition=1, digest="d", soul="calm"),
    rec.CampaignOpened(command_no=11, campaign_id="c", name="tea", brief={"goal": "tea"}, brief_hash="b"),
    rec.CampaignChanged(command_no=12, campaign_id="c", edition=2, brief={}, brief_hash="b"),
    rec.TenantCampaignStatusSet(command_no=13, campaign_id="c", status="paused"),
    rec.FundsRequested(
        **AT, copied=FROM_AVA, campaign_id="c", effect_class="paid", effect_hash="e", amount_usd=Decimal("2.10"), payee="ads"
    ),
    rec.FundsSettled(**AT, copied=FROM_AVA, actual_usd=Decimal("1.99")),
    rec.SubjectForgotten(command_no=14, subject="s-1"),
    rec.DayOpened(day=20_000),
)


def new(data: rec.Data, **fields: str) -> NewRecord:
    """A record of `ava` by `kim`."""
    named = {"tenant": "acme", "actor": "kim", "time": "2026-01-01T00:00:00Z", "id": "id-1", "causation": "id-0", **fields}
    return NewRecord(key=AGENT, data=data, **named)


def raw(data: rec.Data, signer: SigningKey | None = KEY, **fields: str) -> RawRecord:
    """As the broker holds it."""
    wire = encode(new(data, **fields), signer)
    return RawRecord("chimera.log", 3, 17, 1_700_000_000_000, wire.key.encode(), wire.value, wire.headers)


def test_every_type_has_an_example_here() -> None:
    assert {type(data) for data in EXAMPLES} == set(rec.ALL)


@pytest.mark.parametrize("data", EXAMPLES, ids=lambda data: data.TYPE)
def test_what_is_written_is_what_is_read(data: rec.Data) -> None:
    read = decode(raw(data))
    assert (read.defect, read.data, read.hash_ok) == (None, data, True)
    assert (read.type, read.version, read.key, read.id) == (data.TYPE, data.VERSION, AGENT, "id-1")
    assert (read.tenant, read.actor, read.time) == ("acme", "kim", "2026-01-01T00:00:00Z")
    assert (read.causation, read.correlation) == ("id-0", "")
    assert (read.partition, read.offset, read.append_ts, read.signed_by) == (3, 17, 1_700_000_000_000, None)


@pytest.mark.parametrize("data", EXAMPLES, ids=lambda data: data.TYPE)
def test_written_twice_gives_the_same_bytes(data: rec.Data) -> None:
    first = encode(new(data), KEY)
    again = encode(new(type(data).model_validate_json(first.value)), KEY)
    assert again == first


@pytest.mark.parametrize("data", EXAMPLES, ids=lambda data: data.TYPE)
def test_a_field_nobody_declared_is_unreadable(data: rec.Data) -> None:
    made = raw(data)
    assert made.value is not None
    extra = made._replace(value=b'{"surprise":1,' + made.value[1:])
    assert decode(extra).defect is not None


# --- headers ---------------------------------------------------------------------------------------------------------

ONE = raw(rec.CampaignCompleted(campaign=1))
REQUIRED = ("ce_id", "ce_source", "ce_specversion", "ce_type", "ce_time", "ce_subject", "ce_tenant", "ce_schemaversion", "ce_actor")


def with_headers(**changes: bytes | None) -> RawRecord:
    """`ONE` with headers replaced, or left out where None."""
    kept = [(name, changes.get(name, content)) for name, content in ONE.headers]
    return ONE._replace(headers=[(name, content) for name, content in kept if content is not None])


@pytest.mark.parametrize("name", REQUIRED)
def test_a_record_without_a_required_header_is_unreadable(name: str) -> None:
    defect = decode(with_headers(**{name: None})).defect
    assert defect is not None
    assert name in defect


@pytest.mark.parametrize("name", [*REQUIRED, "ce_causationid", "ce_keyid", "ce_signature"])
def test_a_record_with_a_header_twice_is_unreadable(name: str) -> None:
    content = dict(ONE.headers)[name]
    for place in (0, len(ONE.headers)):
        twice = ONE._replace(headers=[*ONE.headers[:place], (name, content), *ONE.headers[place:]])
        assert decode(twice).defect == f"duplicate header {name!r}"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_header_that_is_no_text_is_unreadable(name: str) -> None:
    assert decode(with_headers(**{name: b"\xff\xfe"})).defect is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"ce_specversion": b"0.3"},
        {"ce_subject": b"agent/other"},
        {"ce_schemaversion": b"0"},
        {"ce_schemaversion": b"-1"},
        {"ce_schemaversion": b"one"},
        {"ce_schemaversion": "²".encode()},
        {"ce_schemaversion": b"1" * 5_000},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_unreadable(changes: dict[str, bytes]) -> None:
    assert decode(with_headers(**changes)).defect is not None


@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_a_key_that_is_no_text_is_unreadable(key: bytes | None) -> None:
    assert decode(ONE._replace(key=key)).defect is not None


def test_a_header_that_is_not_ours_changes_nothing() -> None:
    assert decode(ONE._replace(headers=[("x-proxy", b"eu-1"), *ONE.headers])).data == decode(ONE).data


@pytest.mark.parametrize("changes", [{"ce_type": b"FromTheFuture"}, {"ce_schemaversion": b"2"}])
def test_a_type_or_version_this_code_does_not_know_is_readable_without_data(changes: dict[str, bytes]) -> None:
    read = decode(with_headers(**changes))
    assert (read.defect, read.data) == (None, None)


# --- signatures ------------------------------------------------------------------------------------------------------


def signed(made: RawRecord, public: str = KEY.public) -> bool:
    return verify(decode(made), made, public)


def test_a_signature_verifies_under_its_own_key_only() -> None:
    assert signed(ONE)
    assert not signed(ONE, OTHER.public)
    assert not signed(raw(rec.CampaignCompleted(campaign=1), None))
    assert key_id(KEY.public) == KEY.id != OTHER.id


@pytest.mark.parametrize("name", ["ce_id", "ce_tenant", "ce_actor"])
def test_a_signature_covers_who_said_it_and_its_id(name: str) -> None:
    assert not signed(with_headers(**{name: b"other"}))


def test_a_signature_covers_the_stream_the_type_the_version_and_every_byte_of_the_value() -> None:
    assert not signed(with_headers(ce_subject=b"agent/other")._replace(key=b"agent/other"))
    assert not signed(with_headers(ce_type=b"FromTheFuture"))
    assert not signed(with_headers(ce_schemaversion=b"2"))
    assert ONE.value is not None
    assert not signed(ONE._replace(value=ONE.value + b" "))
    assert not signed(ONE._replace(value=ONE.value.replace(b"1", b"2")))


@pytest.mark.parametrize("signature", [b"", b"AAAA", b"not base64!", b"\xff", b"=" * 88, "é".encode() * 44])
def test_a_signature_that_is_none_is_not_verified_and_does_not_raise(signature: bytes) -> None:
    assert not signed(with_headers(ce_signature=signature))


@pytest.mark.parametrize("public", ["", "AAAA", "not base64!", "é"])
def test_a_public_key_that_is_none_verifies_nothing(public: str) -> None:
    assert not signed(ONE, public)


# --- hashes ----------------------------------------------------------------------------------------------------------


def test_content_and_effect_must_match_their_hashes() -> None:
    made = artifact(1, 1, 1, 3, EFFECT)
    other = made.model_copy(update={"content": {"text": "other"}})
    moved = made.model_copy(update={"effect": EFFECT.model_copy(update={"account": "@other"})})
    assert [decode(raw(data)).hash_ok for data in (made, other, moved)] == [True, False, False]


@pytest.mark.parametrize("field", sorted(set(rec.EffectProposal.model_fields) - {"effect_hash"}))
def test_the_effect_hash_covers_every_field_of_the_proposal(field: str) -> None:
    value: Any = getattr(EFFECT, field)
    changed: Any = {
        "effect_class": "paid",
        "tool_class": "at_most_once",
        "mode": "live",
        "disclosure": "none",
        "arguments": {"text": "x"},
        "asset_hashes": ["00"],
        "max_cost_usd": Decimal("0.01"),
    }.get(field, f"{value}1" if isinstance(value, str) else "t" if value is None else value if value is True else 7)
    assert changed != value
    moved = artifact(1, 1, 1, 3, EFFECT.model_copy(update={field: changed}))
    assert not decode(raw(moved)).hash_ok


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@PROFILE
@given(st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_canonical_json_does_not_depend_on_the_order_of_keys_and_survives_being_read(value: dict[str, Any]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical(backwards) == canonical(value)
    assert canonical(orjson.loads(canonical(value))) == canonical(value)


@PROFILE
@given(st.text(max_size=60))
def test_fingerprints_do_not_see_case_and_punctuation(text: str) -> None:
    assert text_hash(text) == text_hash(f"  {text} !? ")
    assert distance(simhash(text), simhash(f"{text} ...")) == 0


@PROFILE
@given(st.lists(st.sampled_from(["tea", "bread", "rises", "slowly", "in", "a", "warm", "kitchen", "Übung", "7"]), max_size=60))
def test_a_simhash_is_the_majority_of_the_bits_of_its_words(words: list[str]) -> None:
    """The definition, bit by bit: a SimHash is a storage contract, however fast it is counted."""
    text = " ".join(words)
    known = normal_words(text)
    grams = [" ".join(known[i : i + 3]) for i in range(len(known) - 2)] if len(known) >= 6 else known
    hashes = [int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big") for gram in grams]
    bits = (sum(1 if value >> bit & 1 else -1 for value in hashes) > 0 for bit in range(64))
    assert simhash(text) == sum(1 << bit for bit, held in enumerate(bits) if held)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_distance_of_simhashes_is_a_distance(a: int, b: int) -> None:
    assert distance(a, b) == distance(b, a) <= 64
    assert (distance(a, b) == 0) == (a == b)


def test_the_id_of_what_is_caused_depends_on_cause_type_and_ordinal() -> None:
    ids = [record_id(cause, type_, n) for cause in ("a", "b") for type_ in ("T", "U") for n in (0, 1)]
    assert len(set(ids)) == 8
    assert record_id("a", "T") == ids[0]


# --- anything at all -------------------------------------------------------------------------------------------------


@PROFILE
@given(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=60),
    st.lists(st.tuples(st.sampled_from([*REQUIRED, "ce_keyid", "ce_signature", ""]), st.binary(max_size=12)), max_size=14),
)
def test_no_bytes_make_decoding_or_verifying_raise(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    made = RawRecord("chimera.log", 0, 0, 0, key, value, headers)
    read = decode(made)
    assert isinstance(read, Record)
    assert not verify(read, made, KEY.public)


@settings(PROFILE, max_examples=20_000 if DEEP else 500)
@given(st.sampled_from(EXAMPLES), st.data())
def test_no_touched_byte_of_a_signed_record_goes_unnoticed(data: rec.Data, draw: st.DataObject) -> None:
    made = raw(data)
    assert made.value is not None
    at = draw.draw(st.integers(0, len(made.value) - 1))
    byte = draw.draw(st.sampled_from([b for b in range(256) if b != made.value[at]]))
    touched = made._replace(value=made.value[:at] + bytes([byte]) + made.value[at + 1 :])
    assert not signed(touched)


# --- upcasters -------------------------------------------------------------------------------------------------------


def test_the_chain_of_upcasters_has_no_hole_no_dead_end_and_no_stranger() -> None:
    class Second(rec.Data):
        TYPE, ROLE, VERSION = "Second", "planner", 3

    types = {"Second": Second}
    one, two = (lambda d: {**d, "b": 2}), (lambda d: {**d, "c": 3})
    check_chain(types, {("Second", 1): one, ("Second", 2): two})
    assert upcast("Second", 1, {"a": 1}, {("Second", 1): one, ("Second", 2): two}) == {"a": 1, "b": 2, "c": 3}
    for broken in ({("Second", 1): one}, {("Second", 1): one, ("Second", 2): two, ("Second", 3): two}, {("Nobody", 1): one}):
        with pytest.raises(BrokenChain):
            check_chain(types, broken)
