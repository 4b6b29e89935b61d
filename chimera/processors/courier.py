"""The courier, pure: which copies cross from one stream to another now, and what each of them says (law: The tenant's stream).

The rule not to break: nothing is remembered. What is owed is read from the two folded states, so a second courier, or one that
was killed, can neither lose a copy nor make one count twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.state import Agent, Owed
from chimera.events.tenant import DAY_MS, Tenant, Told
from chimera.policy.brief import listens_until


class Due(NamedTuple):
    """What is owed between two streams: the next copy, and the number up to which the source is still to be told of delivery."""

    copy: Owed | Told | None
    delivered: int | None


def name_of(stream: Agent | Tenant) -> str:
    """How copies name a stream: an agent by its key, a tenant by its name."""
    return stream.label if isinstance(stream, Tenant) else stream.key


def due(source: Agent | Tenant, target: Agent | Tenant) -> Due:
    """Copy n is owed iff n = target.in + 1; CopiesDelivered(upto) iff target.in > source.delivered."""
    taken, to = target.copies_in.get(name_of(source), 0), name_of(target)
    copy: Owed | Told | None = next((each for each in source.owed.get(to, ()) if each.number == taken + 1), None)
    known = min(taken, source.owed_no.get(to, 0))
    return Due(copy, known if known > source.delivered.get(to, 0) else None)


def day_due(tenant: Tenant, now: int) -> int | None:
    """The UTC day to be opened: one has begun (`now`: broker time, ms) since the stream's last record, and somebody waits."""
    day = now // DAY_MS
    return day if tenant.waiting and day > tenant.day else None


def ask(source: str, copy: Owed) -> rec.Data:
    """The copy of what an agent's stream owes its tenant."""
    copied = rec.Copied(source=source, number=copy.number)
    if copy.what == "FundsSettled":
        return rec.FundsSettled(
            copied=copied, campaign=copy.campaign, ordinal=copy.ordinal, attempt=copy.attempt, actual_usd=copy.amount
        )
    return rec.FundsRequested.model_validate(
        {
            "copied": copied,
            "campaign": copy.campaign,
            "ordinal": copy.ordinal,
            "attempt": copy.attempt,
            "campaign_id": copy.campaign_id,
            "effect_class": copy.effect_class,
            "effect_hash": copy.effect_hash,
            "amount_usd": copy.amount,
            "payee": copy.payee,
        }
    )


def tell(source: str, copy: Told, record: Record | None) -> rec.Data:
    """The copy of what a tenant's stream owes an agent, from the record that the debt refers to (None for answers on funds).

    Raises:
        ValueError: the record is not one that such a copy is made of.
    """
    copied = rec.Copied(source=source, number=copy.number)
    if copy.what == "FundsAnswered":
        return rec.FundsAnswered.model_validate(
            {
                "copied": copied,
                "campaign": copy.campaign,
                "ordinal": copy.ordinal,
                "attempt": copy.attempt,
                "answer": copy.answer,
                "reason": copy.reason,
            }
        )
    data = record.data if record is not None else None
    make = _COPIES.get(copy.what)
    made = make(data, copy, copied) if make is not None and data is not None else None
    if isinstance(made, rec.CampaignStarted | rec.BriefChanged) and record is not None:
        made = made.model_copy(update={"listens_until": listens_until(made.brief, record.append_ts)})
    if made is None:
        said = record.type if record is not None else "no record"
        raise ValueError(f"copy {copy.number} of {source} is a {copy.what}, but {said} lies at {tuple(copy.ref)}")
    return made


def _policy(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    if not isinstance(d, rec.PolicyPublished):
        return None
    return rec.PolicyAdopted(
        copied=copied, edition=d.edition, digest=d.digest, editor=d.editor, stales=d.stales, inline=d.inline, rules=d.rules
    )


def _soul(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    return rec.SoulAdopted(copied=copied, digest=d.digest, soul=d.soul) if isinstance(d, rec.SoulPublished) else None


def _linked(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    if not isinstance(d, rec.AccountClaimed):
        return None
    return rec.AccountLinked(copied=copied, platform=d.platform, account=d.account, secret_ref=d.secret_ref)


def _unlinked(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    return rec.AccountUnlinked(copied=copied, platform=copy.detail)


def _started(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    if not isinstance(d, rec.CampaignOpened):
        return None
    return rec.CampaignStarted(copied=copied, campaign_id=d.campaign_id, name=d.name, brief=d.brief, brief_hash=d.brief_hash)


def _changed(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    if not isinstance(d, rec.CampaignChanged):
        return None
    return rec.BriefChanged(copied=copied, campaign_id=d.campaign_id, brief=d.brief, brief_hash=d.brief_hash)


def _status(d: rec.Data, copy: Told, copied: rec.Copied) -> rec.Data | None:
    if isinstance(d, rec.TenantCampaignStatusSet):
        return rec.CampaignStatusSet(copied=copied, campaign_id=d.campaign_id, status=d.status, reason=d.reason)
    if isinstance(d, rec.AgentLeft):
        return rec.CampaignStatusSet(copied=copied, campaign_id=copy.detail, status="cancelled", reason="left the tenant")
    return None


_COPIES: Mapping[str, Callable[[rec.Data, Told, rec.Copied], rec.Data | None]] = {
    "PolicyAdopted": _policy,
    "SoulAdopted": _soul,
    "AccountLinked": _linked,
    "AccountUnlinked": _unlinked,
    "CampaignStarted": _started,
    "BriefChanged": _changed,
    "CampaignStatusSet": _status,
}
