"""`chimera mcp`: profiles, their servers and pins, what a call would send, and Chimera's own reading MCP server.

The rule not to break: nothing here calls a tool. Servers are asked what they list; effects leave through the gate process alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, YesOption
from chimera.errors import ChimeraError
from chimera.mcp import pin as pins
from chimera.mcp.gate import Gate
from chimera.mcp.pins import closed, pins_path, tool_sha256, write_pins
from chimera.mcp.places import SANDBOX_MEDIA
from chimera.mcp.profiles import PROFILES_DIR, BadArguments, Profile, Profiles, load_profiles, read_profile
from chimera.mcp.records import ToolCallRecord
from chimera.mcp.spec import ProfileError
from chimera.settings import Settings
from chimera.stack import addresses as stack_addresses

app = typer.Typer(help="MCP profiles, their servers and pins; dry runs; Chimera's own MCP server.", no_args_is_help=True)
Mode = Literal["sandbox", "live"]
ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name, as `chimera mcp list` shows it.")]
ProfilesArgument = Annotated[list[str] | None, typer.Argument(metavar="[PROFILE...]", help="Profiles; all when none is named.")]
ModeOption = Annotated[Mode, typer.Option("--mode", help="Which server of the profile: sandbox or live.")]
TOKEN = "CHIMERA_MCP_TOKEN"
SHORTEST_TOKEN = 32
DRIFTED = "the server's schema is not the pinned one"
PINNED_ANEW = "pinned anew"


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Profiles: what they offer, on which platform, and which of several serves a family of capabilities."""
    settings = Settings()
    profiles, known = _profiles(settings), _addresses(settings)
    rows: list[dict[str, Any]] = []
    for name, profile in sorted(profiles.by_name.items()):
        serves = sorted(family for family, chosen in profiles.chosen.items() if chosen == name)
        modes = {mode: known.get(server.address or "", "launched over stdio" if server.stdio else "no address")
                 for mode, server in profile.spec.servers.items()}  # fmt: skip
        row = {"profile": name, "platform": profile.spec.platform, "capabilities": sorted(profile.spec.capabilities)}
        rows.append(row | {"serves": serves, "servers": modes})
    if as_json:
        output.print_json({"profiles": rows})
        return
    cells = [
        (
            row["profile"],
            row["platform"] or "-",
            " ".join(map(str, row["capabilities"])),
            " ".join(row["serves"]) or "-",
            "; ".join(f"{mode}: {where}" for mode, where in row["servers"].items()),
        )
        for row in rows
    ]  # fmt: skip
    columns = ("profile", "platform", "capabilities", "chosen for", "servers")
    output.console().print(output.table(f"{len(rows)} profiles", columns, cells))


@app.command()
def tools(profile: ProfileArgument, mode: ModeOption = "sandbox", as_json: JsonOption = False) -> None:
    """The tools that a profile's server lists now, which of them are pinned, and whether they are as pinned."""
    settings = Settings()
    known = _one(_profiles(settings), profile)
    listed = _asked(lambda path, home: pins.listed_tools(path, _addresses(settings), home=home, mode=mode), settings, profile)
    rows = [
        {
            "tool": tool["name"],
            "arguments": sorted(tool["inputSchema"].get("properties", {})),
            "pinned": _as_pinned(known, tool),
            "used_by": sorted(name for name, spec in known.spec.capabilities.items() if spec.tool == tool["name"]),
        }
        for tool in listed
    ]
    if as_json:
        output.print_json({"profile": profile, "mode": mode, "tools": rows})
        return
    cells = [(row["tool"], " ".join(row["arguments"]) or "-", row["pinned"], " ".join(row["used_by"]) or "-") for row in rows]
    output.console().print(output.table(f"{len(rows)} tools", ("tool", "arguments", "pinned", "used by"), cells))


