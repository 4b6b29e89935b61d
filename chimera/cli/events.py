"""`chimera events`: the log as it is: tail it, show one record with its ruling, trace what caused what.

The rule not to break: every line says how the law ruled; what was void is shown as void, never left out silently.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import orjson
import typer
from rich.json import JSON
from rich.text import Text
from rich.tree import Tree

from chimera.cli import output
from chimera.cli.output import JsonOption
from chimera.commands import agents, trace
from chimera.commands.cards import Address, BadCard, parse_card
from chimera.commands.keys import PARTITIONS
from chimera.commands.service import CommandService
from chimera.commands.trace import Node, Ruled
from chimera.commands.wiring import open_service
from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import partition_for
from chimera.events.envelope import Record
from chimera.events.records import ALL
from chimera.events.state import Change, Ruling
from chimera.settings import Settings

app = typer.Typer(help="The log: tail it, show a record with its ruling, trace what caused what.", no_args_is_help=True)

_STYLES = {"applied": "green", "rejected": "red", "void": "dim"}
_TYPES = {model.TYPE for model in ALL}


@app.command()
def tail(
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many records from before to begin with.")] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f/-F", help="Go on as the log grows, until Ctrl-C.")] = True,
    agent: Annotated[str | None, typer.Option("--agent", help="Only this agent.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only this record type.")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="Only applied, rejected or void.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The newest records with their rulings. With --json one object per line."""
    if type_ is not None and type_ not in _TYPES:
        raise output.usage(f"--type {type_}{agents.near(type_, _TYPES)}")
    if outcome not in (None, "applied", "rejected", "void"):
        raise output.usage(f"--outcome {outcome}: use applied, rejected or void")
    recent: dict[str, deque[Ruled]] = {}
    waiting: list[Ruled] = []
    key: str | None = None
    live = False

    def take(record: Record, ruling: Ruling) -> None:
        if type_ not in (None, record.type) or outcome not in (None, ruling.outcome) or key not in (None, record.key):
            return
        if live:
            waiting.append(Ruled(record, ruling))
        else:
            recent.setdefault(record.key, deque(maxlen=lines)).append(Ruled(record, ruling))

    with open_service(Settings(), observe=take) as service:
        if agent is not None:
            key = agents.find(service.agents.values(), agent).key
        before = [ruled for stream, kept in recent.items() if key in (None, stream) for ruled in kept]
        # Partitions are read in turns; broker time is what puts their records into one order.
        before.sort(key=lambda r: (r.record.append_ts, r.record.partition, r.record.offset))
        live = True
        _print_lines(service, before[len(before) - lines :] if lines else [], as_json)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how a tail ends
            while follow:
                service.follow(0.5)
                _print_lines(service, waiting, as_json)
                waiting.clear()


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="RECORD", help="A record's id, or <partition>:<offset>.")],
    as_json: JsonOption = False,
) -> None:
    """One record: headers, content, and what the law said of it."""
    place = _place(what)
    found: list[Ruled] = []

    def take(record: Record, ruling: Ruling) -> None:
        if (record.partition, record.offset) == place or (place is None and record.id == what):
            found.append(Ruled(record, ruling))

    with open_service(Settings(), observe=take) as service:
        if not found:
            raise ChimeraError(f"no record '{what}' is on the log: give an id or <partition>:<offset> (`chimera events tail`)")
        shown = [_record_json(service, ruled, content=True) for ruled in found]
    if as_json:
        output.print_json(shown[0] if len(shown) == 1 else {"records": shown})
        return
    out = output.console()
    for number, each in enumerate(shown):
        data = each.pop("data")
        changes = each.pop("changes")
        out.print(
            output.pairs("" if number else "record", {name: value for name, value in each.items() if value not in ("", None)})
        )
        for change in changes:
            out.print(Text(f"  change: {change}", style="cyan"))
        out.print(JSON.from_data(data) if data is not None else Text("content that cannot be read", style="red"))


@app.command("trace")
def trace_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="A card or task (ava/1.4.2, ava/1.4), a campaign (ava/1), a record id, <p>:<offset>."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """What led to it and what came of it, from the brief to the post, as a tree."""
    place = _place(what)
    key, log, at = "", list[Ruled](), None

    def find(record: Record, _: Ruling) -> None:
        nonlocal key
        if (record.partition, record.offset) == place or (place is None and record.id == what):
            key = record.key

    def collect(record: Record, ruling: Ruling) -> None:
        if record.key == key:
            log.append(Ruled(replace(record, value=b""), ruling))

    settings = Settings()
    with open_service(settings, observe=find) as service:
        if not key:
            at, key = _task(service, what)
    with open_service(settings, observe=collect, partitions=[partition_for(key, PARTITIONS)]) as service:
        if at is not None:
            wanted = trace.about(log, at)
        else:
            target = next(r for r in log if r.record.id == what or (r.record.partition, r.record.offset) == place)
            wanted = trace.grown_from(log, target.record.id)
        if not wanted:
            raise ChimeraError(f"nothing on the log speaks of '{what}': see `chimera agent show {at.agent if at else key}`")
        roots = trace.tree(log, wanted)
        if as_json:
            output.print_json({"target": what, "stream": key, "tree": [_node_json(service, node) for node in roots]})
            return
        top = Tree(Text(f"{what}", style="bold"))
        for node in roots:
            _grow(top, node)
        output.console().print(top)


