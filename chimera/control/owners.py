"""Whose an agent or a card is: asked before anything of it is shown or done.

The rule not to break: what is not found has no owner, and an owner is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from psycopg import AsyncConnection, OperationalError
from psycopg_pool import PoolTimeout

from chimera.commands import verbs
from chimera.commands.cards import BadCard, parse_card
from chimera.commands.client import CommandFailed
from chimera.commands.decision import Refused
from chimera.control.asking import Asking

Reading = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]

_TENANTS = "SELECT DISTINCT a.tenant FROM analytics_v1.agents a WHERE a.agent = %(name)s OR a.agent_id = %(name)s ORDER BY a.tenant"


class Owners:
    """Asks the read models, and the command service where they do not know the agent yet, or are away."""

    def __init__(self, reading: Reading, asking: Asking) -> None:
        self._reading, self._asking = reading, asking

    async def of_agent(self, name: str) -> Sequence[str]:
        """The tenants that have an agent of that name or stream key; none where nobody has."""
        return await self._in_rows(name) or await self._in_log(name)

    async def of_card(self, card: str) -> Sequence[str]:
        """The tenants that a card may be of: those of its agent. None for what is no card."""
        try:
            return await self.of_agent(parse_card(card).agent)
        except BadCard:
            return ()

    async def _in_rows(self, name: str) -> tuple[str, ...]:
        try:
            async with self._reading() as connection:
                rows = await (await connection.execute(_TENANTS, {"name": name})).fetchall()
        except (OperationalError, PoolTimeout):
            return ()  # the log knows it too
        return tuple(tenant for (tenant,) in rows)

    async def _in_log(self, name: str) -> tuple[str, ...]:
        try:
            return ((await self._asking.ask(verbs.AgentShow(name=name)))["tenant"],)
        except (Refused, CommandFailed, LookupError):
            return ()  # nobody is called that, or several are: of whom the rows tell
