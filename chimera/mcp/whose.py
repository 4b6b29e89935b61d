"""Whose a credential is: asked of the platform itself, through the gate.

The rule not to break: what the platform answers is told as it is; that nobody could be asked is told apart from "somebody else's".
"""

from __future__ import annotations

from typing import NamedTuple

from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Profiles
from chimera.mcp.results import at


class Whose(NamedTuple):
    """`found` is the account's name on the platform; "" where none was told, for the `reason` (a code; `detail` is for people)."""

    found: str = ""
    platform_id: str = ""
    reason: str = ""
    detail: str = ""


def capability_for(profiles: Profiles, platform: str) -> tuple[str, str] | None:
    """(capability, path of the account's name in its answer) that tells who one is on a platform; None where no profile can."""
    for profile in profiles.by_name.values():
        if profile.spec.platform == platform:
            for name, spec in profile.spec.capabilities.items():
                if spec.result.account is not None and spec.effect_class == "none" and not spec.inputs.required:
                    return name, spec.result.account
    return None


async def whose(gate: Gate, platform: str, account: str, *, agent: str, tenant: str, mode: str) -> Whose:
    """Ask the platform who acts with the credential of this account."""
    known = capability_for(gate.profiles, platform)
    if known is None:
        return Whose(reason="no_profile", detail=f"no profile tells who one is on {platform}")
    capability, path = known
    outcome = await gate.call(capability, {}, agent=agent, tenant=tenant, account=account, platform=platform, mode=mode)
    if outcome.result != "ok":
        return Whose(reason=outcome.reason or outcome.result, detail=outcome.detail)
    found = at(outcome.data, path)
    if found in (None, ""):
        return Whose(platform_id=outcome.platform_id or "", reason="unnamed", detail="the platform's answer names no account")
    return Whose(str(found), outcome.platform_id or "")
