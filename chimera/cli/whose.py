"""Asking platforms whose credentials are: a gate for one command, with the same switches and the same log of calls as the swarm's.

The rule not to break: it only reads. What a kill switch closes is not asked.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from chimera.commands.keys import load_installation
from chimera.errors import ChimeraError
from chimera.eventlog import switches
from chimera.eventlog.append import Appender
from chimera.eventlog.topics import load_topics
from chimera.mcp.gate import Gate
from chimera.mcp.guards import CallPlace
from chimera.mcp.profiles import load_profiles
from chimera.mcp.records import ToolCallRecord
from chimera.mcp.whose import Whose, whose
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka, mcp_urls

log = logging.getLogger(__name__)

CALLS = "chimera.calls"


async def ask_all(settings: Settings, accounts: Sequence[Mapping[str, Any]], mode: str) -> list[Whose]:
    """Whose the credential of each account is, in their order. `accounts`: rows of `account.list`.

    Raises `ChimeraError` where the switches or the log of calls cannot be reached: then nobody is asked.
    """
    async with reading_gate(settings, accounts) as gate:
        return [
            await whose(gate, row["platform"], row["account"], agent=row["stream"], tenant=row["tenant"], mode=mode)
            for row in accounts
        ]


@asynccontextmanager
async def reading_gate(settings: Settings, accounts: Sequence[Mapping[str, Any]]) -> AsyncIterator[Gate]:
    """A gate with the credentials of these accounts (rows of `account.list`), for as long as the block lasts.

    Raises `ChimeraError` where the switches or the log of calls cannot be reached: then nobody is asked.
    """
    bootstrap = load_kafka(settings)
    keys = switches.read_keys(bootstrap, load_installation(settings.home).root_public)
    if keys is None:
        raise ChimeraError("no law says whose kill switches count: run `chimera keys init` first")
    board = switches.read_board(bootstrap, keys)

    async def stops(place: CallPlace) -> str | None:
        scopes = switches.scopes_of(
            agent=place.agent, tenant=place.tenant, platform=place.platform, account=place.account, tool=place.tool
        )
        return board.closed_by(scopes)

    references = {(row["stream"], row["platform"]): row["secret_ref"] or None for row in accounts}
    with Appender(bootstrap, load_topics().only(CALLS), "chimera-verify") as appender:

        async def told(call: ToolCallRecord) -> None:
            await appender.append(CALLS, call.agent, orjson.dumps(call.to_json()), [("ce_type", b"ToolCalled")])

        async with AsyncExitStack() as stack:
            gate = Gate(
                load_profiles() if settings.profiles is None else load_profiles(settings.profiles),
                mcp_urls(settings),
                on_call=told,
                home=settings.home,
                switch=stops,
                credential=lambda agent, platform: references.get((agent, platform or "")),
            )
            yield await stack.enter_async_context(gate)
