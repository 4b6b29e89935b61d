"""Profiles: what a capability renders to, and what answers mean."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.types import CallToolResult, TextContent

from chimera.mcp.pins import closed
from chimera.mcp.profiles import PROFILES_DIR, BadArguments, Rendered, load_profiles, read_profile
from chimera.mcp.records import argument_shape
from chimera.mcp.results import read_result, taint_of
from chimera.mcp.spec import ProfileError

PROFILES = load_profiles(names=["x", "feeds"])
POSTED = PROFILES.by_name["x"].spec.capabilities["social.publish"].result


def render(capability: str, mode: str = "sandbox", **inputs: Any) -> Rendered:
    return PROFILES.render(capability, inputs, mode=mode)


PHOTO = f"https://media.sandbox.invalid/{'a' * 64}.png"


def test_a_rendered_call_holds_all_that_will_be_sent_and_round_trips_as_json() -> None:
    rendered = render("social.reply", text="yes", in_reply_to="17", disclosure_level="automated", image_url=PHOTO)
    assert rendered.arguments == {
        "text": "yes",
        "reply": {"in_reply_to_tweet_id": "17"},
        "media": {"media_ids": [PHOTO]},
        "made_with_ai": True,
    }
    assert (rendered.tool, rendered.effect_class, rendered.tool_class) == ("createPosts", "publish", "keyed")
    assert rendered.cost_usd == Decimal(0)
    assert Rendered.from_json(rendered.to_json()) == rendered


def test_optional_inputs_that_are_absent_leave_no_trace() -> None:
    assert render("social.publish", text="a", disclosure_level="none", image_url=None).arguments == {"text": "a"}
    assert render("feeds.read", source="examples/a.xml").arguments == {"source": "examples/a.xml"}


def test_live_is_reconcilable_and_costs_where_the_sandbox_is_keyed_and_free() -> None:
    live = render("social.publish", "live", text="a", disclosure_level="none")
    assert (live.tool_class, live.cost_usd) == ("reconcilable", Decimal("0.01"))
    dry = render("social.publish", "dry_run", text="a", disclosure_level="none")
    assert (dry.tool_class, dry.cost_usd) == ("reconcilable", Decimal("0.01"))


@pytest.mark.parametrize(
    ("capability", "inputs", "says"),
    [
        ("social.publish", {"text": "a"}, "needs disclosure_level"),
        ("social.publish", {"disclosure_level": "none"}, "needs text"),
        ("social.publish", {"text": "a", "disclosure_level": "maybe"}, "cannot express"),
        ("social.publish", {"text": "a", "disclosure_level": "none", "nullcast": True}, "takes no nullcast"),
        ("social.publish", {"text": 7, "disclosure_level": "none"}, r"\$\.text: breaks type"),
        ("social.reply", {"text": "a", "in_reply_to": "../7", "disclosure_level": "none"}, "breaks pattern"),
        ("feeds.read", {"source": "a", "limit": 1000}, r"\$\.limit: breaks maximum"),
        ("wallet.transfer", {}, "no profile offers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_with_the_place(capability: str, inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(BadArguments, match=says):
        PROFILES.render(capability, inputs)


def test_a_refusal_never_quotes_contents() -> None:
    with pytest.raises(BadArguments) as refused:
        render("social.reply", text="a", in_reply_to="sentinel-4711", disclosure_level="none")
    assert "sentinel" not in str(refused.value)


def test_closing_a_schema_closes_every_listed_object_and_no_free_one() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string"}}},
            "free": {"type": "object"},
            "open": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
            "list": {"type": "array", "items": {"properties": {"c": {"default": {"properties": {}}}}}},
        },
    }
    out = closed(schema)
    assert out["additionalProperties"] is False
    assert out["properties"]["a"]["additionalProperties"] is False
    assert "additionalProperties" not in out["properties"]["free"]
    assert out["properties"]["open"]["additionalProperties"] == {"type": "string"}
    assert out["properties"]["list"]["items"]["additionalProperties"] is False
    assert out["properties"]["list"]["items"]["properties"]["c"]["default"] == {"properties": {}}


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda text: text.replace('text: "{text}"', 'text: "{txet}"'), "placeholders"),
        (lambda text: text.replace("rate: posts", "rate: unheard"), "not in rates"),
        (lambda text: text.replace("timeout_s: 20", "timeout_s: -1"), "timeout_s"),
        (lambda text: text + "\nsurprise: 1\n", "surprise"),
        (lambda text: text + "\n  - [", "profile"),
    ],
)
def test_a_broken_profile_is_named_with_the_place(break_it: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(break_it((PROFILES_DIR / "x.yaml").read_text()))
    with pytest.raises(ProfileError, match=says):
        read_profile(path)


def test_a_profile_without_pins_says_how_to_pin(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text((PROFILES_DIR / "x.yaml").read_text())
    with pytest.raises(ProfileError, match=r"python -m chimera\.mcp\.pin x"):
        load_profiles(tmp_path)


def answer(text: str, structured: Any = None, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured, is_error=is_error)


@pytest.mark.parametrize(
    ("given", "result", "reason"),
    [
        (answer('{"data": {"id": "7", "text": "a"}}'), "ok", ""),
        (answer("see data", {"data": {"id": "7", "text": "a"}}), "ok", ""),
        (answer('{"data": {"id": "7", "text": "HTTP error 403: duplicate content"}}'), "ok", ""),
        (answer('{"data": {"id": "7", "text": "a"}}', is_error=True), "unknown", "contradiction"),
        (answer('{"data": {"id": "", "text": "a"}}'), "unknown", "unrecognised_answer"),
        (answer("Error transferring the asset: timed out"), "unknown", "unrecognised_answer"),
        (answer("HTTP error 403: Forbidden - duplicate content", is_error=True), "refused", "duplicate"),
        (answer("HTTP error 403: Forbidden - duplicate content"), "refused", "duplicate"),
        (answer("HTTP error 418: Teapot", is_error=True), "refused", "refused_by_platform"),
        (answer("HTTP error 408: Timeout", is_error=True), "unknown", "unrecognised_answer"),
        (answer("HTTP error 429: Too Many Requests", is_error=True), "not_sent", "platform_rate_limit"),
        (answer("HTTP error 503: Unavailable", is_error=True), "unknown", "unrecognised_answer"),
        (answer("[1, 2]"), "unknown", "unrecognised_answer"),
        (answer(""), "unknown", "unrecognised_answer"),
    ],
)
def test_an_answer_means_what_the_rules_say_and_is_error_alone_means_nothing(
    given: CallToolResult, result: str, reason: str
) -> None:
    reading = read_result(POSTED, given)
    assert (reading.result, reading.reason) == (result, reason)


@given(st.text(), st.booleans(), st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_no_answer_makes_the_rules_raise(text: str, is_error: bool, structured: Any) -> None:
    reading = read_result(POSTED, answer(text, structured, is_error))
    assert reading.result in ("ok", "refused", "unknown", "not_sent")


def test_the_shape_of_arguments_shows_declared_keys_and_no_contents() -> None:
    schema = {
        "properties": {
            "text": {"type": "string"},
            "reply": {"type": "object", "properties": {"to": {"type": "string"}}},
            "request": {"type": "object"},
            "n": {},
        }
    }
    arguments = {"text": "secret words", "reply": {"to": "77"}, "request": {"secret": 1}, "n": True, "secret": "x"}
    assert argument_shape(arguments, schema) == {
        "text": "string[12]",
        "reply.to": "string[2]",
        "request": "object[1]",
        "n": "boolean",
        "*": "undeclared",
    }


@pytest.mark.parametrize(
    ("source", "taint"),
    [
        ("examples/a.xml", "allowlisted"),
        ("https://news.example/feed.xml", "allowlisted"),
        ("https://news.example.evil.example/feed.xml", "open"),
        ("http://news.example/feed.xml", "open"),
        ("https://other.example/", "open"),
    ],
)
def test_words_carry_the_taint_of_their_source(source: str, taint: str) -> None:
    rule = PROFILES.by_name["feeds"].spec.capabilities["feeds.read"].taint
    assert taint_of(rule, {"source": source}, ["https://news.example/"]) == taint
