"""`chimera mcp`: profiles, their servers and pins, what a call would send, and Chimera's own reading MCP server.

The rule not to break: nothing here calls a tool. Servers are asked what they list; effects leave through the gate process alone.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.drift import (
    DRIFTED,
    as_pinned,
    close_switch,
    make_stale,
    print_stale,
    print_verified,
    stopped_tools,
    verified,
    why,
)
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, YesOption
from chimera.cli.profiled import addresses, asked, named, one, path_of, profiles_of
from chimera.errors import ChimeraError
from chimera.mcp import pin as pins
from chimera.mcp.gate import Gate
from chimera.mcp.pins import pins_path, write_pins
from chimera.mcp.places import SANDBOX_MEDIA
from chimera.mcp.profiles import BadArguments
from chimera.mcp.records import ToolCallRecord
from chimera.settings import Settings

app = typer.Typer(help="MCP profiles, their servers and pins; dry runs; Chimera's own MCP server.", no_args_is_help=True)
Mode = Literal["sandbox", "live"]
ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name, as `chimera mcp list` shows it.")]
ProfilesArgument = Annotated[list[str] | None, typer.Argument(metavar="[PROFILE...]", help="Profiles; all when none is named.")]
ModeOption = Annotated[Mode, typer.Option("--mode", help="Which server of the profile: sandbox or live.")]
TOKEN = "CHIMERA_MCP_TOKEN"
SHORTEST_TOKEN = 32
PINNED_ANEW = "pinned anew"


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Profiles: what they offer, on which platform, and which of several serves a family of capabilities."""
    settings = Settings()
    profiles, known = profiles_of(settings), addresses(settings)
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
    known = one(profiles_of(settings), profile)
    listed = asked(lambda path, home: pins.listed_tools(path, addresses(settings), home=home, mode=mode), settings, profile)
    rows = [
        {
            "tool": tool["name"],
            "arguments": sorted(tool["inputSchema"].get("properties", {})),
            "pinned": as_pinned(known, tool),
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
    rows = [verified(settings, name, mode) for name in named(settings, profiles)]
    drifted = [f"tool:{row['profile']}.{tool}" for row in rows for tool in row["drift"]]
    stopped = [] if dry_run or not quarantine else [close_switch(settings, scope, actor) for scope in drifted]
    stale = [] if dry_run or not quarantine else [each for row in rows for each in make_stale(settings, row, DRIFTED, actor)]
    if as_json:
        would = drifted if quarantine else []
        output.print_json({"mode": mode, "profiles": rows, "quarantined": stopped, "would_quarantine": would, "stale": stale})
    else:
        print_verified(rows, stopped, drifted if quarantine and dry_run else [])
        print_stale(stale)
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
    rows = [verified(settings, name, mode) for name in profiles]
    broken = next((row["error"] for row in rows if row["error"]), None)
    if broken:
        raise ChimeraError(broken)
    changed = [row["profile"] for row in rows if row["drift"]]
    stale: list[dict[str, Any]] = []
    if not as_json:
        print_verified(rows, [], [])
    if changed and not dry_run:
        if not yes and not typer.confirm(f"Pin {', '.join(changed)} as they are now?"):
            raise typer.Exit(output.NOT_COUNTED)
        for name in changed:
            path = path_of(settings, name)
            text = asked(lambda path, home: pins.live_pins(path, addresses(settings), home=home, mode=mode), settings, name)
            write_pins(pins_path(path), pins.as_text(text))
        for row in rows:
            stale += make_stale(settings, row, PINNED_ANEW, actor)
    if as_json:
        output.print_json({"profiles": rows, "pinned": [] if dry_run else changed, "stale": stale})
    else:
        print_stale(stale)


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Whether the servers of this installation answer, list the pinned tools, and which tools a closed switch stops, and why.

    Exit 1 where one is away, drifted or quarantined. Example: chimera mcp status --json
    """
    settings = Settings()
    known, stopped = addresses(settings), stopped_tools(settings)
    rows = [verified(settings, name, "sandbox") | {"address": known.get(f"{name}_url", "launched over stdio")}
            for name in named(settings, None)]  # fmt: skip
    for row in rows:
        row["stopped"] = {tool: why for tool, why in stopped.items() if tool.partition(".")[0] == row["profile"]}
        row["is"] = "away" if row["error"] else "drifted" if row["drift"] else "quarantined" if row["stopped"] else "well"
    if as_json:
        output.print_json({"servers": rows})
    else:
        cells = [(row["profile"], Text(row["is"], "green" if row["is"] == "well" else "red"), row["address"], why(row))
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
    profiles = profiles_of(settings)
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