# --- parts -----------------------------------------------------------------------------------------------------------


def _print_lines(service: CommandService, records: list[Ruled], as_json: bool) -> None:
    names = {key: agent.name for key, agent in service.agents.items()} if records else {}
    out = output.console()
    for ruled in records:
        if as_json:
            output.print_json_line(_record_json(service, ruled, content=False))
        else:
            record = ruled.record
            out.print(
                Text.assemble(
                    (f"{output.when(record.append_ts)[11:]} ", "dim"),
                    (f"{record.partition:>2}:{record.offset:<6} ", "dim"),
                    f"{output.visible(names.get(record.key, record.key))[:16]:<16} ",
                    line(ruled),
                )
            )


def line(ruled: Ruled) -> Text:
    """One record in a line: type, what it speaks of, ruling, what changed."""
    record, ruling = ruled
    campaign, ordinal, attempt = trace.numbers(ruled)
    place = f" {campaign}" + (f".{ordinal}.{attempt}" if ordinal else "") if campaign else ""
    reason = f" ({ruling.reason})" if ruling.reason else ""
    shown = [_change(change) for change in ruling.changes if change.what != "commit"]
    made = Text.assemble(
        (output.visible(record.type) or "unreadable", "bold" if ruling.outcome != "void" else "dim"),
        f"{place} ",
        (f"{ruling.outcome}{reason}", _STYLES.get(ruling.outcome, "")),
        (f" v{ruling.version}" if ruling.version != ruling.version_before else "", "cyan"),
        output.visible(f" {'; '.join(shown)}") if shown else "",
        (f" by {output.visible(record.actor)}" if record.actor else "", "dim"),
    )
    url = getattr(record.data, "url", None)
    if url:
        made.append(f" {output.visible(url)}", style="underline")
    return made


def _change(change: Change) -> str:
    return f"{change.what} {change.status}" + (f" ({change.reason})" if change.reason else "")


def _record_json(service: CommandService, ruled: Ruled, content: bool) -> dict[str, Any]:
    record, ruling = ruled
    agent = service.agent(record.key) if record.key.startswith("agent/") else None
    shown: dict[str, Any] = {
        "position": f"{record.partition}:{record.offset}",
        "time": output.when(record.append_ts),
        "append_ts": record.append_ts,
        "type": record.type,
        "agent": agent.name if agent is not None else None,
        "stream": record.key,
        "id": record.id,
        "tenant": record.tenant,
        "actor": record.actor,
        "causation": record.causation,
        "correlation": record.correlation,
        "signed_by": record.signed_by,
        "defect": record.defect,
        "outcome": ruling.outcome,
        "reason": ruling.reason,
        "state_version": ruling.version,
        "changes": [_change(change) for change in ruling.changes],
    }
    if content:
        shown["data"] = None if record.data is None else orjson.loads(record.value)
    return shown


def _node_json(service: CommandService, node: Node) -> dict[str, Any]:
    return _record_json(service, node.ruled, content=False) | {"caused": [_node_json(service, child) for child in node.children]}


def _grow(above: Tree, node: Node) -> None:
    record = node.ruled.record
    label = Text.assemble(line(node.ruled), (f"  {record.partition}:{record.offset}", "dim"))
    branch = above.add(label)
    for child in node.children:
        _grow(branch, child)


def _place(what: str) -> tuple[int, int] | None:
    partition, colon, offset = what.partition(":")
    return (int(partition), int(offset)) if colon and partition.isdecimal() and offset.isdecimal() else None


def _task(service: CommandService, what: str) -> tuple[Address, str]:
    """The campaign, task or card that a target names, and its agent's stream."""
    name, _, number = what.rpartition("/")
    if name and number.isdecimal():
        return Address(name, int(number), 0, 0), agents.find(service.agents.values(), name).key
    try:
        at = parse_card(what)
    except BadCard:
        raise ChimeraError(
            f"'{what}' is neither a record on the log nor a card: write ava/1.4.2, ava/1.4, ava/1, an id, or <partition>:<offset>"
        ) from None
    return at, agents.find(service.agents.values(), at.agent).key
