"""The executor's answers: what an outcome becomes, what a look-up proves, how vain questions thin out, what a switch holds.

The rule not to break: nobody here calls anything; the sender is a list of answers.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from chimera.cli.main import main
from chimera.errors import ChimeraError
from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.state import Agent, Ref, Ruling
from chimera.mcp.profiles import Rendered, load_profiles
from chimera.mcp.records import Outcome
from chimera.mcp.results import read_result
from chimera.mcp.spec import CapabilitySpec, Find, ProfileFile
from chimera.processors import executor, inquiry
from chimera.processors.executor import Executor
from chimera.processors.jobs import Answer, Job
from chimera.processors.lookups import judge
from chimera.processors.readback import checked
from chimera.processors.sending import LONGEST_SWITCH_DEFER_MS, SUBMITTED_LEASE_MS, said
from chimera.processors.vain import LOOK_UPS, SWITCH_POLL_MS
from chimera.settings import Settings
from chimera.stack.children import environment
from tests.histories import INLINE, START, Log, artifact, planned, proposal, row, verdict

AT = {"campaign": 1, "ordinal": 1, "attempt": 1}
HELD: dict[str, Any] = {**AT, "claim": 1, "token": "t1"}
LEASE_MS = 60_000
TEXT = "a first post about tea: https://tea.example/a?b=1"
X = load_profiles(names=["x"]).by_name["x"].spec
FIND = X.capabilities["social.publish"].find
assert FIND is not None
JOBS = ProfileFile.model_validate(
    {
        "name": "jobs",
        "servers": {},
        "capabilities": {
            "video.generate": {
                "tool": "make",
                "timeout_s": 5,
                "effect_class": "paid",
                "tool_class": "at_most_once",
                "poll": "video.status",
                "result": {"require": ["url"], "submitted": {"handle": "job", "match": "queued"}},
            },
            "video.status": {
                "tool": "status",
                "timeout_s": 5,
                "inputs": {"required": ["handle"]},
                "arguments": {"job": "{handle}"},
                "effect_class": "none",
                "tool_class": "read",
                "result": {"require": ["url"], "id": "job", "refused": {"failed": "failed"}, "submitted": {"handle": "job"}},
            },
        },
    }
)


def history(tool_class: str = "reconcilable") -> Log:
    """A claimed effect."""
    effect: dict[str, Any] = {"tool_class": tool_class, "capability": "social.publish", "profile": "x", "text": TEXT}
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    made = proposal(input_version=3, **effect)
    log.add(artifact(1, 1, 1, 3, made, text=TEXT))
    log.add(verdict(log.state, 1, 1))
    claim = rec.EffectClaimed(**AT, effect_hash=made.effect_hash, claim=1, token="t1", lease_ms=LEASE_MS)
    assert log.add(claim, after=INLINE.undo_ms)[0] == "applied"
    return log


def unknown(tool_class: str = "reconcilable") -> Log:
    log = history(tool_class)
    assert log.add(rec.EffectUnknown(**AT, claim=1, token="t1", reason="timeout"))[0] == "applied"
    return log


def state(log: Log) -> Agent:
    agent: Agent | None = None
    for r in log.records:
        agent, _ = fold(log.law, agent, r)
    assert agent is not None
    return agent


class House:
    """Sender and tools of an executor over one history: answers are given, time is moved."""

    def __init__(self, log: Log, spec: CapabilitySpec | None = X.capabilities["social.publish"], *answers: Outcome) -> None:
        self.log, self.spec, self.answers = log, spec, list(answers)
        self.asked: list[str] = []
        self.read_back_at: list[int] = []
        self.now = log.now
        self.closed: set[str] = set()
        self.executor = Executor(cast("Any", self), lease_s=LEASE_MS / 1000, call_timeout_s=20)

    async def ask(self, job: Job, effect: rec.EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        self.asked.append(capability)
        return self.answers.pop(0)

    def capability(self, effect: rec.EffectProposal) -> CapabilitySpec | None:
        return self.spec

    def url_of(self, effect: rec.EffectProposal, platform_id: str) -> str | None:
        return f"https://x.example/{platform_id}"

    def switch_holds(self, reason: str) -> bool:
        return reason in self.closed

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        raise AssertionError("nothing may be sent")

    def shield(self, job: Job) -> None:
        raise AssertionError("nothing is shielded")

    def signed_by_role(self, record: Record) -> bool:
        return True

    async def say(self, job: Job, answer: Answer) -> Ruling:
        raise AssertionError("nothing is said before the answer")

    async def read(self, ref: Ref) -> Record:
        return self.log.records[ref.offset]

    async def read_back(self, ref: Ref) -> Record:
        self.read_back_at.append(ref.offset)
        return self.log.records[ref.offset]

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Any:
        raise AssertionError("it asks by the sender")

    def broker_now(self) -> int:
        return self.now

    def owed(self) -> list[Job]:
        return self.executor.due(state(self.log), self.now).jobs

    def wake(self) -> int | None:
        return self.executor.due(state(self.log), self.now).wake_at

    def do(self) -> rec.Data | None:
        """The one debt's answer."""
        (job,) = self.owed()
        answer = asyncio.run(self.executor.do(job, cast("Any", self)))
        return None if answer is None else answer.data

    def late(self, ms: int = LEASE_MS + INLINE.grace_ms) -> House:
        self.now = self.log.now + ms
        return self


