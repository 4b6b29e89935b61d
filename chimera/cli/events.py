"""`chimera events`: the log as it is: tail it, show one record with its ruling, trace what caused what.

The rule not to break: every line says how the law ruled; what was void is shown as void, never left out silently.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import orjson
import typer
from rich.json import JSON
from rich.text import Text
from rich.tree import Tree

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.folding import open_desk, open_service
from chimera.cli.grep import grep
from chimera.cli.options import JsonOption
from chimera.cli.security import security
from chimera.commands import agents, lookup, trace, verbs
from chimera.commands.cards import Address, BadCard, parse_card
from chimera.commands.history import HistoryUnavailable
from chimera.commands.keys import PARTITIONS
from chimera.commands.lookup import Log
from chimera.commands.service import CommandService
from chimera.commands.trace import Node, Ruled
from chimera.commands.wiring import open_history, open_log
from chimera.errors import ChimeraError
from chimera.eventlog.partitioner import partition_for
from chimera.events.envelope import Record
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import ALL
from chimera.events.state import Agent, Change, Ref, Ruling
from chimera.settings import Settings

app = typer.Typer(help="The log: tail it, search it, show a record with its ruling, trace what caused what.", no_args_is_help=True)
app.command()(grep)
app.command()(security)

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
    settings, live = Settings(), False
    recent: dict[str, deque[Ruled]] = {}
    waiting: list[Ruled] = []

    def take(record: Record, ruling: Ruling) -> None:
        if type_ not in (None, record.type) or outcome not in (None, ruling.outcome):
            return
        ruled = Ruled(replace(record, value=b""), ruling)
        if live:
            waiting.append(ruled)
        else:
            recent.setdefault(record.key, deque(maxlen=lines)).append(ruled)

    # Begun at snapshots where there are any: what lies before those is told by the read models.
    with open_service(settings, observe=take, from_snapshots=True) as service:
        key = None if agent is None else agents.find(service.agents.values(), agent).key
        before = _older(settings, service, lines, key, type_, outcome) if lines and not service.whole else []
        before += [ruled for stream, kept in recent.items() if key in (None, stream) for ruled in kept]
        # Partitions are read in turns; broker time is what puts their records into one order.
        ordered = sorted({(r.record.partition, r.record.offset): r for r in before}.values(), key=_in_time)
        live = True
        _print_lines(service, ordered[-lines:] if lines else [], as_json)
        with suppress(KeyboardInterrupt):  # Ctrl-C is how a tail ends
            while follow:
                service.follow(0.5)
                _print_lines(service, [ruled for ruled in waiting if key in (None, ruled.record.key)], as_json)
                waiting.clear()


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="RECORD", help="A record's id, or <partition>:<offset>.")],
    as_json: JsonOption = False,
) -> None:
    """One record: headers, content, and what the law said of it."""
    log, shown = open_log(Settings()), list[dict[str, Any]]()
    for raw in _named(log, what):
        with showing(f"folding partition {raw.partition} up to it, for its ruling") as bar:
            ruled, fold = lookup.stream(log, raw.partition, raw.key, bar, raw.offset + 1)
        shown.append(_record_json(fold.agents.get, ruled[-1], content=True))
    if not shown:
        raise ChimeraError(f"no record '{what}' is on the log: give an id or <partition>:<offset> (`chimera events tail`)")
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
    key, roots, fold = _traced(Settings(), what)
    if as_json:
        output.print_json(_trace_json(what, key, roots, fold))
        return
    top = Tree(Text(f"{what}", style="bold"))
    for node in roots:
        _grow(top, node)
    output.console().print(top)


def trace_json(settings: Settings, what: str) -> dict[str, Any]:
    """The tree of a card, task, campaign or record, as `--json` prints it. Raises ChimeraError."""
    return _trace_json(what, *_traced(settings, what))


def _trace_json(what: str, key: str, roots: list[Node], fold: PartitionFold) -> dict[str, Any]:
    return {"target": what, "stream": key, "tree": [_node_json(fold.agents.get, node) for node in roots]}


def _traced(settings: Settings, what: str) -> tuple[str, list[Node], PartitionFold]:
    log, at = open_log(settings), _address(what)
    if at is not None:
        with open_desk(settings) as desk:
            key = str(desk.ask(verbs.AgentShow(name=at.agent))["stream"])
        partition, target = partition_for(key, PARTITIONS), None
    else:
        target = next(iter(_named(log, what)), None)
        if target is None or target.key is None:
            raise ChimeraError(
                f"'{what}' is neither a record of an agent on the log nor a card: "
                "write ava/1.4.2, ava/1.4, ava/1, an id, or <partition>:<offset>"
            )
        key, partition = target.key.decode("utf-8", "replace"), target.partition
    with showing(f"folding partition {partition}") as bar:
        found, fold = lookup.stream(log, partition, key.encode() if target is None else target.key, bar)
    story = [Ruled(replace(ruled.record, value=b""), ruled.ruling) for ruled in found]
    if at is not None:
        wanted = trace.about(story, at)
    else:
        wanted = trace.grown_from(story, next(r.record.id for r in story if target and r.record.offset == target.offset))
    if not wanted:
        raise ChimeraError(f"nothing on the log speaks of '{what}': see `chimera agent show {at.agent if at else key}`")
    return key, trace.tree(story, wanted), fold


# --- parts -----------------------------------------------------------------------------------------------------------


def _print_lines(service: CommandService, records: list[Ruled], as_json: bool) -> None:
    names = {key: agent.name for key, agent in service.agents.items()} if records else {}
    out = output.console()
    for ruled in records:
        if as_json:
            output.print_json_line(_record_json(service.agent, ruled, content=False))
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


def _record_json(agent_of: Callable[[str], Agent | None], ruled: Ruled, content: bool) -> dict[str, Any]:
    record, ruling = ruled
    agent = agent_of(record.key) if record.key.startswith("agent/") else None
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


def _node_json(agent_of: Callable[[str], Agent | None], node: Node) -> dict[str, Any]:
    return _record_json(agent_of, node.ruled, content=False) | {"caused": [_node_json(agent_of, child) for child in node.children]}


def _grow(above: Tree, node: Node) -> None:
    record = node.ruled.record
    label = Text.assemble(line(node.ruled), (f"  {record.partition}:{record.offset}", "dim"))
    branch = above.add(label)
    for child in node.children:
        _grow(branch, child)


def _place(what: str) -> tuple[int, int] | None:
    partition, colon, offset = what.partition(":")
    return (int(partition), int(offset)) if colon and partition.isdecimal() and offset.isdecimal() else None


def _address(what: str) -> Address | None:
    """The campaign, task or card that a target names; None where it names something else."""
    name, _, number = what.rpartition("/")
    if name and number.isdecimal():
        return Address(name, int(number), 0, 0)
    try:
        return parse_card(what)
    except BadCard:
        return None


def _named(log: Log, what: str) -> list[RawRecord]:
    """The records of that id or place."""
    place = _place(what)
    if place is not None:
        found = lookup.at(log, *place)
        return [] if found is None else [found]
    with showing("searching the log for that id") as bar:
        return lookup.by_id(log, what, bar)


def _in_time(ruled: Ruled) -> tuple[int, int, int]:
    return ruled.record.append_ts, ruled.record.partition, ruled.record.offset


def _older(
    settings: Settings, service: CommandService, count: int, key: str | None, type_: str | None, outcome: str | None
) -> list[Ruled]:
    """The newest records that the read models know, as the log holds them. What they changed is not among what is kept."""
    with open_history(settings) as history:
        if history is None:
            return []
        try:
            rows = history.newest(count, key, type_, outcome)
        except HistoryUnavailable as error:
            output.note(f"records from before the snapshots are left out: {error}")
            return []
    made = []
    for row in rows:
        record = service.read_at(Ref(int(row["partition"]), int(row["offset"])))
        version = int(row["state_version"])
        made.append(Ruled(replace(record, value=b""), Ruling(row["outcome"], row["reason"], version, version)))
    return made
