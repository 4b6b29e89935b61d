"""What the verbs are performed with: the service's fold, what was seen while folding, what was shown to reviewers, and the past.

The rule not to break: one room per service, for all threads; it finds and remembers, and decides nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from chimera.commands import agents, verbs, views
from chimera.commands.cards import Sight
from chimera.commands.decision import Answer, Decision, Order, Refused
from chimera.commands.history import History, HistoryUnavailable
from chimera.commands.posts import Posts
from chimera.commands.service import CommandService
from chimera.commands.verbs import Reply, answered
from chimera.errors import ChimeraError
from chimera.events.envelope import Record, record_id
from chimera.events.records import AgentEnrolled
from chimera.events.state import Agent, Ruling
from chimera.events.tenant import Tenant

T = TypeVar("T")

REMEMBERED_SIGHTS = 2000
"""What was shown to reviewers lately: they may take their time, while other things on the card move."""


class Seen:
    """Observer of the fold: the campaigns' story, what was published, and who belongs to which group."""

    def __init__(self) -> None:
        self.story = views.Story()
        self.posts = Posts()
        self.groups: dict[str, list[str]] = {}
        self._watches = True

    def __call__(self, record: Record, ruling: Ruling) -> None:
        """Take in one ruled record."""
        if not self._watches:
            return
        self.story(record, ruling)
        self.posts(record, ruling)
        if ruling.outcome == "applied" and isinstance(record.data, AgentEnrolled):
            self.groups[record.key] = record.data.groups

    def stop(self) -> None:
        """Forget all, and take nothing in any more: for a fold that began in the middle, of which half a story would be told."""
        self.story, self.posts, self.groups, self._watches = views.Story(), Posts(), {}, False


class Room:
    """A service that `seen` observes, and where to ask for what it has not folded. Thread-safe."""

    def __init__(self, service: CommandService, seen: Seen, home: Path, history: History | None) -> None:
        self.service = service
        self.seen = seen
        self.home = home
        self._history = history
        self._shown: OrderedDict[str, Sight] = OrderedDict()
        if not service.whole:
            seen.stop()

    # --- finding -----------------------------------------------------------------------------------------------------

    def fresh(self, find: Callable[[], T]) -> T:
        """What `find` finds in the state; where it finds nothing, once more on the state at the log's very end."""
        self.service.drain()
        try:
            with self.service.still():
                return find()
        except ChimeraError:
            self.service.catch_up()
            with self.service.still():
                return find()

    def agent(self, name: str) -> Agent:
        """The agent of that name. Raises `UnknownAgent`."""
        return agents.find(self.service.agents.values(), name)

    def named(self, names: Iterable[str]) -> list[Agent]:
        """The agents of these names, each once."""
        known = self.service.agents
        return list({agent.key: agent for agent in (agents.find(known.values(), name) for name in names)}.values())

    def tenant(self, name: str | None) -> Tenant:
        """The tenant of that name, or the only one. Raises `Refused` with those that there are. The caller holds the fold still."""
        known = {tenant.tenant: tenant for tenant in self.service.tenants.values()}
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None:
            what = "no tenant: there is none, create one with `chimera tenant create NAME`"
            raise Refused(f"which tenant? there are {', '.join(sorted(known))}: say --tenant NAME" if known else what)
        if name not in known:
            raise Refused(f"no tenant '{name}': there {'are ' + ', '.join(sorted(known)) if known else 'is none'}")
        return known[name]

    def remember(self, sight: Sight) -> Sight:
        """Keep what is shown to somebody, so that their decision can be held against it."""
        with self.service.still():
            self._shown[sight.shown_hash] = sight
            self._shown.move_to_end(sight.shown_hash)
            while len(self._shown) > REMEMBERED_SIGHTS:
                self._shown.popitem(last=False)
        return sight

    def was_shown(self, shown_hash: str) -> Sight | None:
        """What was shown under that digest, if it was shown here."""
        with self.service.still():
            return self._shown.get(shown_hash)

    def order(self, verb: verbs.Wish, agent: Agent, decide: Decision, causation: str = "", correlation: str = "") -> Order:
        """The order that a verb means for one agent."""
        return Order(agent.key, agent.tenant, verb.actor, decide, order_id(verb, agent.key), causation, correlation)

    def submit(self, orders: Sequence[Order], names: Sequence[str]) -> Reply:
        """Orders answered, each under its agent's name."""
        return answered(list(zip(names, self.service.submit_many(orders), strict=True)))

    # --- the past ----------------------------------------------------------------------------------------------------

    def past(
        self, ask: Callable[[History], T], otherwise: Callable[[], T], else_: str = "only what is open now is shown"
    ) -> tuple[T, Reply]:
        """What is not in the fold of a service that began at snapshots: (answer, what to add to the reply).

        Where it cannot be had, `otherwise` makes the answer of the folded states, and the reply says, in the words `else_`,
        that it is not all.
        """
        try:
            if self._history is None:
                raise HistoryUnavailable("this service began at snapshots and knows of no read models")
            lacking = self._history.missing(self.service.offsets)
            found = ask(self._history)
        except HistoryUnavailable as error:
            return otherwise(), {"incomplete": f"{else_}: {error}"}
        return found, {"incomplete": f"the read models lack the newest {lacking} records"} if lacking else {}

    def recalled(self, key: str, id_: str) -> Answer | None:
        """The answer to a command of before the snapshots that this service began at; None where nobody knows of one."""
        if self.service.whole or self._history is None:
            return None
        try:
            found = self._history.ruling(key, id_)
        except HistoryUnavailable:
            return None  # then it is answered like a new command, which the law lets count at most once
        if found is None:
            return None
        reason, place = found["reason"] or "applied before", (int(found["partition"]), int(found["offset"]))
        return Answer(key, id_, str(found["outcome"]), str(reason), int(found["state_version"]), place, 1)


def order_id(verb: verbs.Wish, key: str) -> str:
    """Id of the record that a verb makes in one stream: the same verb sent again makes the same one."""
    return record_id(verb.id, key)
