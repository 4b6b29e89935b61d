"""Histories for the fold's tests: by hand (`Log`, proposals, votes) and at random (several writers, some of them late or wrong).

A random history is read from a list of small integers, so that Hypothesis can shrink it. Every writer looks at the state as it
is now or as it was a while ago (a zombie), writes what its role would, and now and then somebody appends an old record again,
spoils a number, a hash or a signature, or sends bytes that nobody can read. The rule not to break: nothing here knows the real
fold; what is plausible is read from the slow one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.hashes import commit_hash, digest, simhash, text_hash
from chimera.events.state import Law
from tests.slowfold import base as slow
from tests.slowfold import slow_step

AGENT = "agent/11111111-1111-4111-8111-111111111111"
KEY = "c0ffee0000000001"
"""Key id of the command service in these histories."""
LAW = Law(number=1, edition=1, keys={"command": frozenset([KEY])})
START = 1_700_000_000_000
PEOPLE = ("ann", "bob", "cyd", "dee", "eve")
INLINE = rec.PolicyInline(
    approvers={"publish": ["ann", "bob", "cyd"], "paid": ["ann", "bob", "cyd"], "financial": ["ann", "bob", "cyd"]},
    sensitive_tags=["politics"],
    undo_ms=100,
    expiry_ms=5_000,
    lapse_ms=5_000,
    grace_ms=50,
)


def record(
    data: rec.Data, offset: int, ts: int, *, actor: str = "svc", id_: str | None = None, signed_by: str | None = None
) -> Record:
    """A decoded, verified record, as the fold sees it."""
    command = data.ROLE in ("command", "courier") or getattr(data, "copied", None) is not None or getattr(data, "command_no", 0) > 0
    return Record(
        topic="chimera.log",
        partition=0,
        offset=offset,
        append_ts=ts,
        key=AGENT,
        id=id_ or f"id-{offset}",
        type=data.TYPE,
        version=data.VERSION,
        tenant="acme",
        actor=actor,
        time="2026-01-01T00:00:00Z",
        causation="",
        correlation="",
        data=data,
        signed_by=signed_by if signed_by is not None else (KEY if command else None),
    )


def proposal(
    text: str = "a first post about tea",
    *,
    input_version: int,
    effect_class: str = "publish",
    tool_class: str = "keyed",
    thread: str | None = None,
    cost: Decimal = Decimal(0),
    platform: str = "x",
    account: str = "@ava",
    agent: str = AGENT,
    not_before: int = 0,
    **other: Any,
) -> rec.EffectProposal:
    """An effect whose hash agrees with its body."""
    body: dict[str, Any] = {
        "effect_hash": "",
        "effect_class": effect_class,
        "tool_class": tool_class,
        "profile": "x-social",
        "mode": "sandbox",
        "tool": "post",
        "schema_sha256": "0" * 64,
        "arguments": {"text": text},
        "platform": platform,
        "account": account,
        "thread": thread,
        "not_before": not_before,
        "max_cost_usd": cost,
        "disclosure": "automated",
        "agent": agent,
        "input_state_version": input_version,
        "salt": "s",
        "text_hash": text_hash(text),
        "simhash": f"{simhash(text):016x}",
        **other,
    }
    blank = rec.EffectProposal.model_validate(body)
    return blank.model_copy(update={"effect_hash": digest(rec.effect_body(blank))})


def artifact(
    campaign: int,
    ordinal: int,
    attempt: int,
    input_version: int,
    effect: rec.EffectProposal | None = None,
    *,
    text: str = "a first post about tea",
    confidence: float | None = 0.95,
    taint: str = "owner",
    tags: Sequence[str] = (),
    cost: Decimal = Decimal(0),
) -> rec.ArtifactProduced:
    """A worker's answer whose artifact hash agrees with its content."""
    content = {"text": text}
    return rec.ArtifactProduced(
        campaign=campaign,
        ordinal=ordinal,
        attempt=attempt,
        input_state_version=input_version,
        kind="post",
        artifact_hash=digest(content),
        content=content,
        confidence_score=confidence,
        risk_tags=list(tags),
        taint=taint,
        cost_usd=cost,
        effect=effect,
    )


