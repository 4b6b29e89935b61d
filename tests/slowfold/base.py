"""Words that all parts of the slow fold share: how a record is refused, how an attempt ends, what is stale, what is held."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

State = dict[str, Any]
MAX_COST = Decimal(10) ** 9
IN_FLIGHT = ("claimed", "submitted", "unknown")


class Void(Exception):
    """The record changes nothing (a copy still uses its number up)."""


class Rejected(Exception):
    """The record uses its number up; what it changed so far stays."""


def lookup_campaign(s: State, number: int) -> State:
    """The open campaign. A number below the next one that is not open is closed (rule 1)."""
    if number in s["campaigns"]:
        return s["campaigns"][number]
    raise Void("closed" if 0 < number < s["next_campaign"] else "unknown")


def open_campaign(s: State, number: int) -> State:
    """The campaign, if it is not closing."""
    c = lookup_campaign(s, number)
    if c["status"] == "cancelled":
        raise Void("closed")
    return c


def lookup_task(c: State, ordinal: int) -> State:
    if ordinal in c["tasks"]:
        return c["tasks"][ordinal]
    raise Void("closed" if 0 < ordinal < c["next_ordinal"] else "unknown")


def next_number(have: int, got: int) -> None:
    """Only the exact next number counts (rule 1)."""
    if got <= have:
        raise Void("duplicate")
    if got > have + 1:
        raise Void("conflict")


def at_attempt(s: State, d: Any) -> tuple[State, State]:
    """Campaign and task that a record about an attempt names; the attempt must be the current one and not over."""
    c = lookup_campaign(s, d.campaign)
    t = lookup_task(c, d.ordinal)
    if d.attempt > t["attempt"]:
        raise Void("conflict")
    if d.attempt < t["attempt"] or t["status"] == "planned":
        raise Void("closed")
    return c, t


def at_work(s: State, d: Any) -> tuple[State, State]:
    """The same for what a worker says: a second answer to an attempt is a duplicate."""
    c = lookup_campaign(s, d.campaign)
    t = lookup_task(c, d.ordinal)
    if d.attempt > t["attempt"]:
        raise Void("conflict")
    if d.attempt < t["attempt"] or t["status"] != "open":
        raise Void("duplicate")
    return c, t


def sane_lease(lease_ms: int) -> None:
    if not 0 < lease_ms <= 86_400_000:
        raise Void("bad_value")


def with_effect(s: State, d: Any) -> tuple[State, State, State]:
    c, t = at_attempt(s, d)
    if t["effect"] is None:
        raise Void("conflict")
    return c, t, t["effect"]


def is_stale(s: State, c: State, t: State) -> bool:
    """Some other task or fact wrote something this attempt reads, after its input version (rule 3): scan all writes."""
    for write in s["writes"]:
        if write["version"] <= t["input"] or write["by"] == (c["number"], t["ordinal"]):
            continue
        if "*" in t["reads"] or write["aspects"] & t["reads"]:
            return True
    return False


def write(s: State, aspects: set[str], by: tuple[int, int] | None = None) -> None:
    """v+: the version rises by one, these aspects were written at it."""
    s["version"] += 1
    s["writes"].append({"version": s["version"], "aspects": frozenset(aspects), "by": by})


def agent_held(s: State) -> bool:
    return s["status"] != "active" or s["quarantined"]


def note_gates(s: State, ts: int) -> None:
    """Write down, for every campaign, whether its work is held from now on (for recounting held time)."""
    for c in s["campaigns"].values():
        c["gates"].append((ts, agent_held(s) or c["status"] == "paused"))


def held_ms(c: State, since: int, until: int) -> int:
    """Milliseconds between two times during which a gate was closed: recounted from the whole history of the gates."""
    total = 0
    for i, (start, held) in enumerate(c["gates"]):
        end = c["gates"][i + 1][0] if i + 1 < len(c["gates"]) else until
        if held:
            total += max(0, min(end, until) - max(start, since))
    return total


def owe(s: State, what: str, c: State, t: State, amount: Decimal) -> None:
    target = f"tenant/{s['tenant']}"
    number = s["owed_no"].get(target, 0) + 1
    s["owed_no"][target] = number
    s["owed"].append((number, what, c["number"], t["ordinal"], t["attempt"], amount))


def settle_allowance(s: State, t: State, actual: Decimal) -> None:
    """The attempt's reservation becomes what it really cost, in the window it was reserved in."""
    a = s["allowance"]
    if a is not None and a["window_start"] == t["reserved_window"]:
        a["used"] += actual - t["reserved"]
    t["reserved"] = Decimal(0)