ME = Outcome("ok", platform_id="42")


def listed(*items: dict[str, Any]) -> Outcome:
    return Outcome("ok", data={"meta": {"result_count": len(items)}, **({"data": list(items)} if items else {})})


def post(text: str = TEXT, at: str | None = "2023-11-14T22:13:21.000Z", id_: str = "7") -> dict[str, Any]:
    """START is 2023-11-14 22:13:20 UTC."""
    return {"id": id_, "text": text, **({"created_at": at} if at else {})}


def test_what_is_found_on_the_platform_was_executed_and_the_record_carries_the_proof() -> None:
    house = House(unknown(), X.capabilities["social.publish"], ME, listed(post("another", id_="8"), post())).late()
    found = house.do()
    assert isinstance(found, rec.EffectEnded)
    assert house.asked == ["social.me", "social.lookup"]
    assert (found.outcome, found.platform_id, found.url) == ("executed", "7", "https://x.example/7")
    assert found.proof is not None
    assert (found.proof["kind"], found.proof["platform_id"], found.proof["seen"]) == ("lookup", "7", 2)
    assert house.log.add(found, after=LEASE_MS + INLINE.grace_ms)[0] == "applied"


def test_what_is_not_there_was_not_executed_and_is_claimed_again() -> None:
    house = House(unknown(), X.capabilities["social.publish"], ME, listed()).late()
    found = house.do()
    assert isinstance(found, rec.EffectEnded)
    assert (found.outcome, found.reason) == ("not_executed", "looked up, not there")
    assert house.log.add(found, after=LEASE_MS + INLINE.grace_ms)[0] == "applied"
    (job,) = house.owed()
    assert (job.what, job.number) == ("claim", 2)


def test_vain_look_ups_thin_out_and_end_and_then_it_is_a_persons() -> None:
    down = Outcome("not_sent", reason="server_down")
    house = House(unknown(), X.capabilities["social.publish"], *[down] * 100).late()
    times = [house.now]
    for _ in range(LOOK_UPS):
        assert house.do() is None
        assert house.owed() == [], "it does not spin"
        ahead = house.wake()
        if ahead is None:
            break
        house.now = ahead
        times.append(ahead)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(house.asked) == LOOK_UPS
    assert waits == sorted(waits)
    assert waits[0] == inquiry.FIRST_LOOK_MS
    house.now += 10**9
    assert (house.owed(), house.wake()) == ([], None)


def test_a_look_up_that_a_switch_stops_is_no_try_at_all() -> None:
    stopped = Outcome("not_sent", reason="switch:fleet")
    house = House(unknown(), X.capabilities["social.publish"], *[stopped] * 50, ME, listed(post())).late()
    for _ in range(50):
        assert house.do() is None
        ahead = house.wake()
        assert ahead is not None
        assert ahead - house.now == SWITCH_POLL_MS
        house.now = ahead
    found = house.do()
    assert isinstance(found, rec.EffectEnded)


@pytest.mark.parametrize("spec", [None, X.capabilities["social.delete"].model_copy(update={"find": None})])
def test_what_no_profile_can_look_up_is_left_to_a_person_at_once(spec: CapabilitySpec | None) -> None:
    house = House(unknown(), spec).late()
    assert house.do() is None
    assert (house.owed(), house.wake(), house.asked) == ([], None, [])