def vote_fields(campaign: int, ordinal: int, attempt: int, s: slow.State) -> dict[str, Any]:
    """What a vote on this attempt must name, read from the slow state."""
    t = s["campaigns"][campaign]["tasks"][ordinal]
    e = t["effect"]
    effect_hash = e["proposal"].effect_hash if e else None
    return {
        "campaign": campaign,
        "ordinal": ordinal,
        "attempt": attempt,
        "policy_edition": s["policy"]["edition"],
        "input_state_version": t["input"],
        "artifact_hash": t["artifact"]["hash"],
        "effect_hash": effect_hash,
        "edit": e["edit"] if e else 0,
        "expected_output_version": s["version"] + 1,
        "commit_hash": commit_hash(s["key"], f"{campaign}.{ordinal}", t["input"], t["artifact"]["hash"], effect_hash),
    }


def verdict(
    s: slow.State,
    campaign: int,
    ordinal: int,
    attempt: int = 1,
    *,
    confidence: float | None = 0.95,
    judge: str = "content",
    **other: Any,
) -> rec.JudgeVerdict:
    """A judge's vote on the attempt as the slow state has it."""
    fields = {"decision": "pass", "confidence_raw": confidence, **other}
    return rec.JudgeVerdict(judge=judge, confidence=confidence, **{**vote_fields(campaign, ordinal, attempt, s), **fields})


class Log:
    """One agent's history, folded slowly while it is written."""

    def __init__(self, law: Law = LAW) -> None:
        self.law = law
        self.records: list[Record] = []
        self.answers: list[tuple[str, str, int]] = []
        self.states: list[slow.State | None] = [None]
        self.now = START

    @property
    def state(self) -> slow.State:
        """The slow fold's state now."""
        state = self.states[-1]
        assert state is not None, "no agent yet"
        return state

    def copy(self) -> Log:
        """A log that may go on by itself."""
        other = Log(self.law)
        other.records, other.answers, other.states, other.now = list(self.records), list(self.answers), list(self.states), self.now
        return other

    def add(self, data: rec.Data, *, after: int = 1, actor: str = "svc", **how: Any) -> tuple[str, str, int]:
        """Append a record `after` milliseconds; the slow ruling."""
        return self.add_record(record(data, len(self.records), self.now + after, actor=actor, **how))

    def add_record(self, r: Record) -> tuple[str, str, int]:
        """Append a record as it is."""
        self.now = max(self.now, r.append_ts)
        state, answer = slow_step(self.law, self.states[-1], r)
        self.records.append(r)
        self.answers.append(answer)
        self.states.append(state)
        return answer

    def command(self, model: Callable[..., rec.Data], *, after: int = 1, actor: str = "kim", **fields: Any) -> tuple[str, str, int]:
        """Append a command with the next command number."""
        state = self.states[-1]
        number = (state["command_no"] if state else 0) + 1
        return self.add(model(command_no=number, **fields), after=after, actor=actor)


def row(ordinal: int, **fields: Any) -> rec.PlanRow:
    """A plan row that reads the brief only."""
    return rec.PlanRow(**{"ordinal": ordinal, "kind": "post", "reads": ["brief/1"], **fields})


def agent_with_policy(inline: rec.PolicyInline = INLINE, law: Law = LAW) -> Log:
    """An agent with soul, policy, account and allowance: version 3."""
    log = Log(law)
    log.command(rec.AgentEnrolled, name="ava")
    log.command(rec.SoulAdopted, digest="d", soul="calm")
    log.command(rec.PolicyAdopted, edition=1, digest="p1", editor="eve", inline=inline)
    log.command(rec.AccountLinked, platform="x", account="@ava")
    log.command(rec.AllowanceSet, limit_usd=Decimal(10), window_ms=1_000_000)
    return log


def planned(*rows: rec.PlanRow, inline: rec.PolicyInline = INLINE, law: Law = LAW) -> Log:
    """A running campaign (requested by `dee`) with this plan; none of it open."""
    log = agent_with_policy(inline, law)
    log.command(rec.CampaignStarted, actor="dee", campaign_id="c-1", name="tea", brief={"goal": "tea"}, brief_hash="b1")
    log.add(rec.PlanDrafted(campaign=1, round=1, brief_edition=1, rows=list(rows) or [row(1)]))
    return log


# --- at random -------------------------------------------------------------------------------------------------------

Move = Callable[[], tuple[str, rec.Data]]
"""Makes (actor, record): lazily, since most moves are never taken."""

CONFIDENCES = (0.95, 0.97, 0.99, 0.92, 0.9000001, 0.90, 0.80, 0.7000001, 0.70, 0.69, 0.0, 1.0, 1.5, -1.0, None)
STEPS_MS = (1, 1, 5, 20, 110, 120, 260, 1_000, 5_200, -3)
UNREAD: Any = None
"""A sealed text that no rule looks into."""
TEXTS = ("a first post about tea", "tea is warm and kind today", "nine ways to brew a cup of green leaves", "why we wait")


