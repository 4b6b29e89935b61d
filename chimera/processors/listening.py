"""Listening: what outside people say to an agent comes into its log, one record per poll that found something.

Which lists there are (mentions, private messages), how they are read and how one answers stands in the profiles (`hears`); how
often they are asked for stands in the policy, and never oftener than their rate limit bears. The rule
not to break: words and names of people are sealed before they reach the log, and all of it is `open` taint.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from chimera.commands.subjects import SubjectForgotten
from chimera.events.records import Signal, SignalObserved
from chimera.events.sealed import SubjectKeys, seal, subject_of
from chimera.events.state import MAX_HEARD, Agent
from chimera.mcp.profiles import Profiles
from chimera.mcp.results import at
from chimera.mcp.spec import Hears
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


class Said(NamedTuple):
    """One item of a list, read: texts as the platform gives them; `address` is how the list itself names the author."""

    id: str
    thread: str
    author: str
    address: str
    text: str
    at: str


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
        for place, pause in agent.policy.inline.listen_ms.items():
            platform, _, room = place.partition("/")
            account = agent.accounts.get(platform)
            if account is not None:
                for capability in self._profiles.hearing(platform, room):
                    yield f"{platform}/{capability}", capability, account, max(pause, self._profiles.quota_ms(capability, platform))

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
        signals = [self._signal(job, hears, item, tools.broker_now()) for item in items]
        return Answer(SignalObserved(source=f["source"], number=job.number, cursor=items[-1].id, items=signals))

    async def _ask(self, job: Job, hears: Hears, tools: Tools) -> tuple[list[Said], bool] | None:
        """New items, oldest first, at most MOST_ITEMS, and whether that is all; None where the platform did not answer."""
        f = job.facts
        inputs: dict[str, Any] = {"max_results": hears.page}
        me: str | None = None
        if hears.me is not None:
            me = self._me.get((f["platform"], f["account"]))
            if me is None:
                told = await tools.tool(job, hears.me, {}, f["account"], f["platform"])
                if told.result != "ok" or not told.platform_id:
                    log.warning("%s hears nothing from %s: %s %s", job.agent, f["source"], told.reason, told.detail)
                    return None
                me = self._me[(f["platform"], f["account"])] = told.platform_id
            if hears.mine is None:
                inputs["id"] = me
        if f["cursor"] and hears.next is None:
            inputs["since_id"] = f["cursor"]
        found: list[Said] = []
        for _ in range(MOST_PAGES):
            outcome = await tools.tool(job, f["capability"], inputs, f["account"], f["platform"])
            if outcome.result != "ok":
                log.warning("%s hears nothing from %s: %s %s", job.agent, f["source"], outcome.reason, outcome.detail)
                return None
            listed = at(outcome.data, hears.items)
            page = listed if isinstance(listed, list) else []
            if hears.next is None:
                read = _read(page, hears, outcome.data, me)
                found += [said for said in read if self._may_be_heard(job, said)]
                if len(page) < hears.page or not read:
                    break
                inputs["until_id"] = read[-1].id
            else:
                newer = [item for item in page if _after(at(item, hears.id), f["cursor"])]
                found += [said for said in _read(newer, hears, outcome.data, me) if self._may_be_heard(job, said)]
                token = at(outcome.data, hears.next)
                if len(newer) < len(page) or not isinstance(token, str):
                    break
                inputs["pagination_token"] = token
        else:
            log.warning("%s: more than %d new items in %s: the oldest are not read", job.agent, len(found), f["source"])
        found.reverse()  # platforms list the newest first
        return found[:MOST_ITEMS], len(found) <= MOST_ITEMS

    def _may_be_heard(self, job: Job, said: Said) -> bool:
        """Not of somebody who asked to be forgotten: nothing of theirs is kept again, and what others say is heard all the same."""
        try:
            self._subjects.key_for(subject_of(job.tenant, job.facts["platform"], said.author))
        except SubjectForgotten:
            return False
        return True

    def _signal(self, job: Job, hears: Hears, item: Said, now: int) -> Signal:
        platform = job.facts["platform"]
        subject = subject_of(job.tenant, platform, item.author)
        addressed = "address" in hears.answer.inputs.values()
        return Signal(
            thread=thread_of(platform, hears.room, item.thread),
            external_id=item.id,
            author=seal(self._subjects, subject, item.author),
            address=seal(self._subjects, subject, item.address) if addressed else None,
            text=seal(self._subjects, subject, item.text.replace("\0", "")[:MOST_TEXT]),
            observed_at=_ms(item.at, now),
        )


def thread_of(platform: str, room: str, told: str) -> str:
    """The thread as aspects name it. That of a private room is told by a digest: its own name names the people in it."""
    return f"{platform}:{room}:{hashlib.sha256(told.encode()).hexdigest()[:24]}" if room else f"{platform}:{told}"


def _read(page: list[Any], hears: Hears, data: Any, me: str | None) -> list[Said]:
    """The items that say who said what where and are somebody's to answer, in the list's order."""
    names: dict[str, str] = {}
    if hears.people is not None:
        people = at(data, hears.people.items)
        names = {str(at(who, hears.people.id)): str(at(who, hears.people.name)) for who in people or () if isinstance(who, dict)}
    items = []
    for item in page:
        parts = [at(item, path) for path in (hears.id, hears.thread, hears.author, hears.text)]
        if not all(isinstance(part, str | int) and str(part) for part in parts):
            continue
        if hears.mine is not None and str(at(item, hears.mine)) == me:
            continue
        if all(re.fullmatch(pattern, str(at(item, path))) for path, pattern in hears.only.items()):
            id_, thread, address, text = (str(part) for part in parts)
            items.append(Said(id_, thread, names.get(address, address), address, text, str(at(item, hears.at))))
    return items


def _after(id_: Any, cursor: str) -> bool:
    """Ids grow with time: is this one newer than the cursor, if there is one? One that is no number is taken for new."""
    text = str(id_)
    return not (cursor.isdecimal() and text.isdecimal()) or int(text) > int(cursor)


def _ms(told: str, now: int) -> int:
    try:
        return int(datetime.fromisoformat(told).timestamp() * 1000)
    except ValueError:
        return now
