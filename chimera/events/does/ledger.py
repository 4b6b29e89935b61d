"""The tenant's ledger: funds are set aside before anybody is shown a card, and what was really paid is counted in the same window.

The rule not to break: a reservation is made only where it fits into every scope, so reserved + spent passes no budget by
reservations. Only an actual cost above what was reserved can, and that raises an alarm.
"""

from __future__ import annotations

from decimal import Decimal

from chimera.events.does.people import NEW_PAYEE
from chimera.events.does.publishing import add_debt
from chimera.events.does.steps import ref, usable_amount
from chimera.events.envelope import Record
from chimera.events.records import DayOpened, FundsRequested, FundsSettled
from chimera.events.state import ZERO, Change
from chimera.events.tenant import DAY_MS, Request, Tenant, Told, Window

OPENERS = frozenset(("BudgetSet", "FundsSettled", "AgentJoined", "PayeeRemoved"))
"""Records after which a request that waits may have another answer; a new day is the other reason."""


# --- guards ----------------------------------------------------------------------------------------------------------


def from_agent(t: Tenant, r: Record) -> str | None:
    """Only an agent's stream asks for money."""
    d = r.data
    assert isinstance(d, FundsRequested)
    return None if d.copied.source.startswith("agent/") else "unknown"


def asked_once(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, FundsRequested)
    return "conflict" if _key(d) in t.reserved or any(_of(w) == _key(d) for w in t.waiting) else None


def sane_request(t: Tenant, r: Record) -> str | None:
    d = r.data
    assert isinstance(d, FundsRequested)
    return None if usable_amount(d.amount_usd) and d.amount_usd > ZERO else "bad_value"


def was_asked(t: Tenant, r: Record) -> str | None:
    """A request that is neither reserved nor waiting is closed."""
    d = r.data
    assert isinstance(d, FundsSettled)
    return None if _key(d) in t.reserved or any(_of(w) == _key(d) for w in t.waiting) else "closed"


def day_is_new(t: Tenant, r: Record) -> str | None:
    """The stream has not seen that day, and the broker has."""
    d = r.data
    assert isinstance(d, DayOpened)
    if d.day <= t.day:
        return "duplicate"
    return "too_early" if r.append_ts // DAY_MS < d.day else None


def somebody_waits(t: Tenant, r: Record) -> str | None:
    return None if t.waiting else "conflict"


# --- what they do ----------------------------------------------------------------------------------------------------


def funds_requested(t: Tenant, r: Record, out: list[Change]) -> str:
    """Held, waiting, or refused for its payee: answered in any case."""
    d = r.data
    assert isinstance(d, FundsRequested)
    asked = Request(d.copied.source, d.campaign, d.ordinal, d.attempt, d.campaign_id, d.amount_usd, d.payee, ref(r))
    if d.effect_class == "financial" and d.payee is None:
        _answer(t, asked, "payee", "unnamed", out)
    elif not _decide(t, asked, out):
        t.waiting.append(asked)
        _answer(t, asked, "over_budget", lacking(t, asked), out)
    return ""


def funds_settled(t: Tenant, r: Record, out: list[Change]) -> str:
    """The actual cost in the window it was reserved in; the rest is free again. What nobody held can still have cost."""
    d = r.data
    assert isinstance(d, FundsSettled)
    held = t.reserved.pop(_key(d), None)
    if held is None:
        held = next(w for w in t.waiting if _of(w) == _key(d))
        t.waiting.remove(held)
        held, reserved = held._replace(day=t.day), ZERO
    else:
        reserved = held.amount
    actual = d.actual_usd if usable_amount(d.actual_usd) else held.amount  # an impossible cost: the most it may have been
    for scope in _scopes(held, held.day):
        window = t.windows.setdefault(scope, Window())
        # Normal form: 0.0 and 0 are the same state, and must go on as the same bytes.
        window.reserved, window.spent = (window.reserved - reserved).normalize(), (window.spent + actual).normalize()
        if not window.reserved and not window.spent:
            del t.windows[scope]
    if actual and held.payee in t.payees:
        t.payees[held.payee] = True
    if held.day != t.day:
        _prune_days(t)
    reason = "above_reserved" if actual > reserved else ""
    out.append(_change(held, "settled", reason, actual, held.day))
    return ""


def day_opened(t: Tenant, r: Record, out: list[Change]) -> str:
    """Nothing by itself: see `look_again`."""
    return ""


def look_again(t: Tenant, day_before: int, type_: str, out: list[Change]) -> None:
    """After every record that counts: who waits and would be answered otherwise now is answered anew, the oldest first."""
    if t.day != day_before:
        _prune_days(t)
    if t.waiting and (t.day != day_before or type_ in OPENERS):
        t.waiting = [asked for asked in t.waiting if not _decide(t, asked, out)]


def lacking(t: Tenant, asked: Request) -> str:
    """The first scope that has no room for the request today; "" where it fits into all."""
    if asked.agent not in t.members:
        return "member"
    for scope in _scopes(asked, t.day):
        limit = t.budgets.get("day") if scope.startswith("day/") else t.budgets.get(scope)
        if limit is None:
            if scope == "tenant":
                return scope  # no budget is no money
            continue
        window = t.windows.get(scope)
        if (window.reserved + window.spent if window is not None else ZERO) + asked.amount > limit:
            return scope.partition("/")[0]
    return ""


def _decide(t: Tenant, asked: Request, out: list[Change]) -> bool:
    """Refuse it for its payee or reserve it where it fits; False where it has to wait."""
    if asked.payee is not None and asked.payee not in t.payees:
        _answer(t, asked, "payee", "not_allowed", out)
        return True
    if lacking(t, asked):
        return False
    held = asked._replace(day=t.day)
    for scope in _scopes(held, held.day):
        window = t.windows.setdefault(scope, Window())
        window.reserved = (window.reserved + held.amount).normalize()
    t.reserved[_of(held)] = held
    new = held.payee is not None and not t.payees[held.payee]
    _answer(t, held, "held", NEW_PAYEE if new else "", out)
    return True


def _answer(t: Tenant, asked: Request, answer: str, reason: str, out: list[Change]) -> None:
    place = (asked.campaign, asked.ordinal, asked.attempt)
    add_debt(t, asked.agent, Told(0, "FundsAnswered", asked.ref, "", *place, answer, reason))
    out.append(_change(asked, answer, reason, asked.amount, asked.day or t.day))


def _change(asked: Request, status: str, reason: str, amount: Decimal, day: int) -> Change:
    """Detail: agent, amount, day of the window, campaign."""
    detail = f"{asked.agent} {amount} {day} {asked.campaign_id}"
    return Change("ledger", asked.campaign, asked.ordinal, asked.attempt, status, reason, detail)


def _scopes(asked: Request, day: int) -> tuple[str, ...]:
    """The windows that a request takes part in."""
    return ("tenant", f"day/{day}", f"campaign/{asked.campaign_id}", asked.agent)


def _key(d: FundsRequested | FundsSettled) -> str:
    return f"{d.copied.source} {d.campaign}.{d.ordinal}.{d.attempt}"


def _of(asked: Request) -> str:
    return f"{asked.agent} {asked.campaign}.{asked.ordinal}.{asked.attempt}"


def _prune_days(t: Tenant) -> None:
    """A day that is over leaves with its last reservation; what was spent in it stays in the other scopes."""
    for scope in [s for s, w in t.windows.items() if s.startswith("day/") and s != f"day/{t.day}" and not w.reserved]:
        del t.windows[scope]