def end_attempt(s: State, c: State, t: State, funds: Decimal = Decimal(0)) -> None:
    """The attempt is over: nothing of it lives on but the attempt number, its failures and what was learnt."""
    if t["status"] == "planned":
        return
    if t["reserved"]:
        settle_allowance(s, t, t["reserved"])  # nobody said what it cost: the maximum stands
    e = t["effect"]
    if e is not None and e["funds"] is not None:
        owe(s, "FundsSettled", c, t, funds)
    t["status"] = "planned"
    t["effect"] = None
    t["artifact"] = None
    t["started_until"] = None


def finish_campaign(s: State, c: State) -> None:
    """A cancelled campaign closes with the last of what was in flight."""
    if c["status"] == "cancelled" and not c["tasks"] and c["number"] in s["campaigns"]:
        del s["campaigns"][c["number"]]
        s["gone"].append(c["number"])


def close_task(s: State, c: State, t: State, reason: str, funds: Decimal = Decimal(0)) -> None:
    """The task is closed visibly; what waits for it closes too, with that reason."""
    end_attempt(s, c, t, funds)
    del c["tasks"][t["ordinal"]]
    c["closed"][t["ordinal"]] = reason
    for other in [o for o in c["tasks"].values() if t["ordinal"] in o["row"].depends_on]:
        if other["ordinal"] in c["tasks"]:
            close_task(s, c, other, "dependency")
    finish_campaign(s, c)


def plan_again(s: State, c: State, t: State, funds: Decimal = Decimal(0)) -> None:
    """The attempt is over without a failure (stale, gate): planned again, or closed where the campaign is closing."""
    if c["status"] == "cancelled":
        close_task(s, c, t, "cancelled", funds)
    else:
        end_attempt(s, c, t, funds)


def fail(s: State, c: State, t: State, funds: Decimal = Decimal(0)) -> None:
    """One failure more; enough of them close the task."""
    t["failures"] += 1
    if t["failures"] >= s["policy"]["inline"].failures_allowed:
        close_task(s, c, t, "failures", funds)
    elif c["status"] == "cancelled":
        close_task(s, c, t, "cancelled", funds)
    else:
        end_attempt(s, c, t, funds)


def finish(s: State, c: State, t: State, cap: float, now: int, cost: Decimal = Decimal(0)) -> None:
    """Done is final. Whoever waits for it waits so much longer as the plan says."""
    end_attempt(s, c, t, cost)
    del c["tasks"][t["ordinal"]]
    c["done"][t["ordinal"]] = cap
    waiting = [o for o in c["tasks"].values() if t["ordinal"] in o["row"].depends_on and o["row"].wait_ms > 0]
    for other in waiting:
        other["not_before"] = max(other["not_before"], now + other["row"].wait_ms)
    finish_campaign(s, c)


def forget_passing(s: State) -> None:
    """What answered somebody leaves no trace in the state once nothing open depends on it."""
    for c in s["campaigns"].values():
        for o in [o for o in c["passing"] if o not in c["tasks"]]:
            if all(o not in t["row"].depends_on for t in c["tasks"].values()):
                c["passing"].discard(o)
                c["done"].pop(o, None)
                c["closed"].pop(o, None)


def cancel(s: State, c: State, reason: str) -> None:
    """Close what is open except claimed, submitted, unknown: those run to their end."""
    c["status"] = "cancelled"
    for t in list(c["tasks"].values()):
        if t["ordinal"] not in c["tasks"] or (t["effect"] is not None and t["effect"]["status"] in IN_FLIGHT):
            continue
        close_task(s, c, t, reason)
    finish_campaign(s, c)


def bad_cost(amount: Decimal) -> bool:
    return not (amount.is_finite() and Decimal(0) <= amount <= MAX_COST and amount == round(amount, 18))


def bad_confidence(value: float | None) -> bool:
    return value is None or not 0.0 <= value <= 1.0


def is_person(actor: str) -> bool:
    """Software writes as service/..., as a stream, or as one of our roles, alone or at a process."""
    if re.match(r"(service|agent|tenant)/", actor):
        return False
    return not re.fullmatch(r"(planner|worker|judge|executor|courier|command|installer|brain|gate)(@.*)?", actor, re.DOTALL)
