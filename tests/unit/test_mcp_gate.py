"""The gate's guards: what stops a call before any server is looked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from chimera import failpoints
from chimera.mcp.gate import Gate
from chimera.mcp.guards import CallPlace
from chimera.mcp.limits import Breaker, RateLimits
from chimera.mcp.profiles import Profiles, Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox.serving import tool_server
from chimera.mcp.sandbox.x_tools import TOOLS
from chimera.mcp.secrets import resolve_secret
from chimera.mcp.targets import target_of
from tests.clock import Clock

PROFILES = load_profiles(names=["x", "feeds"])
NOWHERE = {"x_url": "http://127.0.0.1:9/mcp", "feeds_url": "http://127.0.0.1:9/mcp"}


def post(text: str = "hello", mode: str = "sandbox") -> Rendered:
    return PROFILES.render("social.publish", {"text": text, "disclosure_level": "none"}, platform="x", mode=mode)


def send(
    *calls: Rendered, clock: Clock | None = None, profiles: Profiles = PROFILES, **more: Any
) -> tuple[list[Outcome], list[ToolCallRecord]]:
    records: list[ToolCallRecord] = []

    async def on_call(record: ToolCallRecord) -> None:
        records.append(record)

    async def go() -> list[Outcome]:
        addresses = {**NOWHERE, "ads_url": NOWHERE["x_url"]}
        async with Gate(profiles, addresses, on_call=on_call, clock=clock or Clock(0), **more) as gate:
            return [
                await gate.send(call, agent="a", tenant="t", account="ava", idempotency_key=f"k{n}") for n, call in enumerate(calls)
            ]

    return asyncio.run(go()), records


def ends(outcomes: list[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.result, outcome.reason) for outcome in outcomes]


def test_a_server_that_is_not_there_was_not_sent_anything_and_costs_nothing() -> None:
    outcomes, records = send(post())
    assert ends(outcomes) == [("not_sent", "server_down")]
    assert [(record.result_class, record.reason, str(record.cost_usd)) for record in records] == [("not_sent", "server_down", "0")]


def test_a_dry_run_sends_nothing_and_shows_what_it_would_send() -> None:
    (outcome,), records = send(post(mode="dry_run"))
    assert (outcome.result, outcome.reason) == ("not_sent", "dry_run")
    assert outcome.data["would_send"]["arguments"] == {"text": "hello"}
    assert records[0].mode == "dry_run"


def test_a_closed_switch_and_a_short_budget_stop_a_call_and_so_do_broken_ones() -> None:
    async def short(agent: str, call: Rendered) -> str | None:
        return "nothing left"

    async def broken(agent: str, call: Rendered) -> str | None:
        raise RuntimeError("no database")

    asked: list[CallPlace] = []

    async def closed(place: CallPlace) -> str | None:
        asked.append(place)
        return "switch:platform:x"

    async def unreadable(place: CallPlace) -> str | None:
        raise RuntimeError("no topic")

    assert ends(send(post(), switch=closed)[0]) == [("not_sent", "switch:platform:x")]
    assert asked == [CallPlace("a", "t", "x", "ava", "x.createPosts")]
    assert ends(send(post(), budget=short)[0]) == [("not_sent", "budget")]
    assert ends(send(post(), budget=broken)[0]) == [("not_sent", "budget")]
    assert ends(send(post(), switch=unreadable)[0]) == [("not_sent", "switch_unreadable")]


def test_arguments_that_differ_from_the_pinned_schema_are_refused_and_another_pin_too() -> None:
    extra = replace(post(), arguments={"text": "a", "callback_url": "https://evil.example"})
    other = replace(post(), tool_schema_sha256="0" * 64)
    strange = replace(post(), tool="dropDatabase")
    outcomes, _ = send(extra, other, strange, replace(post(), mode="LIVE"))
    assert ends(outcomes) == [
        ("refused", "bad_arguments"),
        ("refused", "pinned_anew"),
        ("not_sent", "no_profile"),
        ("refused", "bad_mode"),
    ]


def test_a_call_that_was_judged_as_something_lesser_than_its_profile_says_is_refused() -> None:
    """Whoever proposes an effect writes its class and price; how many people are asked follows from them."""
    ads = load_profiles(names=["ads"])
    boost = ads.render("ads.boost", {"post_id": "1", "tier": "small", "days": 1}, platform="x")
    free, lesser = replace(boost, cost_usd=Decimal(0)), replace(boost, effect_class="publish", cost_usd=Decimal(0))
    careless, careful = replace(post(), tool_class="read"), replace(post(), tool_class="at_most_once")
    assert ends(send(free, lesser, boost, profiles=ads)[0]) == [
        ("refused", "misstated"),
        ("refused", "misstated"),
        ("not_sent", "server_down"),
    ]
    assert ends(send(careless, careful)[0]) == [("refused", "misstated"), ("not_sent", "server_down")]


def test_an_effect_cannot_go_the_way_of_reads_and_bad_inputs_are_an_outcome() -> None:
    async def go() -> list[Outcome]:
        async def on_call(record: ToolCallRecord) -> None:
            raise AssertionError("no call was made")

        async with Gate(PROFILES, NOWHERE, on_call=on_call) as gate:
            return [
                await gate.call("social.publish", {"text": "a", "disclosure_level": "none"}, agent="a", tenant="t"),
                await gate.call("social.publish", {"words": "a"}, agent="a", tenant="t"),
            ]

    assert ends(asyncio.run(go())) == [("refused", "effect_needs_send"), ("refused", "bad_arguments")]


@pytest.mark.parametrize("source", ["http://127.0.0.1:1/feed", "/etc/passwd", "examples/../pyproject.toml", "file:///etc/passwd"])
def test_a_source_inside_our_own_network_or_files_is_refused(source: str) -> None:
    async def go() -> Outcome:
        async def on_call(record: ToolCallRecord) -> None:
            assert record.reason == "egress"

        async with Gate(PROFILES, NOWHERE, on_call=on_call) as gate:
            return await gate.call("feeds.read", {"source": source}, agent="a", tenant="t")

    outcome = asyncio.run(go())
    assert (outcome.result, outcome.reason) == ("refused", "egress")


def test_calls_beyond_the_rate_wait_per_account_and_the_breaker_pauses_a_server_that_fails() -> None:
    x = PROFILES.by_name["x"]
    slow = x.spec.rates["posts"].model_copy(update={"calls": 2})
    profile = replace(x, spec=x.spec.model_copy(update={"rates": {**x.spec.rates, "posts": slow}}))

    async def go() -> list[tuple[str, str]]:
        async def on_call(record: ToolCallRecord) -> None:
            return None

        gate = Gate(replace(PROFILES, by_name={"x": profile}), NOWHERE, on_call=on_call, clock=Clock(0))
        async with gate:
            accounts = ["ava", "ava", "ava", "ben"]
            return ends([await gate.send(post(), agent="a", tenant="t", account=a, idempotency_key="k") for a in accounts])

    assert asyncio.run(go()) == [
        ("not_sent", "server_down"),
        ("not_sent", "server_down"),
        ("not_sent", "rate_limit"),
        ("not_sent", "server_down"),
    ]
    outcomes, _ = send(*[post()] * 6)
    assert ends(outcomes) == [("not_sent", "server_down")] * 5 + [("not_sent", "breaker")]


def test_a_trial_call_that_fails_doubles_the_pause() -> None:
    async def go() -> list[tuple[str, str]]:
        async def on_call(record: ToolCallRecord) -> None:
            return None

        clock = Clock(0)
        found = []
        async with Gate(PROFILES, NOWHERE, on_call=on_call, clock=clock) as gate:
            for at in (0, 0, 0, 0, 0, 4, 5, 11, 15):
                clock.now = at
                found.append(await gate.send(post(), agent="a", tenant="t", account="ava", idempotency_key="k"))
        return ends(found)

    down, paused = ("not_sent", "server_down"), ("not_sent", "breaker")
    assert asyncio.run(go()) == [down] * 5 + [paused, down, paused, down]


def test_a_trial_call_that_ends_in_an_error_of_ours_leaves_the_next_trial_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "gate.guarded=error#6")

    async def go() -> list[tuple[str, str]]:
        async def on_call(record: ToolCallRecord) -> None:
            return None

        clock = Clock(0)
        found = []
        async with Gate(PROFILES, NOWHERE, on_call=on_call, clock=clock) as gate:
            for at in (0, 0, 0, 0, 0, 5, 5):
                clock.now = at
                try:
                    found.append(await gate.send(post(), agent="a", tenant="t", account="ava", idempotency_key="k"))
                except failpoints.Injected:
                    assert at == 5
        return ends(found)

    with failpoints.armed(tmp_path, "gate"):
        assert asyncio.run(go()) == [("not_sent", "server_down")] * 6


def test_a_record_that_cannot_be_kept_does_not_take_the_outcome_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> Outcome:
        async def on_call(record: ToolCallRecord) -> None:
            raise RuntimeError("broker away")

        async with Gate(PROFILES, NOWHERE, on_call=on_call) as gate:
            return await gate.send(post(), agent="a", tenant="t", account="ava", idempotency_key="k")

    assert asyncio.run(go()).reason == "server_down"
    assert "was not kept" in caplog.text


def test_a_window_frees_its_places_one_by_one() -> None:
    clock = Clock(0)
    limits = RateLimits(clock)
    assert limits.take("a", 2, 10) == 0
    clock.now = 4
    assert limits.take("a", 2, 10) == 0
    assert limits.take("a", 2, 10) == 6
    assert limits.take("b", 2, 10) == 0
    clock.now = 10
    assert limits.take("a", 2, 10) == 0
    assert limits.take("a", 2, 10) == 4


def test_a_breaker_opens_after_five_troubles_tries_once_per_pause_and_closes_on_success() -> None:
    clock = Clock(0)
    breaker = Breaker(clock)
    for _ in range(5):
        assert breaker.begin()
        breaker.saw(trouble=True)
    assert not breaker.begin()
    clock.now = 5
    assert breaker.allows()
    assert breaker.begin()
    assert not breaker.begin()
    breaker.saw(trouble=True)
    clock.now = 14
    assert not breaker.begin()
    clock.now = 15
    assert breaker.begin()
    breaker.forget()
    assert breaker.begin()
    breaker.saw(trouble=False)
    assert breaker.closed


def test_a_missing_secret_is_named_by_its_reference(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    assert resolve_secret(f"file:{tmp_path}/key") == "s3cret"
    assert resolve_secret("env:TOKEN", {"TOKEN": "s3cret"}) == "s3cret"
    with pytest.raises(KeyError, match="env:TOKEN"):
        resolve_secret("env:TOKEN", {})
    with pytest.raises(OSError, match="file:/nowhere/at/all"):
        resolve_secret("file:/nowhere/at/all")
    with pytest.raises(ValueError, match="begin it with"):
        resolve_secret("s3cret")


def test_a_program_of_the_home_tells_a_secret_and_no_other_program_runs(tmp_path: Path) -> None:
    program = tmp_path / "vault"
    program.write_text('#!/bin/sh\n[ "$1" = ava ] && echo "s3cret of $1 $2"\n')
    program.chmod(0o700)
    assert resolve_secret("command:vault ava '; id'", programs=tmp_path) == "s3cret of ava ; id", "no shell reads the line"
    for reference, problem in (
        ("command:vault ben", "ended with 1"),
        ("command:gone", "No such file"),
        ("command:../vault ava", "without a path"),
        (f"command:{program} ava", "without a path"),
        ("command:", "without a path"),
    ):
        with pytest.raises((OSError, ValueError), match=problem):
            resolve_secret(reference, programs=tmp_path)
    with pytest.raises(ValueError, match="name a program in the home"):
        resolve_secret("command:vault ava")


def test_an_accounts_own_credential_takes_the_place_of_the_profiles_and_another_one_another_connection(tmp_path: Path) -> None:
    live = PROFILES.by_name["x"].spec.servers["live"]
    (tmp_path / "own").write_text("Bearer own\n")
    own = target_of("x", live, "ava", {"x_live_url": "https://x.example"}, tmp_path, f"file:{tmp_path}/own")
    assert own.headers == {"Authorization": "Bearer own"}
    with pytest.raises(KeyError, match="env:CHIMERA_X_AUTHORIZATION_ava"):
        target_of("x", live, "ava", {"x_live_url": "https://x.example"}, tmp_path)
    references = iter(["env:GONE_1", "env:GONE_1", "env:GONE_2"])
    asked: list[tuple[str, str | None]] = []

    def credential(agent: str, platform: str | None) -> str | None:
        asked.append((agent, platform))
        return next(references)

    async def go() -> tuple[list[str], int]:
        async def keep(record: ToolCallRecord) -> None: ...

        async with Gate(PROFILES, {"x_live_url": "http://127.0.0.1:9"}, on_call=keep, credential=credential) as gate:
            calls = [
                await gate.call("social.me", {}, agent="a", tenant="t", account="ava", platform="x", mode="live") for _ in range(3)
            ]
            return [call.detail for call in calls], len(gate.connections)

    details, connections = asyncio.run(go())
    assert asked == [("a", "x")] * 3
    assert ["env:GONE_1" in detail for detail in details] == [True, True, False]
    assert connections == 2


def test_a_switch_that_closes_while_the_call_waits_for_its_connection_still_stops_it() -> None:
    """The last question is asked when only sending is left."""
    answers = [None, "switch:fleet"]

    async def closing(place: CallPlace) -> str | None:
        return answers.pop(0)

    async def refuse(*_: Any) -> Any:
        raise AssertionError("it was sent")

    records: list[ToolCallRecord] = []

    async def on_call(record: ToolCallRecord) -> None:
        records.append(record)

    async def go() -> Outcome:
        server = tool_server("twitter-sandbox", TOOLS, refuse)
        async with Gate(PROFILES, {"x_url": server}, on_call=on_call, switch=closing) as gate:
            return await gate.send(post(), agent="a", tenant="t", account="ava", idempotency_key="k")

    outcome = asyncio.run(go())
    assert (outcome.result, outcome.reason, answers) == ("not_sent", "switch:fleet", [])
    assert [record.reason for record in records] == ["switch:fleet"]
