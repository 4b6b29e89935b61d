"""The tenant's stream, read a second time from the law's page: nothing is counted up, everything is recounted from the requests.

The rule not to break: this module never imports the real fold; `CHOICES.md` says where the page leaves a choice.
"""

from __future__ import annotations

import copy
import hashlib
from decimal import Decimal
from typing import Any

from chimera.events.envelope import Record
from chimera.events.state import Law
from tests.slowfold import base
from tests.slowfold.base import Rejected, State, Void

DAY = 24 * 60 * 60 * 1000
COMMANDS = {
    "TenantCreated", "BudgetSet", "PayeeAllowed", "PayeeRemoved", "AgentJoined", "AgentLeft", "AccountClaimed", "AccountReleased",
    "AccountVerified", "PolicyPublished", "SoulPublished", "CampaignOpened", "CampaignChanged", "TenantCampaignStatusSet",
    "SubjectForgotten",
}  # fmt: skip
COPIES = {"FundsRequested", "FundsSettled"}
KNOWN = COMMANDS | COPIES | {"DayOpened", "CopiesDelivered"}

Answer = tuple[str, str, int]


def slow_tenant_step(law: Law, s: State | None, r: Record) -> tuple[State | None, Answer]:
    """The state after the record, and (outcome, reason, version)."""
    version = s["version"] if s is not None else 0
    d: Any = r.data

    def void(reason: str) -> tuple[State | None, Answer]:
        return s, ("void", reason, version)

    if r.defect is not None:
        return void("unreadable")
    if d is None or r.type not in KNOWN:
        return void("unknown_type")
    role = "command" if r.type in COMMANDS or "courier" not in law.keys else "courier"
    if r.signed_by not in law.keys.get(role, frozenset()):
        return void("forged")
    if not r.hash_ok:
        return void("wrong_hash")
    if s is None:
        if r.type != "TenantCreated":
            return void("unknown")
        new = empty(r)
    else:
        new = copy.deepcopy(s)
    if r.tenant != new["name"] or (getattr(d, "copied", None) is not None and r.type not in COPIES):
        return void("forged")
    new["now"] = max(new["now"], r.append_ts)
    try:
        if r.type in COMMANDS:
            if r.id in new["recent"]:
                raise Void("duplicate")
            base.next_number(new["command_no"], d.command_no)
            if r.type == "TenantCreated" and s is not None:
                raise Void("duplicate")
        if r.type in COPIES:
            base.next_number(new["copies_in"].get(d.copied.source, 0), d.copied.number)
        if 0 < getattr(d, "not_after", 0) < r.append_ts:
            raise Void("too_late")
    except Void as no:
        return void(str(no))
    try:
        does(new, r)
    except Void as no:
        if r.type not in COPIES:
            return void(str(no))
        assert s is not None
        refused = copy.deepcopy(s)
        refused["copies_in"][d.copied.source] = d.copied.number
        return refused, ("rejected", str(no), version)
    except Rejected as no:
        assert s is not None
        refused = copy.deepcopy(s)
        number(refused, r)
        return refused, ("rejected", str(no), version)
    number(new, r)
    new["version"] += 1
    for q in new["requests"]:  # every record that counts is a reason to look
        if q["status"] == "waiting":
            decide(new, q)
    return new, ("applied", "", new["version"])


def number(s: State, r: Record) -> None:
    if r.type in COMMANDS:
        s["command_no"], s["recent"] = s["command_no"] + 1, [*s["recent"], r.id][-32:]
    if r.type in COPIES:
        s["copies_in"][r.data.copied.source] = r.data.copied.number  # type: ignore[union-attr]


def empty(r: Record) -> State:
    return {
        "name": r.tenant, "version": 0, "now": 0, "clock": 0, "command_no": 0, "recent": [], "copies_in": {}, "owed": {},
        "owed_no": {}, "delivered": {}, "people": 1,
        "approvers": None, "editor": "", "members": {}, "accounts": {}, "credentials": {}, "payees": {}, "votes": {},
        "policies": [], "souls": [], "campaigns": {}, "budgets": {}, "requests": [],
    }  # fmt: skip


