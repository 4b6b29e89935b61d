"""The paid house with wallets: the wallet sandbox as a real MCP server over a real EVM chain, beside ledger, people and executor.

The rule not to break: as in `tests.paidhouse`, nothing here decides.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from chimera.events import records as rec
from chimera.events.hashes import digest
from chimera.events.state import Task
from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Profiles
from chimera.mcp.records import Outcome
from chimera.mcp.sandbox import wallet
from chimera.mcp.sandbox.chain import Chain
from chimera.mcp.sandbox.faults import FaultBook, Faults, read_wish
from chimera.policy.brief import WALLET
from chimera.processors import judge, planner
from chimera.processors.jobs import Job
from chimera.processors.worker import Worker
from tests.paidhouse import PaidHouse
from tests.swarmhouse import PROFILES, Keys, _price

PAYEE = "0x" + "22" * 20
SECONDS_AFTER_GENESIS = 1_800_000_000


def _moves(effect: rec.EffectProposal) -> str | None:
    return PROFILES.moves(effect.profile, effect.capability, effect.mode, effect.arguments)


class WalletHouse(PaidHouse):
    """One agent or more with a wallet each, a payee, and money in the ledger; `chain` is the chain's own word."""

    def __init__(self, place: Path, faults: str = "", profiles: Profiles = PROFILES, mode: str = "sandbox") -> None:
        super().__init__(place)
        self.chain = Chain(place / "mcp" / "wallet", lambda: SECONDS_AFTER_GENESIS)
        self.weather = FaultBook(place / "weather")
        self._place, self._profiles = place, profiles
        vendor = wallet.vendor(self.chain)
        if faults:
            self.weather.ask(read_wish(faults, [tool.name for tool in vendor.tools]), 0, "test")
        server = vendor.server(Faults(self.weather, wallet.WORDS))
        self.gate = Gate(profiles, {"wallet_url": server}, on_call=self._called, home=place)
        self._others = [planner.role(), Worker(profiles, Keys(), mode).role(), self.executor.role()]
        self._judges = [judge.role(_price, _moves)]
        for key in self.keys:
            linked = rec.AccountLinked(command_no=self.agents[key].command_no + 1, platform=WALLET, account="ava")
            assert self.add(key, linked, "dee").outcome == "applied"
        self.command(rec.BudgetSet, scope="tenant", limit_usd=Decimal(10_000))
        self.command(rec.PayeeAllowed, payee=PAYEE)

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self.chain.close()
        self.weather.close()

    def pay(self, amount: str, asset: str, to: str = PAYEE, campaign: str = "pay") -> None:
        """A signed command: a campaign that makes one payment."""
        (key, *_) = self.keys
        wanted = {"amount": amount, "asset": asset, "to": to, "reason": "the kitchen was rented"}
        number = self.agents[key].command_no + 1
        brief = {"transfer": wanted}
        started = rec.CampaignStarted(command_no=number, campaign_id=campaign, name=campaign, brief=brief, brief_hash="b")
        assert self.add(key, started, "dee").outcome == "applied"

    async def approved_by(self, *people: str) -> None:
        """Everybody answers, then these people approve, one after the other, and everybody answers again."""
        await self.settle()
        for person in people:
            assert self.approve_all(person) == 1
            await self.settle()

    def end(self) -> rec.EffectEnded:
        """How the last claim ended."""
        return [r.data for r in self.records if isinstance(r.data, rec.EffectEnded)][-1]

    async def ask(self, job: Job, effect: rec.EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        mine = {"agent": job.agent, "tenant": "acme", "account": effect.account, "mode": effect.mode}
        return await self.gate.call(capability, inputs, platform=WALLET, **mine)

    def reasons(self) -> list[str]:
        """Why judges and workers said no."""
        votes = [line for r in self.records if isinstance(r.data, rec.JudgeVerdict) for line in r.data.reasons]
        return votes + [r.data.reason for r in self.records if isinstance(r.data, rec.WorkFailed)]

    def edit_of(self, key: str, campaign: int, t: Task, changed: dict[str, str]) -> rec.HumanEdited:
        """A person's edit of a card: the same proposal with other arguments, under its true hash."""
        agent, e = self.agents[key], t.effect
        assert e is not None
        assert agent.policy is not None
        made = self.records[e.ref.offset].data
        assert isinstance(made, rec.ArtifactProduced)
        assert made.effect is not None
        other = made.effect.model_copy(update={"arguments": made.effect.arguments | changed, "salt": "f" * 32})
        return rec.HumanEdited(
            campaign=campaign,
            ordinal=t.ordinal,
            attempt=t.attempt,
            policy_edition=agent.policy.edition,
            old_effect_hash=e.hash,
            edit=1,
            artifact_hash=made.artifact_hash,
            content=made.content,
            effect=other.model_copy(update={"effect_hash": digest(rec.effect_body(other))}),
        )
