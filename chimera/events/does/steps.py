"""Moves that several records share: writing aspects, ending attempts, closing tasks, gates, money.

The rule not to break: only the fold calls these; each keeps the indexes (`readers`, `open_tasks`) true.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from chimera.events.envelope import Record
from chimera.events.state import ZERO, Agent, Campaign, Change, Done, Effect, Owed, Ref, Task

UNCLAIMED = frozenset(("proposed", "people", "approved"))
IN_FLIGHT = frozenset(("claimed", "submitted", "unknown"))
MAX_USD = Decimal(10**9)
MAX_DECIMALS = 18


def ref(r: Record) -> Ref:
    """Coordinates of a record."""
    return Ref(r.partition, r.offset)


def usable_amount(amount: Decimal) -> bool:
    """Between 0 and a billion dollars, with at most 18 decimals: sums of such amounts are exact."""
    if not amount.is_finite() or not ZERO <= amount <= MAX_USD:
        return False
    text = str(amount)
    if len(text) <= MAX_DECIMALS and "E" not in text:
        return True  # so few digits hold no more decimals: asking for the exponent makes a tuple of all digits
    exponent = amount.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -MAX_DECIMALS


def usable_confidence(confidence: float | None) -> bool:
    """A number in [0, 1]; NaN compares false with everything."""
    return confidence is not None and 0.0 <= confidence <= 1.0


def write(agent: Agent, aspects: Iterable[str], own: tuple[int, int] | None = None) -> None:
    """Raise the version and mark the open tasks that read one of the aspects (law, rule 3); a task's own writes never count."""
    agent.version += 1
    for aspect in (*aspects, "*"):
        for place in agent.readers.get(aspect, ()):
            if place != own:
                agent.campaigns[place[0]].tasks[place[1]].conflict_at = agent.version


def settle_holds(agent: Agent, now: int) -> None:
    """Start or stop each campaign's clock of held time after a gate moved."""
    for c in agent.campaigns.values():
        if agent.held or c.status == "paused":
            c.held_since = c.held_since or max(1, now)
        elif c.held_since:
            c.held_ms += max(0, now - c.held_since)
            c.held_since = 0


def gate(agent: Agent, c: Campaign) -> str:
    """Why nothing new may begin in this campaign now, or ""."""
    return "paused" if agent.held or c.status != "running" else ""


# --- money for work --------------------------------------------------------------------------------------------------


def allowance_left(agent: Agent, now: int) -> Decimal:
    """What may still be reserved in the window of `now`."""
    a = agent.allowance
    if a is None:
        return ZERO
    return a.limit - (a.used if now < a.window_start + a.window_ms else ZERO)


def reserve(agent: Agent, t: Task, now: int) -> bool:
    """Reserve the task's cost in the current window; False if there is not enough."""
    a = agent.allowance
    if t.max_cost > ZERO and allowance_left(agent, now) < t.max_cost:
        return False
    if a is not None:
        if now >= a.window_start + a.window_ms:
            a.window_start, a.used = now // a.window_ms * a.window_ms, ZERO
        a.used += t.max_cost
        t.reserved, t.reserved_window = t.max_cost, a.window_start
    return True


def settle_work(agent: Agent, t: Task, actual: Decimal) -> None:
    """Turn the reservation into what was spent, in the window it was reserved in."""
    a = agent.allowance
    if a is not None and a.window_start == t.reserved_window:
        a.used += actual - t.reserved
    t.reserved = ZERO


def ask_funds(agent: Agent, c: Campaign, t: Task, e: Effect, out: list[Change]) -> None:
    """The tenant's stream is owed the request for what the effect may cost, before anybody is shown it."""
    e.funds = "asked"
    asks = Owed(0, "FundsRequested", c.number, t.ordinal, t.attempt, e.max_cost, c.campaign_id, e.effect_class, e.hash, e.payee)
    _owe(agent, asks)
    out.append(Change("funds", c.number, t.ordinal, t.attempt, "asked", "", str(e.max_cost)))