def does(s: State, r: Record) -> None:  # one branch per row of the page
    d: Any = r.data
    here = (r.partition, r.offset)
    match r.type:
        case "TenantCreated":
            s["people"], s["approvers"] = d.people, list(d.finance) or None
        case "BudgetSet":
            known = d.scope in ("tenant", "day") or d.scope.split("/", 1)[0] in ("campaign", "agent")
            if d.scope in ("campaign", "agent", "campaign/", "agent/"):
                known = False
            if base.bad_cost(d.limit_usd) or not known:
                raise Void("bad_value")
            if vote(s, r.actor, ("budget", d.scope), str(d.limit_usd.normalize())):
                s["budgets"][d.scope] = d.limit_usd
        case "PayeeAllowed":
            if d.payee in s["payees"]:
                raise Void("conflict")
            if vote(s, r.actor, ("payee", d.payee), ""):
                s["payees"][d.payee] = False
        case "PayeeRemoved":
            if d.payee not in s["payees"]:
                raise Void("unknown")
            del s["payees"][d.payee]
        case "AgentJoined":
            groups = set(d.groups)
            m = s["members"].get(d.agent)
            if m is not None and m["groups"] == groups:
                raise Void("conflict")
            m = s["members"].setdefault(d.agent, {"policy": 0, "soul": 0, "campaigns": []})
            m["groups"] = groups
            for what, kind in (("PolicyAdopted", "policies"), ("SoulAdopted", "souls")):
                name = "policy" if kind == "policies" else "soul"
                mine = [e for e in in_force(s[kind]) if meant(d.agent, groups, e["select"], str(e["edition"]))]
                best = max(mine, key=lambda e: e["edition"], default=None)
                if best is not None and best["edition"] > m[name]:
                    m[name] = best["edition"]
                    owe(s, d.agent, (what, best["at"], ""))
            for id_, c in sorted(s["campaigns"].items()):
                if id_ not in m["campaigns"] and meant(d.agent, groups, c["select"], id_):
                    m["campaigns"].append(id_)
                    owe(s, d.agent, ("CampaignStarted", c["opened"], ""))
                    if c["edition"] > 1:
                        owe(s, d.agent, ("BriefChanged", c["brief"], ""))
                    if c["status"] != "running":
                        owe(s, d.agent, ("CampaignStatusSet", c["status_at"], ""))
        case "AgentLeft":
            m = member(s, d.agent)
            for platform, account in sorted(s["accounts"], key="/".join):
                if s["accounts"][platform, account] == d.agent:
                    del s["accounts"][platform, account]
                    s["credentials"].pop((platform, account), None)
                    owe(s, d.agent, ("AccountUnlinked", here, platform))
            for id_ in m["campaigns"]:
                owe(s, d.agent, ("CampaignStatusSet", here, id_))
            del s["members"][d.agent]
        case "AccountClaimed":
            member(s, d.agent)
            spot = (d.platform, d.account)
            credential = s["credentials"].get(spot, {"ref": "", "ends": 0, "said": None})
            if s["accounts"].get(spot, d.agent) != d.agent:
                raise Rejected("conflict")
            if spot in s["accounts"] and (credential["ref"], credential["ends"]) == (d.secret_ref, d.expires_ts):
                raise Rejected("conflict")
            if any(agent == d.agent and other[0] == d.platform and other != spot for other, agent in s["accounts"].items()):
                raise Rejected("conflict")
            if spot not in s["accounts"] or credential["ref"] != d.secret_ref:
                owe(s, d.agent, ("AccountLinked", here, ""))
                credential = {"said": None}
            s["accounts"][spot] = d.agent
            s["credentials"][spot] = {**credential, "ref": d.secret_ref, "ends": d.expires_ts}
        case "AccountVerified":
            spot = (d.platform, d.account)
            if spot not in s["accounts"]:
                raise Void("unknown")
            credential = s["credentials"][spot]
            if credential["ref"] != d.secret_ref:
                raise Void("conflict")
            s["credentials"][spot] = {**credential, "said": (r.append_ts, d.found, d.platform_id, d.reason)}
        case "AccountReleased":
            if (d.platform, d.account) not in s["accounts"]:
                raise Void("unknown")
            s["credentials"].pop((d.platform, d.account), None)
            owe(s, s["accounts"].pop((d.platform, d.account)), ("AccountUnlinked", here, d.platform))
        case "PolicyPublished":
            publish(s, "policies", "policy", "PolicyAdopted", d, here)
            if d.inline.approvers.get("financial") and d.select.group == "" and d.select.share_ppm >= 1_000_000:
                s["approvers"], s["editor"] = list(d.inline.approvers["financial"]), d.editor
                s["votes"] = {}
                s["people"] = max(1, d.inline.people.get("financial", 2))
        case "SoulPublished":
            publish(s, "souls", "soul", "SoulAdopted", d, here)
        case "CampaignOpened":
            if d.campaign_id in s["campaigns"]:
                raise Void("conflict")
            s["campaigns"][d.campaign_id] = {
                "select": d.select, "opened": here, "brief": here, "edition": 1, "status": "running", "status_at": None,
            }  # fmt: skip
            for agent, m in s["members"].items():
                if meant(agent, m["groups"], d.select, d.campaign_id):
                    m["campaigns"].append(d.campaign_id)
                    owe(s, agent, ("CampaignStarted", here, ""))
        case "CampaignChanged":
            c = campaign(s, d.campaign_id)
            base.next_number(c["edition"], d.edition)
            c["edition"], c["brief"] = d.edition, here
            tell(s, d.campaign_id, ("BriefChanged", here, ""))
        case "TenantCampaignStatusSet":
            c = campaign(s, d.campaign_id)
            if c["status"] == d.status:
                raise Void("conflict")
            tell(s, d.campaign_id, ("CampaignStatusSet", here, d.campaign_id if d.status == "cancelled" else ""))
            c["status"], c["status_at"] = d.status, here
            if d.status == "cancelled":
                del s["campaigns"][d.campaign_id]
                for m in s["members"].values():
                    m["campaigns"] = [id_ for id_ in m["campaigns"] if id_ != d.campaign_id]
        case "FundsRequested":
            if not d.copied.source.startswith("agent/"):
                raise Void("unknown")
            if base.bad_cost(d.amount_usd) or d.amount_usd == 0:
                raise Void("bad_value")
            if find(s, d) is not None:
                raise Void("conflict")
            q = {
                "agent": d.copied.source, "place": (d.campaign, d.ordinal, d.attempt), "campaign": d.campaign_id, "at": here,
                "amount": d.amount_usd, "payee": d.payee, "status": "waiting", "spent": Decimal(0), "day": None,
            }  # fmt: skip
            s["requests"].append(q)
            if d.effect_class == "financial" and d.payee is None:
                answer(s, q, "payee", "unnamed")
            else:
                decide(s, q)
            if q["status"] == "waiting":
                answer(s, q, "over_budget", lacks(s, q))
        case "FundsSettled":
            found = find(s, d)
            if found is None:
                raise Void("closed")
            q = found
            q["day"] = q["day"] if q["status"] == "held" else today(s)
            q["status"], q["spent"] = "settled", q["amount"] if base.bad_cost(d.actual_usd) else d.actual_usd
            if q["spent"] > 0 and q["payee"] in s["payees"]:
                s["payees"][q["payee"]] = True
        case "DayOpened":
            before = s["clock"] // DAY
            if d.day <= before:
                raise Void("duplicate")
            if r.append_ts // DAY < d.day:
                raise Void("too_early")
            if not any(q["status"] == "waiting" for q in s["requests"]):
                raise Void("conflict")
        case "CopiesDelivered":
            if d.upto > s["owed_no"].get(d.target, 0):
                raise Void("conflict")
            if d.upto <= s["delivered"].get(d.target, 0):
                raise Void("duplicate")
            s["delivered"][d.target] = d.upto
            s["owed"][d.target] = [o for o in s["owed"][d.target] if o[0] > d.upto]
    s["clock"] = s["now"]