@pytest.mark.parametrize(
    ("items", "limit", "outcome", "why"),
    [
        ([post("  a first post about tea: https://t.co/xyz ")], 100, "executed", ""),
        ([post("a first post about tea:&#x20;https://t.co/xyz")], 100, "executed", ""),
        ([post("a first post about coffee: https://tea.example/a?b=1")], 100, "not_executed", "looked up, not there"),
        ([post(at="2023-11-14T22:00:00Z")], 100, "not_executed", "looked up, not there"),
        ([post(at=None)], 100, None, "nobody says when"),
        ([post(at="yesterday")], 100, None, "nobody says when"),
        ([post(id_="")], 100, None, "has no id"),
        ([post("another")], 1, None, "far enough"),
        ([post("another", at=None)], 1, None, "far enough"),
        ([post("another", at="2023-11-14T22:00:00")], 1, "not_executed", "looked up, not there"),
    ],
)
def test_a_list_proves_only_what_it_shows(items: list[dict[str, Any]], limit: int, outcome: str | None, why: str) -> None:
    assert FIND is not None
    find = FIND.model_copy(update={"limit": limit})
    found = judge(find, proposal(TEXT, input_version=3), {"data": items}, START, START + 70_000)
    assert found.outcome == outcome
    assert why in found.why


@pytest.mark.parametrize(
    ("ids", "limit", "outcome", "why"),
    [
        (["30", "20", "10"], 100, "not_executed", "still there"),
        (["30", "10"], 100, "executed", "gone"),
        ([], 100, "executed", "gone"),
        (["30", "10"], 2, "executed", "gone"),
        (["40", "30"], 2, None, "far enough"),
    ],
)
def test_what_was_to_be_taken_away_is_proved_by_its_absence(ids: list[str], limit: int, outcome: str | None, why: str) -> None:
    gone = X.capabilities["social.delete"].find
    assert gone is not None
    effect = proposal(TEXT, input_version=3).model_copy(update={"arguments": {"id": "20"}})
    items = [{"id": id_, "text": "x", "created_at": "2023-11-14T22:00:00Z"} for id_ in ids]
    found = judge(gone.model_copy(update={"limit": limit}), effect, {"data": items}, START, START + 70_000)
    assert (found.outcome, found.platform_id) == (outcome, "20" if outcome == "executed" else None)
    assert why in found.why


def test_an_empty_list_may_lack_its_field_but_not_be_something_else() -> None:
    assert isinstance(FIND, Find)
    assert judge(FIND, proposal(TEXT, input_version=3), {"meta": {}}, START, START).outcome == "not_executed"
    assert judge(FIND, proposal(TEXT, input_version=3), {"data": "oops"}, START, START).outcome is None


# --- submitted -------------------------------------------------------------------------------------------------------


def submitted(lease_ms: int = 10_000) -> Log:
    log = history("at_most_once")
    assert log.add(rec.EffectSubmitted(**AT, claim=1, token="t1", handle="job-7", lease_ms=lease_ms))[0] == "applied"
    return log


def test_a_job_that_runs_is_polled_less_and_less_often_until_it_is_done() -> None:
    runs, done = Outcome("submitted", handle="job-7"), Outcome("ok", platform_id="job-7", url="https://v.example/7")
    house = House(submitted(600_000), JOBS.capabilities["video.generate"], runs, runs, Outcome("unknown"), done)
    waits = []
    for _ in range(3):
        assert house.do() is None
        ahead = house.wake()
        assert ahead is not None
        waits.append(ahead - house.now)
        house.now = ahead
    assert waits == [inquiry.FIRST_POLL_MS, 2 * inquiry.FIRST_POLL_MS, 4 * inquiry.FIRST_POLL_MS]
    found = house.do()
    assert isinstance(found, rec.EffectEnded)
    assert (found.outcome, found.token, found.proof, found.url) == ("executed", "t1", None, "https://v.example/7")
    assert house.log.add(found)[0] == "applied"