def settle_funds(agent: Agent, c: Campaign, t: Task, actual: Decimal, out: list[Change]) -> None:
    """The tenant's stream is owed what the attempt really cost, whatever came back to the request."""
    _owe(agent, Owed(0, "FundsSettled", c.number, t.ordinal, t.attempt, actual))
    out.append(Change("funds", c.number, t.ordinal, t.attempt, "settled", "", str(actual)))


def _owe(agent: Agent, copy: Owed) -> None:
    target = f"tenant/{agent.tenant}"
    number = agent.owed_no[target] = agent.owed_no.get(target, 0) + 1
    agent.owed.setdefault(target, []).append(copy._replace(number=number))


# --- attempts and tasks ----------------------------------------------------------------------------------------------


def open_attempt(agent: Agent, c: Campaign, t: Task, attempt: int, now: int) -> None:
    """The attempt is open for work, reading the agent as it is now."""
    t.attempt, t.status, t.wait_reason = attempt, "open", ""
    t.input_state_version, t.conflict_at = agent.version, 0
    t.opened_ts, t.start_until = now, 0
    agent.open_tasks += 1
    t.strict = agent.policy is not None and t.kind in agent.policy.inline.strict_kinds
    for aspect in t.aspects:
        agent.readers.setdefault(aspect, set()).add((c.number, t.ordinal))


def end_attempt(
    agent: Agent, c: Campaign, t: Task, effect_status: str, reason: str, out: list[Change], actual: Decimal = ZERO
) -> None:
    """The open attempt is over: index, money and effect are put right. The task waits to be opened again."""
    if t.status == "planned":
        return
    place = (c.number, t.ordinal)
    for aspect in t.aspects:
        members = agent.readers.get(aspect)
        if members is not None:
            members.discard(place)
            if not members:
                del agent.readers[aspect]
    agent.open_tasks -= 1
    if t.reserved:
        settle_work(agent, t, t.reserved)  # nobody said what it cost: the maximum stands
    if t.effect is not None:
        out.append(Change("effect", c.number, t.ordinal, t.attempt, effect_status, reason))
        if t.effect.funds is not None:
            settle_funds(agent, c, t, actual, out)
    t.status, t.effect, t.artifact, t.artifact_hash = "planned", None, None, ""
    t.start_until, t.conflict_at = 0, 0


def again(agent: Agent, c: Campaign, t: Task, reason: str, r: Record, out: list[Change], effect_status: str = "closed") -> None:
    """The attempt is over, no failure (stale, a gate): the planner owes the next one. In a closing campaign the task closes."""
    end_attempt(agent, c, t, effect_status, reason, out)
    if c.status == "cancelled":
        close_task(agent, c, t, "cancelled", out)
        return
    t.wait_reason, t.feedback = reason, ref(r)
    out.append(Change("task", c.number, t.ordinal, t.attempt, "planned", reason))


def fail(agent: Agent, c: Campaign, t: Task, reason: str, r: Record, out: list[Change], effect_status: str = "closed") -> None:
    """The attempt failed; enough failures (policy) close the task visibly."""
    t.failures += 1
    allowed = agent.policy.inline.failures_allowed if agent.policy is not None else 1
    if t.failures >= allowed:
        end_attempt(agent, c, t, effect_status, reason, out)
        close_task(agent, c, t, "failures", out)
    else:
        again(agent, c, t, reason, r, out, effect_status)


def close_task(agent: Agent, c: Campaign, t: Task, reason: str, out: list[Change], effect_status: str = "closed") -> None:
    """The task ends undone, and so does what waits behind it, however long that chain is."""
    waiting = [t]
    while waiting:
        task = waiting.pop()
        if task.ordinal not in c.tasks:
            continue  # it waited behind two
        why = reason if task is t else "dependency"
        end_attempt(agent, c, task, effect_status if task is t else "closed", why, out)
        del c.tasks[task.ordinal]
        c.closed[task.ordinal] = why
        let_pass(c)
        out.append(Change("task", c.number, task.ordinal, task.attempt, "closed", why))
        waiting += [o for o in reversed(c.tasks.values()) if task.ordinal in o.depends_on]
    close_if_empty(agent, c, out)