def _rows(s: slow.State, c: slow.State, n: int) -> list[rec.PlanRow]:
    first, rows = c["next_ordinal"], []
    for i in range(1 + n % 4):
        variant = (n >> (2 * i)) % 8
        reads = {0: [], 1: ["soul"], 2: ["thread/a"], 3: ["thread/b", "soul"], 4: ["account/x"], 5: ["policy"]}.get(
            variant, [f"brief/{c['number']}"]
        )
        rows.append(
            rec.PlanRow(
                ordinal=first + i,
                kind="post" if variant != 6 else "strict",
                reads=reads,
                depends_on=[first + i - 1] if i and variant % 2 else [],
                costly=variant == 3,
                max_cost_usd=Decimal("1.5") if variant in (3, 6) else Decimal(0),
                wait_ms=30 if variant == 5 else 0,
            )
        )
    return rows


def _task_moves(s: slow.State, c: slow.State, t: slow.State, n: int) -> list[Move]:
    at = {"campaign": c["number"], "ordinal": t["ordinal"], "attempt": t["attempt"]}
    e = t["effect"]
    moves: list[Move] = []
    say = moves.append
    ready = all(dep in c["done"] for dep in t["row"].depends_on) and (n % 8 == 0 or not slow.agent_held(s))
    if (ready and t["status"] == "planned" and c["status"] == "running") or (slow.is_stale(s, c, t) and not (e and e["committed"])):
        say(lambda: ("planner", rec.TaskPlanned(**{**at, "attempt": t["attempt"] + 1})))
    if t["status"] == "open":
        text = (
            TEXTS[n % len(TEXTS)]
            if n % 3 == 0
            else f"note {c['number']} {t['ordinal']} {t['attempt']} {n % 11} on leaves and water"
        )
        if t["row"].costly and t["started_until"] is None:
            say(lambda: ("worker", rec.WorkStarted(**at, lease_ms=100)))
        say(lambda: ("worker", _artifact(t, at, text, n)))
        say(lambda: ("worker", _artifact(t, at, text, n // 7)))
        if n % 4 == 0:
            say(lambda: ("worker", rec.WorkStarted(**at, lease_ms=100)))
            say(lambda: ("worker", rec.WorkFailed(**at, reason="model down", cost_usd=Decimal("0.2"))))
            say(lambda: ("worker", rec.WorkFailed(**at, reason="wait", not_before=START + n % 5_000)))
            say(lambda: ("sweeper", rec.WorkFailed(**at, reason="lost", lost=True, needless=n % 8 == 0)))
        if n % 61 == 0:
            say(lambda: ("worker", rec.WorkFailed(**at, reason="nobody asks", needless=True)))
    if t["status"] != "produced":
        return moves
    confidence = CONFIDENCES[n // 7 % len(CONFIDENCES)] if n % 5 < 2 else 0.96
    votes = vote_fields(at["campaign"], at["ordinal"], at["attempt"], s)
    decision = ("pass", "pass", "pass", "pass", "pass", "people", "people", "fail")[n // 16 % 8]
    tags = [tag for tag, every in (("politics", 7), ("tea", 5)) if n % every == 0]

    def judge(name: str) -> Move:
        return lambda: (
            "judge",
            rec.JudgeVerdict(**votes, judge=name, decision=decision, confidence_raw=confidence, confidence=confidence, tags=tags),
        )

    if e is None:
        return [*moves, judge("content")]
    person = PEOPLE[n % len(PEOPLE)]
    if e["status"] in ("proposed", "people"):
        say(judge("content"))
        if e["proposal"].effect_class != "publish" or n % 9 == 0:
            say(judge("cfo"))
        if e["funds"] in ("asked", "over_budget"):
            answer = ("held", "held", "held", "over_budget", "payee")[n % 5]
            copy_no = s["copies_in"].get("tenant/acme", 0) + 1
            copied = rec.Copied(source="tenant/acme", number=copy_no)
            reason = "new_payee" if n % 6 == 1 else ""
            say(lambda: ("courier", rec.FundsAnswered(**at, copied=copied, answer=answer, reason=reason)))
    if e["status"] == "people":
        say(lambda: (person, rec.HumanApproved(**votes, shown_hash="h")))
        say(lambda: (PEOPLE[(n + 1) % 3], rec.HumanApproved(**votes, shown_hash="h")))
        say(lambda: (person, _edit(s, t, at, e, n)))
        if n % 5 == 0:
            say(
                lambda: (
                    person,
                    rec.HumanRejected(
                        **at,
                        policy_edition=votes["policy_edition"],
                        effect_hash=votes["effect_hash"],
                        edit=e["edit"],
                        reason_code="other",
                    ),
                )
            )
            say(lambda: ("planner", rec.Expired(**at, what="card")))
        if n % 4 == 1:
            mark = {"effect_hash": votes["effect_hash"], "edit": e["edit"], "held": n % 3 > 0, "until": n % 9_000 - 9}
            say(lambda: (person, rec.CardHoldSet(**at, **mark, command_no=s["command_no"] + 1)))
    if e["status"] == "approved":
        claim = {"effect_hash": votes["effect_hash"], "claim": e["claim"] + 1, "token": f"tok-{n}", "lease_ms": 200}
        say(lambda: ("executor", rec.EffectClaimed(**at, **claim)))
        say(lambda: ("executor", rec.EffectClaimed(**at, **claim)))
        if n % 3 == 0:
            say(lambda: ("planner", rec.Expired(**at, what="approval")))
            withdrawn = {"effect_hash": votes["effect_hash"], "command_no": s["command_no"] + 1}
            say(lambda: ("kim", rec.EffectWithdrawn(**at, **withdrawn)))
    if e["status"] in slow.IN_FLIGHT or (e["tokens"] and n % 5 == 0):
        held = {"claim": e["claim"], "token": e["tokens"].get(e["claim"], "none")}
        if n % 3 == 0:
            say(lambda: ("executor", rec.EffectEnded(**at, **held, outcome="executed", platform_id="p1", cost_usd=Decimal("0.3"))))
        if n % 4:
            say(lambda: ("executor", rec.EffectSubmitted(**at, **held, handle="job", lease_ms=300)))
            say(lambda: ("executor", rec.EffectDeferred(**at, **held, not_before=START + n % 3_000, reason="switch")))
            say(
                lambda: (
                    "executor",
                    rec.EffectUnknown(**at, claim=e["claim"], token=None if n % 3 else held["token"], reason="timeout"),
                )
            )
            say(lambda: ("executor", rec.EffectEnded(**at, **held, outcome="refused", reason="policy of the platform")))
        for outcome in ("not_executed", "not_executed", "executed", "refused")[: 2 if n % 3 else 4]:
            proof = {"claim": e["claim"], "outcome": outcome, "proof": {"looked": "up"}}
            number = s["command_no"] + 1 if n % 4 == 0 else 0
            say(
                lambda proof=proof, number=number: (
                    "kim" if number else "executor",
                    rec.EffectEnded(**at, **proof, command_no=number),
                )
            )
        first = min(e["tokens"], default=0)
        if first and first != e["claim"]:
            say(lambda: ("zombie", rec.EffectEnded(**at, claim=first, token=e["tokens"][first], outcome="executed")))
    return moves


def _artifact(t: slow.State, at: dict[str, int], text: str, n: int) -> rec.ArtifactProduced:
    kind = ("publish", "publish", "none", "paid", "financial", "publish")[n % 6]
    effect = None
    if kind != "none":
        effect = proposal(
            text,
            input_version=t["input"],
            effect_class=kind,
            thread=(None, "a", "b")[n // 6 % 3],
            cost=Decimal(2) if kind != "publish" or n % 8 == 0 else Decimal(0),
            account="@ava" if n % 23 else "@other",
        )
    confidence = 0.95 if n % 19 else CONFIDENCES[n // 19 % len(CONFIDENCES)]
    taint = ("owner", "owner", "allowlisted", "open")[n // 4 % 4]
    cost = Decimal("0.4") if t["row"].max_cost_usd else Decimal(0)
    tags = ["politics"] if n % 13 == 0 else []
    return artifact(
        at["campaign"],
        at["ordinal"],
        at["attempt"],
        t["input"],
        effect,
        text=text,
        confidence=confidence,
        taint=taint,
        cost=cost,
        tags=tags,
    )


def _edit(s: slow.State, t: slow.State, at: dict[str, int], e: slow.State, n: int) -> rec.HumanEdited:
    old = e["proposal"]
    text = f"better words {n} for leaves"
    new = proposal(
        text,
        input_version=t["input"],
        effect_class=old.effect_class,
        tool_class=old.tool_class,
        thread=old.thread if n % 11 else "other",
        cost=old.max_cost_usd,
        account=old.account,
    )
    content = {"text": text}
    return rec.HumanEdited(
        **at,
        policy_edition=s["policy"]["edition"],
        old_effect_hash=old.effect_hash,
        edit=e["edit"] + 1,
        artifact_hash=digest(content),
        content=content,
        effect=new,
    )


def debts(s: slow.State, n: int) -> list[Move]:
    """What the roles owe this agent as they see it."""
    moves: list[Move] = []
    own = {"command_no": s["command_no"] + 1}
    if s["quarantined"]:
        moves += [lambda: ("kim", rec.AgentStatusSet(**own, status="released"))] * 3
    if s["status"] == "paused":
        moves += [lambda: ("kim", rec.AgentStatusSet(**own, status="active"))] * 3
    if s["accounts"].get("x") != "@ava":
        moves += [lambda: ("kim", rec.AccountLinked(**own, platform="x", account="@ava"))]
    for c in s["campaigns"].values():
        number = c["number"]
        if c["status"] == "paused":
            moves += [lambda number=number: ("kim", rec.CampaignStatusSet(**own, campaign=number, status="running"))]
        if c["planned_edition"] != c["edition"]:
            plan = {"campaign": number, "round": c["round"] + 1, "brief_edition": c["edition"]}
            moves.append(lambda c=c, plan=plan: ("planner", rec.PlanDrafted(**plan, rows=_rows(s, c, n))))
        elif not c["tasks"]:
            moves.append(lambda number=number: ("planner", rec.CampaignCompleted(campaign=number)))
        if s["heard"] and c["planned_edition"] == c["edition"] and c["status"] != "cancelled":
            plan = {"campaign": number, "round": c["round"] + 1, "brief_edition": c["edition"], "answers": 1 + n % s["heard"]}
            moves.append(lambda c=c, plan=plan: ("planner", rec.PlanDrafted(**plan, rows=_rows(s, c, n))))
        for t in c["tasks"].values():
            moves += _task_moves(s, c, t, n)
    return moves


def commands(s: slow.State, n: int) -> list[Move]:
    """What operators, tenants and the outside world may do at any time."""
    numbers = list(s["campaigns"]) or [1]
    number = numbers[n % len(numbers)]
    edition = (s["policy"]["edition"] if s["policy"] else 0) + 1
    if n % 3 == 0:
        space: dict[str, Any] = {"copied": rec.Copied(source="tenant/acme", number=s["copies_in"].get("tenant/acme", 0) + 1)}
    else:
        space = {"command_no": s["command_no"] + 1}
    own = {"command_no": s["command_no"] + 1}
    inline = INLINE.model_copy(
        update={
            "shadow": n % 17 == 0,
            "probation": rec.Probation(
                decisions=n % 4, overrides_ppm=(0, 333_333, 500_000)[n % 3], demote_above_ppm=500_000, window=2 + n % 5
            )
            if n % 3
            else None,
            "strict_kinds": ["strict"],
            "frequency": {"x": rec.Frequency(claims=1 + n % 2, window_ms=20_000)} if n // 5 % 3 else {},
            "auto_financial_usd": Decimal(5) if n % 4 == 0 else Decimal(0),
            "amount_tiers": [rec.AmountTier(amount_usd=Decimal(2), people=2)] if n % 7 == 0 else [],
            "audit_sample_ppm": 1_000_000 if n % 13 == 0 else 0,
            "platform_thresholds": {"x": rec.Threshold(approve_above=0.96)} if n % 5 == 0 else {},
            "tag_thresholds": {"tea": rec.Threshold(approve_above=0.97, people_from=0.92)} if n % 2 == 0 else {},
        }
    )
    c = s["campaigns"].get(number)
    named = {"campaign_id": c["id"] if c else "none"} if "copied" in space else {"campaign": number}
    item = rec.Signal.model_construct(thread="ab"[n % 2], external_id="e", author=UNREAD, text=UNREAD, observed_at=1, taint="open")
    owed = s["owed_no"].get("tenant/acme", 0)
    more = {"name": "more", "brief": {}, "brief_hash": "b", "listens_until": START + 9_000 if n % 5 == 0 else 0}
    return [
        lambda: ("kim", rec.AgentStatusSet(**own, status="paused")),
        lambda: ("kim", rec.AgentStatusSet(**own, status="active")),
        lambda: ("kim", rec.AgentStatusSet(**own, status="released")),
        lambda: ("kim", rec.CampaignStatusSet(**space, **named, status=("paused", "running")[n // 2 % 2])),
        lambda: (
            "kim",
            rec.BriefChanged(**space, **named, edition=(c["edition"] if c else 1) + 1, brief={}, brief_hash="b"),
        ),
        lambda: ("kim", rec.SoulAdopted(**space, digest="s", soul="still calm")),
        lambda: ("kim", rec.PolicyAdopted(**space, edition=edition, digest="p", editor="eve", stales=n % 2 == 0, inline=inline)),
        lambda: ("kim", rec.AccountLinked(**space, platform="x", account="@ava", secret_ref=("", "env:X")[n % 2])),
        lambda: ("kim", rec.CampaignStarted(**space, campaign_id=f"c-{n % 5}", **more)),
        lambda: (
            "worker",
            rec.SignalObserved.model_construct(source="x", number=s["signals"].get("x", 0) + 1, cursor="c", items=[item]),
        ),
        lambda: ("courier", rec.CopiesDelivered(target="tenant/acme", upto=owed)),
        lambda: ("kim", rec.AllowanceSet(**space, limit_usd=Decimal(n % 9), window_ms=3_000)),
        lambda: ("kim", rec.CampaignStatusSet(**space, **named, status="cancelled" if n % 4 == 0 else "paused")),
        lambda: ("kim", rec.AccountUnlinked(**space, platform="x")),
        lambda: ("kim", rec.ToolChanged(**own, platform=("x", "y")[n % 2], tool="x.createPosts")),
        lambda: ("kim", rec.AgentStatusSet(**own, status="retired" if n % 9 == 0 else "paused")),
    ]


NUMBERS = (
    "command_no",
    "campaign",
    "ordinal",
    "attempt",
    "claim",
    "round",
    "edition",
    "edit",
    "policy_edition",
    "brief_edition",
    "number",
    "upto",
)
NAMES = ("token", "effect_hash", "artifact_hash", "old_effect_hash", "commit_hash")


def spoil(data: rec.Data, n: int) -> rec.Data:
    """The same record with one number off by one or two, or one name that is not the right one."""
    fields = [f for f in NUMBERS if hasattr(data, f)] + [f for f in NAMES if getattr(data, f, None)]
    if getattr(data, "copied", None) is not None:
        fields.append("copied")
    if not fields:
        return data
    name = fields[n % len(fields)]
    value: Any = getattr(data, name)
    shift = (-1, 1, 2, -2)[n // 16 % 4]
    if name == "copied":
        value = value.model_copy(update={"number": value.number + shift})
    elif name in NAMES:
        value = f"not-{value}"
    else:
        value = max(0, value + shift)
    return data.model_copy(update={name: value})


Step = tuple[int, int, int, int]
"""(what happens, who sees how old a state, which move, how long it took): small integers."""


def play(log: Log, steps: Sequence[Step]) -> Log:
    """Go on with a log: each step is one record by somebody."""
    for what, age, n, pace in steps:
        _play_one(log, what, age, n, pace)
    return log


def _play_one(log: Log, what: int, age: int, n: int, pace: int) -> None:
    ts, offset = max(START, log.now + STEPS_MS[pace % len(STEPS_MS)]), len(log.records)
    kind = what % 20
    if kind == 19 and n % 4 == 0:
        broken = replace(log.records[n % offset], data=None, offset=offset, append_ts=ts, id=f"id-{offset}")
        log.add_record(replace(broken, defect="no value") if n % 8 == 0 else replace(broken, type="FromTheFuture"))
        return
    if kind in (17, 18):  # a late copy of any record
        log.add_record(replace(log.records[n % offset], offset=offset, append_ts=ts))
        return
    seen = log.states[-1 - age % 3] if kind == 16 and len(log.states) > 6 else log.states[-1]
    s = seen if seen is not None else log.state
    moves = commands(s, n) if kind == 14 or (kind == 13 and n % 3 == 0) else debts(s, n) or commands(s, n)
    actor, data = moves[(n // 3 + age) % len(moves)]()
    if kind in (15, 19):
        data = spoil(data, n + age)
    made = record(data, offset, ts, actor=actor)
    if kind == 15 and n % 6 == 0:
        made = replace(made, hash_ok=False) if n % 12 == 0 else replace(made, signed_by=None)
    log.add_record(made)
