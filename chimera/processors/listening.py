"""Listening: what outside people say to an agent comes into its log, one record per poll that found something.

Which lists there are, how they are read and how one answers stands in the profiles (`hears`); how often they are asked for stands
in the policy. The rule not to break: words and names of people are sealed before they reach the log, and all of it is `open` taint.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from chimera.commands.subjects import SubjectForgotten
from chimera.events.records import Signal, SignalObserved
from chimera.events.sealed import SubjectKeys, seal, subject_of
from chimera.events.state import MAX_HEARD, Agent
from chimera.mcp.profiles import Hears, Profiles
from chimera.mcp.results import at
from chimera.processors.jobs import Answer, Due, Job, Tools, soonest

NAME = "worker"
log = logging.getLogger(__name__)
MOST_ITEMS = 20
"""Items in one record; the rest is read by the next poll, which comes at once."""
MOST_PAGES = 10
"""Pages that one poll turns back to reach the cursor."""
MOST_TEXT = 2_000
LONGEST_PAUSE_MS = 900_000
"""A platform that does not answer is asked again after twice the time, up to a quarter of an hour."""


def listening(agent: Agent, now: int) -> bool:
    """Does one of its campaigns answer people now, and has the planner room for what they say?"""
    wants = any(c.status == "running" and now < c.listens_until for c in agent.campaigns.values())
    return wants and not agent.held and agent.policy is not None and len(agent.heard) < MAX_HEARD


class Ear:
    """Polls. When the next one is due is known to this process alone: after a restart everything is asked for anew, spread out."""

    def __init__(self, profiles: Profiles, subjects: SubjectKeys) -> None:
        self._profiles, self._subjects = profiles, subjects
        self._next: dict[tuple[str, str], int] = {}
        self._known: dict[str, set[str]] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._me: dict[tuple[str, str], str] = {}

    def sources(self, agent: Agent) -> Iterator[tuple[str, str, str, int]]:
        """(source, capability, account, pause in ms) of every list that the agent's policy has it listen to."""
        assert agent.policy is not None
        for platform, pause in agent.policy.inline.listen_ms.items():
            account = agent.accounts.get(platform)
            if account is not None:
                for capability in self._profiles.hearing(platform):
                    yield f"{platform}/{capability}", capability, account, pause

    def due(self, agent: Agent, now: int) -> Due:
        """Polls owed now, and when the next one is."""
        if not listening(agent, now):
            for source in self._known.pop(agent.key, ()):  # of ten thousand silent agents none holds a place
                self._next.pop((agent.key, source), None)
            return Due([])
        jobs: list[Job] = []
        wake: int | None = None
        for source, capability, account, pause in self.sources(agent):
            # The first poll of each agent at a time of its own: a restart may not ask for a thousand lists in one second.
            spread = zlib.crc32(f"{agent.key}{source}".encode()) % max(1, min(pause, 10_000))
            when = self._next.setdefault((agent.key, source), now + spread)
            self._known.setdefault(agent.key, set()).add(source)
            if when > now:
                wake = soonest(wake, when)
                continue
            number, cursor = agent.signals.get(source, (0, ""))
            facts: dict[str, Any] = {
                "source": source,
                "capability": capability,
                "account": account,
                "cursor": cursor,
                "pause": pause,
                "platform": source.split("/", 1)[0],
            }
            place = zlib.crc32(source.encode())
            jobs.append(Job(NAME, "listen", agent.key, agent.tenant, "", 0, place, 0, number + 1, facts))
        return Due(jobs, wake)

    async def listen(self, job: Job, tools: Tools) -> Answer | None:
        """One poll: a record with what is new since the cursor, oldest first, or nothing."""
        f = job.facts
        key, pause = (job.agent, f["source"]), f["pause"]
        hears = self._profiles.capability(f["capability"], f["platform"]).hears
        assert hears is not None
        found = await self._ask(job, hears, tools)
        if found is None:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self._next[key] = tools.broker_now() + min(LONGEST_PAUSE_MS, pause << min(failures, 10))
            return None
        self._failures.pop(key, None)
        items, complete = found
        self._next[key] = tools.broker_now() + (pause if complete else 0)
        if not items:
            return None
        cursor = str(at(items[-1], hears.id))
        signals = [self._signal(job, hears, item, tools.broker_now()) for item in items]
        return Answer(SignalObserved(source=f["source"], number=job.number, cursor=cursor, items=signals))

    async def _ask(self, job: Job, hears: Hears, tools: Tools) -> tuple[list[Any], bool] | None:
        """New items, oldest first, at most MOST_ITEMS, and whether that is all; None where the platform did not answer."""
        f = job.facts
        inputs: dict[str, Any] = {"max_results": hears.page}
        if hears.me is not None:
            me = self._me.get((f["platform"], f["account"]))
            if me is None:
                told = await tools.tool(job, hears.me, {}, f["account"])
                if told.result != "ok" or not told.platform_id:
                    return None
                me = self._me[(f["platform"], f["account"])] = told.platform_id
            inputs["id"] = me
        if f["cursor"]:
            inputs["since_id"] = f["cursor"]
        found: list[Any] = []
        for _ in range(MOST_PAGES):
            outcome = await tools.tool(job, f["capability"], inputs, f["account"])
            if outcome.result != "ok":
                return None
            listed = at(outcome.data, hears.items)
            page = listed if isinstance(listed, list) else []
            found += [item for item in page if _usable(item, hears) and self._may_be_heard(job, hears, item)]
            if len(page) < hears.page or not found:
                break
            inputs["until_id"] = str(at(found[-1], hears.id))
        else:
            log.warning("%s: more than %d new items in %s: the oldest are not read", job.agent, len(found), f["source"])
        found.reverse()  # platforms list the newest first
        return found[:MOST_ITEMS], len(found) <= MOST_ITEMS

    def _may_be_heard(self, job: Job, hears: Hears, item: Any) -> bool:
        """Not of somebody who asked to be forgotten: nothing of theirs is kept again, and what others say is heard all the same."""
        try:
            self._subjects.key_for(subject_of(job.tenant, job.facts["platform"], str(at(item, hears.author))))
        except SubjectForgotten:
            return False
        return True

    def _signal(self, job: Job, hears: Hears, item: Any, now: int) -> Signal:
        author = str(at(item, hears.author))
        subject = subject_of(job.tenant, job.facts["platform"], author)
        return Signal(
            thread=f"{job.facts['platform']}:{at(item, hears.thread)}",
            external_id=str(at(item, hears.id)),
            author=seal(self._subjects, subject, author),
            text=seal(self._subjects, subject, str(at(item, hears.text)).replace("\0", "")[:MOST_TEXT]),
            observed_at=_ms(at(item, hears.at), now),
        )


def _usable(item: Any, hears: Hears) -> bool:
    """An item that says who said what where; any other is no word to anyone."""
    parts = [at(item, path) for path in (hears.id, hears.text, hears.author, hears.thread)]
    return all(isinstance(part, str | int) and str(part) for part in parts)


def _ms(told: Any, now: int) -> int:
    try:
        return int(datetime.fromisoformat(str(told)).timestamp() * 1000)
    except ValueError:
        return now