def test_a_job_that_failed_is_refused_and_one_found_after_its_lease_carries_proof() -> None:
    failed = Outcome("refused", reason="failed")
    house = House(submitted(), JOBS.capabilities["video.generate"], failed)
    found = house.do()
    assert isinstance(found, rec.EffectEnded)
    assert (found.outcome, found.token, found.reason) == ("refused", "t1", "failed")
    assert house.log.copy().add(found)[0] == "applied"
    house.log.add(rec.EffectUnknown(**AT, claim=1, reason="lease over"), after=10_000)
    house.answers = [Outcome("ok", platform_id="job-7")]
    found = house.late(INLINE.grace_ms).do()
    assert isinstance(found, rec.EffectEnded)
    assert found.token is None
    assert found.proof is not None
    assert found.proof["handle"] == "job-7"
    assert house.log.add(found, after=INLINE.grace_ms)[0] == "applied"


def test_the_profiles_rules_tell_taken_from_done_failed_and_anything_else() -> None:
    from mcp.types import CallToolResult, TextContent

    def read(capability: str, text: str, *, is_error: bool = False) -> tuple[str, str | None]:
        answer = CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)
        reading = read_result(JOBS.capabilities[capability].result, answer)
        return reading.result, reading.handle

    assert read("video.generate", '{"job": "7", "state": "queued"}') == ("submitted", "7")
    assert read("video.generate", '{"job": "7", "state": "odd"}') == ("unknown", None)
    assert read("video.generate", '{"state": "queued"}') == ("unknown", None)
    assert read("video.generate", '{"job": "7", "state": "queued"}', is_error=True) == ("unknown", None)
    assert read("video.generate", '{"job": "7", "url": "u"}') == ("ok", None)
    assert read("video.status", '{"job": "7", "state": "failed"}') == ("refused", None)
    assert read("video.status", '{"job": "7", "state": "running"}') == ("submitted", "7")


def test_a_profile_that_may_be_submitted_must_say_whom_to_ask() -> None:
    broken = JOBS.model_dump(exclude_defaults=True)
    del broken["capabilities"]["video.generate"]["poll"]
    with pytest.raises(ValueError, match="names no capability to poll"):
        ProfileFile.model_validate(broken)
    broken["capabilities"]["video.generate"]["poll"] = "video.generate"
    with pytest.raises(ValueError, match="no reading capability"):
        ProfileFile.model_validate(broken)


@pytest.mark.parametrize(
    ("outcome", "type_", "fields"),
    [
        (Outcome("ok", platform_id="1", cost_usd=Decimal(1)), rec.EffectEnded, {"outcome": "executed", "cost_usd": Decimal(1)}),
        (Outcome("refused", reason="too_long"), rec.EffectEnded, {"outcome": "refused", "reason": "too_long"}),
        (Outcome("submitted", handle="h"), rec.EffectSubmitted, {"handle": "h", "lease_ms": SUBMITTED_LEASE_MS}),
        (Outcome("submitted", handle="h" * 257), rec.EffectUnknown, {"reason": "its handle is too long to keep"}),
        (Outcome("unknown", reason="timeout"), rec.EffectUnknown, {"reason": "timeout"}),
        (Outcome("not_sent", reason="rate_limit"), rec.EffectDeferred, {"not_before": 1_000 + 2_000}),
        (Outcome("not_sent", reason="switch:fleet"), rec.EffectDeferred, {"not_before": 1_000 + 500, "reason": "switch:fleet"}),
    ],
)
def test_how_a_call_ended_is_said_in_one_record(outcome: Outcome, type_: type[rec.Data], fields: dict[str, Any]) -> None:
    ended = said(HELD, outcome, 1_000, 1)
    assert type(ended) is type_
    assert {name: getattr(ended, name) for name in fields} == fields


# --- switches --------------------------------------------------------------------------------------------------------


def test_an_effect_that_a_closed_switch_sent_back_is_not_claimed_until_it_opens() -> None:
    log = history()
    deferred = rec.EffectDeferred(**HELD, not_before=log.now + 500, reason="switch:fleet")
    assert log.add(deferred)[0] == "applied"
    house = House(log)
    house.closed = {"switch:fleet"}
    house.now = log.now + 500
    for _ in range(20):
        assert house.owed() == []
        ahead = house.wake()
        assert ahead is not None
        assert ahead - house.now <= 2_000
        house.now = ahead
    house.closed = {"switch:tenant:acme"}
    assert [job.what for job in house.owed()] == ["claim"]