@app.command()
def verify(
    profiles: ProfilesArgument = None,
    mode: ModeOption = "sandbox",
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Close the kill switch of each tool that drifted.")] = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what servers list now with the pins. Exit 3 where one drifted, 1 where one does not answer.

    A drifted tool is never called, whatever is done here. --quarantine also closes its kill switch, and makes what waits for
    it stale: cards of it are made anew and say why. So it waits visibly until somebody has looked, pinned anew (`chimera mcp
    pin`) and opened it again (`chimera switch open tool:PROFILE.TOOL`).

    Example: chimera mcp verify x --mode live --quarantine --dry-run
    """
    settings = Settings()
    rows = [_verified(settings, name, mode) for name in _named(settings, profiles)]
    drifted = [f"tool:{row['profile']}.{tool}" for row in rows for tool in row["drift"]]
    stopped = [] if dry_run or not quarantine else [_stop(settings, scope, actor) for scope in drifted]
    stale = [] if dry_run or not quarantine else [each for row in rows for each in _stale(settings, row, DRIFTED, actor)]
    if as_json:
        would = drifted if quarantine else []
        output.print_json({"mode": mode, "profiles": rows, "quarantined": stopped, "would_quarantine": would, "stale": stale})
    else:
        _print_verified(rows, stopped, drifted if quarantine and dry_run else [])
        _print_stale(stale)
    if any(row["error"] for row in rows):
        raise typer.Exit(output.FAILURE)
    if drifted:
        raise typer.Exit(output.NOT_COUNTED)


@app.command()
def pin(
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE...", help="Profiles to pin anew.")],
    mode: ModeOption = "sandbox",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the pins of profiles from their servers as they are now, after showing what changed. A person's decision.

    Running processes read them within a second. What waits and was rendered for the old pins becomes stale: it is rendered
    and judged anew. Example: chimera mcp pin x --dry-run
    """
    settings = Settings()
    rows = [_verified(settings, name, mode) for name in profiles]
    broken = next((row["error"] for row in rows if row["error"]), None)
    if broken:
        raise ChimeraError(broken)
    changed = [row["profile"] for row in rows if row["drift"]]
    stale: list[dict[str, Any]] = []
    if not as_json:
        _print_verified(rows, [], [])
    if changed and not dry_run:
        if not yes and not typer.confirm(f"Pin {', '.join(changed)} as they are now?"):
            raise typer.Exit(output.NOT_COUNTED)
        for name in changed:
            path = _path(settings, name)
            text = _asked(lambda path, home: pins.live_pins(path, _addresses(settings), home=home, mode=mode), settings, name)
            write_pins(pins_path(path), pins.as_text(text))
        for row in rows:
            stale += _stale(settings, row, PINNED_ANEW, actor)
    if as_json:
        output.print_json({"profiles": rows, "pinned": [] if dry_run else changed, "stale": stale})
    else:
        _print_stale(stale)


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Whether the servers of this installation answer, list the pinned tools, and which tools a closed switch stops, and why.

    Exit 1 where one is away, drifted or quarantined. Example: chimera mcp status --json
    """
    settings = Settings()
    known, stopped = _addresses(settings), _stopped(settings)
    rows = [_verified(settings, name, "sandbox") | {"address": known.get(f"{name}_url", "launched over stdio")}
            for name in _named(settings, None)]  # fmt: skip
    for row in rows:
        row["stopped"] = {tool: why for tool, why in stopped.items() if tool.partition(".")[0] == row["profile"]}
        row["is"] = "away" if row["error"] else "drifted" if row["drift"] else "quarantined" if row["stopped"] else "well"
    if as_json:
        output.print_json({"servers": rows})
    else:
        cells = [(row["profile"], Text(row["is"], "green" if row["is"] == "well" else "red"), row["address"], _why(row))
                 for row in rows]  # fmt: skip
        output.console().print(output.table(f"{len(rows)} servers", ("profile", "is", "address", "why"), cells))
    if any(row["is"] != "well" for row in rows):
        raise typer.Exit(output.FAILURE)


@app.command()
def call(
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help="e.g. social.publish, image.generate, search.web.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Needed: nothing is ever sent from here.")] = False,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; JSON or words.")
    ] = None,
    platform: Annotated[str | None, typer.Option("--platform", help="Where several platforms offer it.")] = None,
    mode: ModeOption = "live",
    account: Annotated[str | None, typer.Option("--account", help="For whose account.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a call would send: profile, tool, rendered arguments, class and price, past schema, egress and switches.

    Exit 3 where it would be refused. Example: chimera mcp call social.publish --dry-run --platform x -i text='A boat.'
    -i disclosure_level=automated
    """
    if not dry_run:
        raise output.usage("calls are made by the gate, for effects that were decided: add --dry-run to see what one would send")
    settings = Settings()
    profiles = _profiles(settings)
    try:
        rendered = profiles.render(capability, _inputs(inputs or []), platform=platform, mode="dry_run" if mode == "live" else mode)
    except BadArguments as error:
        if as_json:
            output.print_json({"outcome": "refused", "reason": "bad_arguments", "detail": str(error)})
        else:
            output.console(stderr=True).print(Text(f"refused: {error}", "yellow"))
        raise typer.Exit(output.NOT_COUNTED) from None

    async def nobody(record: ToolCallRecord) -> None:
        return None

    async def ask() -> Any:
        base = SANDBOX_MEDIA if mode == "sandbox" else settings.media_url
        gate = Gate(profiles, {}, on_call=nobody, home=settings.home, media=settings.media, media_url=base)
        async with gate:
            return await gate.send(replace(rendered, mode="dry_run"), agent="-", tenant="-", account=account, idempotency_key="-")

    said = asyncio.run(ask())
    would = said.reason == "dry_run"
    shown = rendered.to_json() | {"arguments_sha256": rendered.arguments_sha256, "mode": mode}
    if as_json:
        told = {"outcome": "would be sent"} if would else {"outcome": "refused", "reason": said.reason, "detail": said.detail}
        output.print_json(told | {"call": shown})
    else:
        lines = {name: value for name, value in shown.items() if name != "arguments"}
        output.console().print(output.pairs("would be sent" if would else f"refused: {said.reason}: {said.detail}", lines))
        output.console().print_json(data=shown["arguments"])
    if not would:
        raise typer.Exit(output.NOT_COUNTED)


@app.command()
def serve(
    http: Annotated[bool, typer.Option("--http", help="Streamable HTTP at /mcp instead of stdio.")] = False,
    host: Annotated[str, typer.Option("--host", help="With --http: where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="With --http: the port; 0 takes a free one.")] = 0,
) -> None:
    """Chimera's own MCP server: fleet status, waiting cards, traces and sample questions, to read and nothing else.

    Over stdio for a local program; over HTTP for who shows the token in CHIMERA_MCP_TOKEN (at least 32 signs).
    """
    from chimera.cli.reading import readers
    from chimera.mcp.own import own_server, serve_http
    from chimera.mcp.sandbox.serving import serve_stdio

    server = own_server(readers(Settings()))
    if not http:
        asyncio.run(serve_stdio(server))
        return
    token = os.environ.get(TOKEN, "")
    if len(token) < SHORTEST_TOKEN:
        raise ChimeraError(f"{TOKEN} holds no token of at least {SHORTEST_TOKEN} signs: set it (openssl rand -hex 32)")
    asyncio.run(serve_http(server, host, port, token, lambda address: print(address, flush=True)))


# --- parts -----------------------------------------------------------------------------------------------------------


def _profiles(settings: Settings) -> Profiles:
    try:
        return load_profiles(settings.profiles or PROFILES_DIR, providers=settings.providers)
    except ProfileError as error:
        raise ChimeraError(str(error)) from error


def _one(profiles: Profiles, name: str) -> Profile:
    if name not in profiles.by_name:
        raise output.usage(f"there is no profile '{name}': use one of {', '.join(sorted(profiles.by_name))}")
    return profiles.by_name[name]


def _path(settings: Settings, name: str) -> Path:
    return (settings.profiles or PROFILES_DIR) / f"{name}.yaml"


def _named(settings: Settings, names: list[str] | None) -> list[str]:
    """The profiles that were named; else those that this installation uses."""
    profiles = _profiles(settings)
    for name in names or []:
        _one(profiles, name)
    played = set(profiles.chosen.values()) | {"x", "feeds", "writer", "instagram"}
    played |= {"embeddings"} if settings.embedding == "endpoint" else set()
    return names or sorted(played & set(profiles.by_name))


def _addresses(settings: Settings) -> dict[str, str]:
    running = stack_addresses.running_stack(settings.home).get("mcp", {})
    return {f"{name}_url": url for name, url in {**running, **stack_addresses.mcp_overrides(settings)}.items()}


def _asked(ask: Callable[[Path, Path], Coroutine[Any, Any, Any]], settings: Settings, name: str) -> Any:
    """What a profile's server says. What is launched for it lives in a folder of its own. Raises ChimeraError."""
    _one(_profiles(settings), name)
    with tempfile.TemporaryDirectory() as home:
        try:
            return asyncio.run(ask(_path(settings, name), Path(home)))
        except ProfileError as error:
            raise ChimeraError(str(error)) from error


def _verified(settings: Settings, name: str, mode: str) -> dict[str, Any]:
    """One profile: what drifted, tool by tool, or why its server does not say."""
    pinned = orjson.loads(pins_path(_path(settings, name)).read_bytes())
    try:
        listed = _asked(lambda path, home: pins.listed_tools(path, _addresses(settings), home=home, mode=mode), settings, name)
    except ChimeraError as error:
        return {"profile": name, "drift": {}, "error": str(error), "listed": {}}
    wanted = {spec.tool for spec in read_profile(_path(settings, name)).capabilities.values()}
    there = {tool["name"]: {"sha256": tool_sha256(tool), "schema": closed(tool["inputSchema"])} for tool in listed}
    now = {"tools": {tool: entry for tool, entry in there.items() if tool in wanted}}
    drift = pins.differences(pinned, now)
    found = {tool: there[tool]["sha256"] if tool in there else "" for tool in drift}
    return {"profile": name, "drift": drift, "error": "", "listed": found}


def _as_pinned(profile: Profile, tool: dict[str, Any]) -> str:
    pinned = profile.tools.get(tool["name"])
    return "-" if pinned is None else "as pinned" if pinned.sha256 == tool_sha256(tool) else "drifted"


def _stopped(settings: Settings) -> dict[str, str]:
    """`profile.tool` -> who stopped it and why, for each closed switch of a tool; empty where no stack runs."""
    from chimera.commands import switches

    try:
        board = switches.board(settings)
    except ChimeraError as error:
        output.note(f"which tools are stopped cannot be told: {error}")
        return {}
    closed_ = [each for each in board.switches.values() if each.closed and each.scope.startswith("tool:")]
    return {each.scope.removeprefix("tool:"): f"{each.reason or 'no reason given'} ({each.by})" for each in closed_}


def _why(row: dict[str, Any]) -> str:
    drifted = [f"{tool}: {'; '.join(lines)}" for tool, lines in row["drift"].items()]
    held = [f"{tool} is stopped: {why}" for tool, why in row["stopped"].items()]
    told = [row["error"], *drifted, *held]
    return "\n".join(output.visible(line) for line in told if line) or "-"


def _stop(settings: Settings, scope: str, actor: str | None) -> dict[str, Any]:
    from chimera.commands import switches

    answer = switches.set_switch(
        settings, scope, closed=True, reason="its schema is not the pinned one", actor=actor or settings.actor
    )  # fmt: skip
    return answer._asdict()


def _stale(settings: Settings, row: dict[str, Any], reason: str, actor: str | None) -> list[dict[str, Any]]:
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


def _print_stale(stale: list[dict[str, Any]]) -> None:
    for each in stale:
        output.console().print(Text(f"what waits of {each['agent']} is made anew: {each['outcome']} {each['reason']}".rstrip()))


def _print_verified(rows: list[dict[str, Any]], stopped: list[dict[str, Any]], would: list[str]) -> None:
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


def _inputs(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs; a value that is JSON (a number, true, a list) is read as such, everything else is words."""
    inputs: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise output.usage(f"--input {pair!r}: write it as name=value")
        try:
            inputs[name] = orjson.loads(value) if value[:1] in '[{"' or value in ("true", "false") else value
        except orjson.JSONDecodeError:
            inputs[name] = value
    return inputs
