"""Drift: what servers list now held against the pins, what it stops and makes stale, and how it is shown.

The rule not to break: looking changes nothing. A switch is closed and cards are made anew by `close_switch` and `make_stale` alone.
"""

from __future__ import annotations

from typing import Any

import orjson
from rich.text import Text

from chimera.cli import output
from chimera.cli.profiled import addresses, asked, path_of
from chimera.errors import ChimeraError
from chimera.mcp import pin as pins
from chimera.mcp.pins import closed, pins_path, tool_sha256
from chimera.mcp.profiles import Profile, read_profile
from chimera.settings import Settings
from chimera.stack import addresses as stack_addresses

DRIFTED = "the server's schema is not the pinned one"


def verified(settings: Settings, name: str, mode: str) -> dict[str, Any]:
    """One profile: what drifted, tool by tool, or why its server does not say."""
    pinned = orjson.loads(pins_path(path_of(settings, name)).read_bytes())
    try:
        listed = asked(lambda path, home: pins.listed_tools(path, addresses(settings), home=home, mode=mode), settings, name)
    except ChimeraError as error:
        return {"profile": name, "drift": {}, "error": str(error), "listed": {}}
    wanted = {spec.tool for spec in read_profile(path_of(settings, name)).capabilities.values()}
    there = {tool["name"]: {"sha256": tool_sha256(tool), "schema": closed(tool["inputSchema"])} for tool in listed}
    now = {"tools": {tool: entry for tool, entry in there.items() if tool in wanted}}
    drift = pins.differences(pinned, now)
    found = {tool: there[tool]["sha256"] if tool in there else "" for tool in drift}
    return {"profile": name, "drift": drift, "error": "", "listed": found}


def as_pinned(profile: Profile, tool: dict[str, Any]) -> str:
    """Is a tool that the server lists as it was pinned? "-": it is not pinned."""
    pinned = profile.tools.get(tool["name"])
    return "-" if pinned is None else "as pinned" if pinned.sha256 == tool_sha256(tool) else "drifted"


def stopped_tools(settings: Settings) -> dict[str, str]:
    """`profile.tool` -> who stopped it and why, for each closed switch of a tool; empty where no stack runs."""
    from chimera.commands import switches

    try:
        board = switches.board(settings)
    except ChimeraError as error:
        output.note(f"which tools are stopped cannot be told: {error}")
        return {}
    closed_ = [each for each in board.switches.values() if each.closed and each.scope.startswith("tool:")]
    return {each.scope.removeprefix("tool:"): f"{each.reason or 'no reason given'} ({each.by})" for each in closed_}


def why(row: dict[str, Any]) -> str:
    """What keeps a profile's server from being well, a line each; "-" where nothing does."""
    drifted = [f"{tool}: {'; '.join(lines)}" for tool, lines in row["drift"].items()]
    held = [f"{tool} is stopped: {why}" for tool, why in row["stopped"].items()]
    told = [row["error"], *drifted, *held]
    return "\n".join(output.visible(line) for line in told if line) or "-"


def close_switch(settings: Settings, scope: str, actor: str | None) -> dict[str, Any]:
    """Stop a tool that drifted, and say what came of it."""
    from chimera.commands import switches

    answer = switches.set_switch(
        settings, scope, closed=True, reason="its schema is not the pinned one", actor=actor or settings.actor
    )  # fmt: skip
    return answer._asdict()


def make_stale(settings: Settings, row: dict[str, Any], reason: str, actor: str | None) -> list[dict[str, Any]]:
    """Make what waits for the drifted tools of a profile stale; agent by agent, what came of it. Empty where no stack runs."""
    from chimera.cli.folding import open_desk
    from chimera.commands import verbs

    if not row["drift"]:
        return []
    wish = verbs.wish(verbs.ToolStale, actor or settings.actor, profile=row["profile"], pins=row["listed"], reason=reason)
    try:
        with open_desk(settings) as desk:
            answers = verbs.answers_of(desk.ask(wish))
    except stack_addresses.StackDown:
        output.note(f"no stack runs here: what waits for {row['profile']} is refused when it is called, and made anew then")
        return []
    return [{"agent": name, "outcome": answer.outcome, "reason": answer.reason} for name, answer in answers]


def print_stale(stale: list[dict[str, Any]]) -> None:
    """What came of making work stale, a line for each agent."""
    for each in stale:
        output.console().print(Text(f"what waits of {each['agent']} is made anew: {each['outcome']} {each['reason']}".rstrip()))


def print_verified(rows: list[dict[str, Any]], stopped: list[dict[str, Any]], would: list[str]) -> None:
    """Each profile with its drift; which switches were closed, and which would be."""
    out = output.console()
    for row in rows:
        word = Text("away", "red") if row["error"] else Text("drifted", "red") if row["drift"] else Text("as pinned", "green")
        out.print(Text.assemble(f"{row['profile']}: ", word, f"  {row['error']}" if row["error"] else ""))
        for tool, lines in row["drift"].items():
            for line in lines:
                out.print(Text(output.visible(f"  {tool}: {line}")))
    for answer in stopped:
        out.print(Text(f"closed {answer['scope']}: {answer['outcome']}"))
    for scope in would:
        out.print(Text(f"would close {scope}"))