def finish_task(
    agent: Agent, c: Campaign, t: Task, cap: float, effect_status: str, r: Record, out: list[Change], actual: Decimal = ZERO
) -> None:
    """The task is done, by this record: final. What waits behind it may be opened from then on, or so much later as it asks for."""
    artifact, ended = t.artifact or t.ref, ref(r) if t.effect is not None else None
    end_attempt(agent, c, t, effect_status, "", out, actual)
    del c.tasks[t.ordinal]
    c.done[t.ordinal] = Done(cap, artifact, ended)
    if c.delayed:  # not all tasks are walked: that would make the fold slower with every open one
        c.delayed = [o for o in c.delayed if o in c.tasks]
        for other in (c.tasks[o] for o in c.delayed):
            if t.ordinal in other.depends_on:
                other.not_before = max(other.not_before, r.append_ts + other.wait_ms)
    let_pass(c)
    out.append(Change("task", c.number, t.ordinal, t.attempt, "done"))
    close_if_empty(agent, c, out)


def let_pass(c: Campaign) -> None:
    """Rows that answered signals leave the state once they are over and nobody open depends on them: a campaign may listen long."""
    if not c.passing:
        return
    needed = {o for t in c.tasks.values() for o in t.depends_on} | c.tasks.keys()
    for ordinal in [o for o in c.passing if o not in needed]:
        c.passing.remove(ordinal)
        c.done.pop(ordinal, None)
        c.closed.pop(ordinal, None)


def judge_again(c: Campaign, t: Task, e: Effect, out: list[Change]) -> None:
    """Votes of an older policy edition count no more; what is committed stays committed."""
    e.status, e.content_ask, e.confidence, e.cfo, e.approvals, e.decided_by = "proposed", None, None, None, [], []
    out.append(Change("effect", c.number, t.ordinal, t.attempt, "proposed", "policy"))


def close_if_empty(agent: Agent, c: Campaign, out: list[Change]) -> None:
    """A cancelled campaign closes with its last task."""
    if c.status == "cancelled" and not c.tasks and c.number in agent.campaigns:
        del agent.campaigns[c.number]
        out.append(Change("campaign", c.number, 0, 0, "closed", "cancelled"))


def cancel(agent: Agent, c: Campaign, reason: str, out: list[Change]) -> None:
    """Close what is open, except what was claimed: that runs to its end."""
    c.status = "cancelled"
    out.append(Change("campaign", c.number, 0, 0, "cancelled", reason))
    for t in list(c.tasks.values()):
        if t.ordinal in c.tasks and not (t.effect is not None and t.effect.status in IN_FLIGHT):
            close_task(agent, c, t, reason, out)
    close_if_empty(agent, c, out)


# --- what claimed effects leave behind -------------------------------------------------------------------------------


def too_similar(agent: Agent, c: Campaign, t: Task, e: Effect) -> bool:
    """Is the text (almost) one of the account's last claimed ones? The task's own does not count."""
    if not e.text_hash:
        return False
    bits = agent.policy.inline.similar_bits if agent.policy is not None else 0
    own_hash, own_simhash = e.text_hash, e.simhash
    for text_hash, simhash, campaign, ordinal in agent.fingerprints.get(f"{e.platform}/{e.account}", ()):
        # `distance` written out: a call for each of 64 texts would be most of what an approval costs.
        alike = text_hash == own_hash or (simhash ^ own_simhash).bit_count() <= bits
        if alike and (ordinal != t.ordinal or campaign != c.number):
            return True
    return False


def too_frequent(agent: Agent, e: Effect, now: int) -> int:
    """0 if another claim fits into the platform's frequency window, else the time (ms) at which one will."""
    f = agent.policy.inline.frequency.get(e.platform) if agent.policy is not None else None
    if f is None or not e.text_hash:  # it limits what is said: taking something down never waits for it
        return 0
    if f.claims <= 0:
        return now + f.window_ms  # at most none, for as long as this edition holds
    recent = [ts for ts in agent.claims.get(e.platform, ()) if ts > now - f.window_ms]
    return recent[-f.claims] + f.window_ms if f.claims <= len(recent) else 0