def test_however_often_a_switch_closes_the_wait_after_it_opens_stays_short() -> None:
    waits = [said(HELD, Outcome("not_sent", reason="switch:fleet"), 0, claims) for claims in range(40)]
    times = [each.not_before for each in waits if isinstance(each, rec.EffectDeferred)]
    assert times == sorted(times)
    assert (len(times), times[0], times[-1]) == (40, 250, LONGEST_SWITCH_DEFER_MS)


def test_other_reasons_to_wait_are_no_switch() -> None:
    log = history()
    log.add(rec.EffectDeferred(**HELD, not_before=log.now, reason="rate_limit"))
    house = House(log)
    house.closed = {"rate_limit"}
    house.now = log.now + 10
    assert [job.what for job in house.owed()] == ["claim"]


def approved() -> tuple[Log, Job]:
    log = planned(row(1))
    log.add(rec.TaskPlanned(**AT))
    log.add(artifact(1, 1, 1, 3, proposal(input_version=3, text=TEXT), text=TEXT))
    log.add(verdict(log.state, 1, 1))
    job = next(job for job in executor.due(state(log), log.now + INLINE.undo_ms).jobs if job.what == "claim")
    return log, job


def test_what_decides_a_call_is_read_back_from_kafka_whatever_was_read_before() -> None:
    log, job = approved()
    house = House(log)
    asyncio.run(checked(cast("Any", house), job))
    assert house.read_back_at == [log.records[-2].offset, log.records[-1].offset], "the proposal and the vote"


@pytest.mark.parametrize("which", [-2, -1])
def test_no_call_is_made_when_kafka_holds_something_else_than_what_was_folded(which: int) -> None:
    log, job = approved()
    assert asyncio.run(checked(cast("Any", House(log)), job))[0] is not None
    other = replace(log.records[which], data=log.records[0].data)
    log.records[log.records.index(log.records[which])] = other
    effect, doubt = asyncio.run(checked(cast("Any", House(log)), job))
    assert effect is None
    assert doubt


class Claimant(House):
    """Its claim counts; what is called is noted. The machine may sleep between the two."""

    def __init__(self, log: Log, sleeps: Callable[[], None]) -> None:
        super().__init__(log)
        self.sleeps, self.sent = sleeps, 0

    async def say(self, job: Job, answer: Answer) -> Ruling:
        self.sleeps()
        return Ruling("applied", "", 1, 2)

    def shield(self, job: Job) -> None:
        """Nothing to keep it from here."""

    def broker_now(self) -> int:
        return self.now

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        self.sent += 1
        return Outcome("ok", platform_id="17")


def claim_and_call(monkeypatch: pytest.MonkeyPatch, slept_s: float) -> tuple[Answer | None, int]:
    now = [1_000.0]
    monkeypatch.setattr(executor, "elapsed", lambda: now[0])
    log, job = approved()
    house = Claimant(log, lambda: now.__setitem__(0, now[0] + slept_s))
    return asyncio.run(house.executor.do(job, cast("Any", house))), house.sent


def test_who_slept_longer_than_the_lease_after_its_claim_calls_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, sent = claim_and_call(monkeypatch, slept_s=3_600.0)
    assert sent == 0
    assert answer is not None
    assert isinstance(answer.data, rec.EffectDeferred)
    assert answer.data.reason == "too late within the lease"


def test_who_was_back_within_the_lease_calls_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, sent = claim_and_call(monkeypatch, slept_s=1.0)
    assert sent == 1
    assert answer is not None
    assert isinstance(answer.data, rec.EffectEnded)


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_lease_in_which_no_call_fits_is_refused_at_the_start() -> None:
    with pytest.raises(ChimeraError, match="set CHIMERA_CLAIM_LEASE_S above 22"):
        Executor(cast("Any", House(history())), lease_s=22, call_timeout_s=20)


def test_what_a_call_may_take_and_a_claim_may_hold_are_told_to_every_process_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    told = environment(Settings(call_timeout_s=5, claim_lease_s=12.5), Path("/h"))
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (Settings().call_timeout_s, Settings().claim_lease_s) == (5, 12.5)


def test_a_setting_that_is_no_number_is_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHIMERA_CALL_TIMEOUT_S", "soon")
    with pytest.raises(SystemExit):
        main(["status"])
    assert "CHIMERA_CALL_TIMEOUT_S is 'soon'" in capsys.readouterr().err
