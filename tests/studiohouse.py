"""A swarm in one process with a gate, studios that take their time, Instagram and X: pictures and films from brief to post."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chimera.events import records as rec
from chimera.events.envelope import Record
from chimera.events.fold import fold
from chimera.events.records import Data
from chimera.events.state import Ref, Ruling
from chimera.mcp.gate import Gate
from chimera.mcp.profiles import Rendered, load_profiles
from chimera.mcp.records import Outcome, ToolCallRecord
from chimera.mcp.sandbox import ideogram, instagram, luma, midjourney, runway, studio
from chimera.mcp.sandbox.audience import Audience
from chimera.mcp.sandbox.faults import FaultBook, Faults
from chimera.mcp.sandbox.gram import Gram
from chimera.mcp.sandbox.jobs import JobBook
from chimera.mcp.sandbox.timeline import Timeline
from chimera.mcp.sandbox.vendor import Vendor
from chimera.mcp.sandbox.x import XSandbox
from chimera.mcp.sandbox.x_media import XMedia
from chimera.mcp.spec import CapabilitySpec
from chimera.media.facts import Facts
from chimera.media.place import open_media
from chimera.media.store import Asset
from chimera.policy.boardkit import load_text
from chimera.policy.brief import Brief, load_brief
from chimera.processors.executor import Executor
from chimera.processors.imaging import Media
from chimera.processors.jobs import Job
from chimera.processors.worker import Worker
from tests.histories import LAW, START, record
from tests.swarmhouse import Keys, SwarmHouse

EXAMPLES = Path("examples")
MODULES: dict[str, Any] = {"ideogram": ideogram, "midjourney": midjourney, "runway": runway, "luma": luma}
AVA = "agent/ava"
CHANGES = {"taint_auto": "{publish: allowlisted, paid: allowlisted}", "audit_sample_ppm": "0", "undo_s": "0"}
"""What the example's policy says otherwise here: people are asked about nothing that need not be asked about."""