def today(s: State) -> int:
    return int(s["now"] // DAY)


def member(s: State, agent: str) -> State:
    if agent not in s["members"]:
        raise Void("unknown")
    found: State = s["members"][agent]
    return found


def campaign(s: State, id_: str) -> State:
    if id_ not in s["campaigns"]:
        raise Void("unknown")
    found: State = s["campaigns"][id_]
    return found


def vote(s: State, actor: str, subject: tuple[str, str], content: str) -> bool:
    """One more of n people; when all have voted, other votes on the same subject are gone."""
    if not base.is_person(actor):
        raise Void("not_entitled")
    if s["approvers"] is not None and (actor not in s["approvers"] or actor == s["editor"]):
        raise Void("not_entitled")
    people = s["votes"].setdefault((subject, content), [])
    if actor in people:
        raise Void("duplicate")
    people.append(actor)
    if len(people) < s["people"]:
        return False
    s["votes"] = {key: have for key, have in s["votes"].items() if key[0] != subject}
    return True


def owe(s: State, agent: str, what: tuple[Any, ...]) -> None:
    s["owed_no"][agent] = s["owed_no"].get(agent, 0) + 1
    s["owed"].setdefault(agent, []).append((s["owed_no"][agent], *what))


def tell(s: State, campaign_id: str, what: tuple[Any, ...]) -> None:
    for agent, m in s["members"].items():
        if campaign_id in m["campaigns"]:
            owe(s, agent, what)


def meant(agent: str, groups: set[str], select: Any, name: str) -> bool:
    if select.group and select.group not in groups:
        return False
    drawn = int(hashlib.sha256(f"{agent}:{name}".encode()).hexdigest()[:16], 16) % 1_000_000
    return bool(select.share_ppm >= 1_000_000 or drawn < select.share_ppm)


def publish(s: State, kind: str, name: str, what: str, d: Any, here: tuple[int, int]) -> None:
    if s[kind] and d.edition <= s[kind][-1]["edition"]:
        raise Void("duplicate")
    if d.edition <= 0:
        raise Void("duplicate")
    s[kind].append({"edition": d.edition, "select": d.select, "at": here})
    for agent, m in s["members"].items():
        if meant(agent, m["groups"], d.select, str(d.edition)):
            m[name] = d.edition
            owe(s, agent, (what, here, ""))


def in_force(editions: list[State]) -> list[State]:
    """Those that no later one replaced: one for all replaces every one, a group's the group's, a canary the same canary."""
    left = []
    for i, e in enumerate(editions):
        mine = e["select"]
        for later in editions[i + 1 :]:
            select = later["select"]
            if select.share_ppm >= 1_000_000 and select.group in ("", mine.group):
                break
            if select.share_ppm < 1_000_000 and mine.share_ppm < 1_000_000 and select.group == mine.group:
                break
        else:
            left.append(e)
    return left


def find(s: State, d: Any) -> State | None:
    for q in s["requests"]:
        if (q["agent"], q["place"]) == (d.copied.source, (d.campaign, d.ordinal, d.attempt)) and q["status"] in ("waiting", "held"):
            found: State = q
            return found
    return None


def used(s: State, scope: str, q: State) -> Decimal:
    """What lies in a window, recounted from every request there ever was."""
    total = Decimal(0)
    for other in s["requests"]:
        if other["status"] not in ("held", "settled"):
            continue
        same = {
            "tenant": True,
            "day": other["day"] == today(s),
            "campaign": other["campaign"] == q["campaign"],
            "agent": other["agent"] == q["agent"],
        }[scope]
        if same:
            total += other["amount"] if other["status"] == "held" else other["spent"]
    return total


def lacks(s: State, q: State) -> str:
    if q["agent"] not in s["members"]:
        return "member"
    names = {"tenant": "tenant", "day": "day", "campaign": f"campaign/{q['campaign']}", "agent": q["agent"]}
    for scope, name in names.items():
        limit = s["budgets"].get(name, Decimal(0) if scope == "tenant" else None)
        if limit is not None and used(s, scope, q) + q["amount"] > limit:
            return scope
    return ""


def decide(s: State, q: State) -> None:
    if q["payee"] is not None and q["payee"] not in s["payees"]:
        answer(s, q, "payee", "not_allowed")
    elif not lacks(s, q):
        q["day"] = today(s)
        answer(s, q, "held", "new_payee" if q["payee"] is not None and not s["payees"][q["payee"]] else "")


def answer(s: State, q: State, said: str, reason: str) -> None:
    owe(s, q["agent"], ("FundsAnswered", q["at"], "", *q["place"], said, reason))
    q["status"] = {"held": "held", "payee": "refused"}.get(said, "waiting")