class StudioHouse(SwarmHouse):
    """A swarm with a gate: an executor, studios that take their time, Instagram, and a tenant that holds whatever is asked for."""

    def __init__(self, home: Path, providers: dict[str, str] | None = None, media: str | None = None) -> None:
        rules = load_text(EXAMPLES / "AGENTS.md")
        for line in rules.splitlines():
            for name, value in {
                "taint_auto": "{publish: allowlisted, paid: allowlisted}",
                "audit_sample_ppm": "0",
                "undo_s": "0",
            }.items():
                if line.startswith(f"{name}:"):
                    rules = rules.replace(line, f"{name}: {value}")
        super().__init__(EXAMPLES, rules)
        self.home, self.ahead_ms, self.copies, self.media = home, 0, 0, media
        self.profiles = load_profiles(providers=providers)
        self.books = {name: JobBook(home / "mcp" / name, lambda: self.broker_now() / 1000, 20.0) for name in MODULES}
        self.gram = Gram(home / "mcp" / "instagram", lambda: self.broker_now() / 1000)
        timeline = Timeline(home / "mcp" / "x", lambda: self.broker_now() / 1000)
        self.x = XSandbox(timeline, media=XMedia(home / "mcp" / "x", timeline.clock, film_takes_s=0.0))
        self.refuses_files = False
        self.weather = {name: FaultBook(None) for name in MODULES}
        self.start_gate()

    def start_gate(self) -> None:
        """A new gate process: nothing that it had in memory is left, the log and the store are."""
        servers: dict[str, Any] = {}
        for name, module in MODULES.items():
            vendor: Vendor = module.vendor(self.books[name])
            vendor.base = f"https://{name}.invalid"
            servers[f"{name}_url"] = vendor.server(Faults(self.weather[name], vendor.words))
        store = open_media(self.home, self.media)
        servers["instagram_url"] = instagram.vendor(self.gram, store, Audience(self.gram.directory)).server()
        servers["x_url"] = self.x.server()
        self.gate = Gate(self.profiles, servers, on_call=self._kept, home=self.home, fetch=self._fetch, media=self.media)
        executor = Executor(self, lease_s=60.0, call_timeout_s=20.0).role()
        worker = Worker(self.profiles, Keys(), media=Media(self.gate.files.store)).role()
        self._others = [self._others[0], worker, executor]

    async def _kept(self, call: ToolCallRecord) -> None:
        return None

    def _fetch(self, url: str, origin: str | None) -> AsyncIterator[bytes]:
        if self.refuses_files:
            raise OSError("the studio's files cannot be reached")
        name = url.removeprefix("https://").partition(".")[0]
        return studio.opened(self.books[name], MODULES[name].render, url)

    # --- time and money ------------------------------------------------------------------------------------------------

    def broker_now(self) -> int:
        return START + len(self.records) + self.ahead_ms

    def add(self, key: str, data: Data, actor: str = "swarm") -> Ruling:
        made = replace(record(data, len(self.records), self.broker_now(), actor=actor), key=key)
        self.records.append(made)
        agent, ruling = fold(LAW, self.agents.get(key), made)
        self.rulings.append(ruling)
        if agent is None:
            return ruling
        self.agents[key] = agent
        for c in agent.campaigns.values():
            for t in c.tasks.values():
                if t.effect is not None and t.effect.funds == "asked":
                    self.copies += 1
                    copied = rec.Copied(source=f"tenant/{agent.tenant}", number=self.copies)
                    place = {"campaign": c.number, "ordinal": t.ordinal, "attempt": t.attempt}
                    self.add(key, rec.FundsAnswered(copied=copied, **place, answer="held"))
                    return ruling
        return ruling

    async def live(self, rounds: int = 30) -> None:
        """Until nobody owes anything, a minute of broker time at a time."""
        for _ in range(rounds):
            await self.run()
            if not self.agents[AVA].campaigns:
                return
            self.ahead_ms += 60_000

    # --- what the gate's roles use -------------------------------------------------------------------------------------

    async def tool(
        self, job: Job, capability: str, inputs: dict[str, Any], account: str | None = None, platform: str | None = None
    ) -> Outcome:
        if capability in ("text.complete", "feeds.read"):
            return await super().tool(job, capability, inputs, account)
        return await self.gate.call(capability, inputs, agent=job.agent, tenant=job.tenant, account=account)

    async def send(self, job: Job, call: Rendered, account: str, idempotency_key: str) -> Outcome:
        return await self.gate.send(call, agent=job.agent, tenant=job.tenant, account=account, idempotency_key=idempotency_key)

    async def ask(self, job: Job, effect: rec.EffectProposal, capability: str, inputs: dict[str, Any]) -> Outcome:
        where = self.profiles.by_name[effect.profile].spec.platform
        who = {"agent": job.agent, "tenant": job.tenant, "account": effect.account}
        return await self.gate.call(capability, inputs, **who, platform=where, mode=effect.mode)

    def shield(self, job: Job) -> None:
        return None

    async def read_back(self, ref: Ref) -> Record:
        return await self.read(ref)

    def signed_by_role(self, record: Record) -> bool:
        return True

    def capability(self, effect: rec.EffectProposal) -> CapabilitySpec | None:
        return self.profiles.by_name[effect.profile].spec.capabilities[effect.capability]

    def url_of(self, effect: rec.EffectProposal, platform_id: str) -> str | None:
        return None

    async def receive(self, effect_hash: str, assets: Sequence[Asset]) -> list[Asset]:
        return await self.gate.files.store.receive(effect_hash, list(assets))

    async def facts(self, asset: Asset) -> Facts | None:
        return await self.gate.files.facts(asset)

    def switch_holds(self, reason: str) -> bool:
        return False

    # --- what became of it ---------------------------------------------------------------------------------------------

    def of(self, kind: type[Data]) -> list[Any]:
        return [r.data for r, ruling in zip(self.records, self.rulings, strict=False) if isinstance(r.data, kind)]


def brief_with(media: str, platform: str = "instagram") -> Brief:
    brief = load_brief(EXAMPLES / "briefs/autumn.yaml")
    first = brief.formats[0 if platform == "instagram" else 1]
    form = first.model_copy(update={"platform": platform, "media": media, "aspect": "16:9"})
    return brief.model_copy(update={"formats": [form]})


def house_with(home: Path, media: str, providers: dict[str, str] | None = None) -> StudioHouse:
    house = StudioHouse(home, providers)
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), brief_with(media), "ava")
    linked = rec.AccountLinked(command_no=6, platform="instagram", account="ava.cooks")
    assert house.add(AVA, linked, "dee").outcome == "applied"
    return house


def run(house: StudioHouse, story: Any) -> None:
    async def go() -> None:
        async with asyncio.timeout(120):
            await story()
        await house.gate.close()

    asyncio.run(go())
