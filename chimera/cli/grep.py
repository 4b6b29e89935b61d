"""`chimera events grep`: records by type, agent, tenant, time, ruling and what their content says, from the whole log.

The rule not to break: what it keeps does not grow with the log: records go by, and only folded states stay.
Exit codes: 0 found, 1 failure, 2 usage, 3 nothing matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple

import orjson
import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.bars import Bar, showing
from chimera.cli.options import JsonOption
from chimera.cli.past import open_log
from chimera.eventlog.moments import at_time, parse_time
from chimera.eventlog.partitioner import partition_for, place
from chimera.eventlog.read import Reader, end_offsets, read_until
from chimera.events.envelope import LAW_KEY_PREFIX, Record, decode
from chimera.events.partition import PartitionFold
from chimera.events.raw import RawRecord
from chimera.events.records import ALL
from chimera.events.state import Ruling
from chimera.replay.look import Log, find_agent
from chimera.replay.where import BadWhere, Where, parse

_TYPES = sorted(model.TYPE for model in ALL)
_LAW = LAW_KEY_PREFIX.encode()


class Asked(NamedTuple):
    """What is looked for. `since` and `until` in ms of broker time, 0 = unbounded."""

    types: frozenset[str]
    key: str | None
    tenant: str | None
    outcome: str | None
    reason: str | None
    since: int
    until: int
    where: tuple[Where, ...]

    @property
    def ruled(self) -> bool:
        """Does the answer need the law's ruling?"""
        return (
            self.outcome is not None
            or self.reason is not None
            or any(w.steps[0] in ("outcome", "reason", "version") for w in self.where)
        )

    def may_match(self, raw: RawRecord) -> bool:
        """What key, time and headers say, before anything is decoded."""
        if (self.since and raw.append_ts < self.since) or (self.until and raw.append_ts > self.until):
            return False
        if self.key is not None and raw.key != self.key.encode():
            return False
        if not self.types and self.tenant is None:
            return True
        said = {name: content for name, content in raw.headers if name in ("ce_type", "ce_tenant")}
        if self.types and (said.get("ce_type") or b"").decode(errors="replace") not in self.types:
            return False
        return self.tenant is None or said.get("ce_tenant") == self.tenant.encode()


def grep(
    types: Annotated[list[str] | None, typer.Option("--type", help="Record type; may be given more than once.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only this agent, by name or stream key.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant, by name.")] = None,
    outcome: Annotated[
        Literal["applied", "rejected", "void"] | None, typer.Option("--outcome", help="Only what was ruled so.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only rulings for this reason (stale, duplicate, forged ...).")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Appended at or after it; with its zone.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Appended at or before it; with its zone.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="CONDITION", help="payload.confidence<0.7; several must all hold. = != < <= > >= ~ and [*]."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=0, help="Stop after so many; 0 = all.")] = 0,
    count: Annotated[bool, typer.Option("--count", help="Print only how many there are.")] = False,
    ruling: Annotated[
        bool, typer.Option("--ruling/--no-ruling", help="Without rulings nothing is folded: several times faster.")
    ] = True,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Records by what they are and say. In log order within each agent; with --json one object per line, content included.

    Examples: chimera events grep --type JudgeVerdict --where 'payload.confidence<0.7' |
    chimera events grep --outcome rejected --since 2026-11-22T10:00Z --count
    """
    for type_ in types or ():
        if type_ not in _TYPES:
            raise output.usage(f"--type {type_} is no record type: choose among {', '.join(_TYPES)}")
    if follow and (count or until):
        raise output.usage("--follow has no end: leave out --count and --until")
    try:
        conditions = tuple(map(parse, where or ()))
    except BadWhere as error:
        raise output.usage(str(error)) from error
    log = open_log()
    begin, end = parse_time(since) if since else 0, parse_time(until) if until else 0
    if begin and end and begin > end:
        raise output.usage(f"--since {since} is after --until {until}: nothing lies between them")
    with showing("looking for the agent by its name") as bar:
        key = None if agent is None else find_agent(log, agent, bar)
    asked = Asked(frozenset(types or ()), key, tenant, outcome, reason, begin, end, conditions)
    if asked.ruled and not ruling:
        raise output.usage("--no-ruling leaves out what --outcome, --reason and conditions on the ruling ask for: drop one of them")
    found = 0
    with showing("reading the log") as bar, suppress(KeyboardInterrupt):  # Ctrl-C is how a --follow ends
        for record, ruled, name in _matches(log, asked, ruling, follow, bar):
            found += 1
            if not count:
                _print(record, ruled, name, as_json)
            if limit and found == limit:
                break
    if count:
        output.print_json({"records": found}) if as_json else typer.echo(str(found))
    elif not found and not follow:
        output.note("no record matched: loosen a condition, or see what there is with `chimera events tail`")
    if not found and not follow:
        raise typer.Exit(output.NOT_COUNTED)


Match = tuple[Record, Ruling | None, str]


def _matches(log: Log, asked: Asked, ruling: bool, follow: bool, bar: Bar) -> Iterator[Match]:
    """Matching records with their ruling (None without) and the agent's name."""
    ends = end_offsets(log.bootstrap, log.topic)
    count = len(ends)
    wanted = sorted(ends) if asked.key is None else [partition_for(asked.key, count)]
    upto = {p: ends[p] for p in wanted}
    if asked.until:
        cut = at_time(log.bootstrap, log.topic, asked.until)
        upto = {p: cut.upto[p] for p in wanted}
    start = dict.fromkeys(wanted, 0)
    if asked.since and not ruling:  # a ruling needs what came before; content does not
        from chimera.eventlog.moments import offsets_after

        start = {p: min(upto[p], at) for p, at in offsets_after(log.bootstrap, log.topic, asked.since - 1, wanted).items()}
    folds = {p: PartitionFold(p, count, log.root_public, place) for p in wanted} if ruling else {}
    done, total = 0, sum(upto[p] - start[p] for p in wanted)
    for batch in read_until(log.bootstrap, log.topic, wanted, start, upto):
        yield from _of(batch, asked, folds)
        done += len(batch)
        bar(done, total)
    bar.close()
    if follow:
        with Reader(log.bootstrap, log.topic, upto, client_id="chimera-grep") as reader:
            while True:
                yield from _of(reader.read(2000, 0.5), asked, folds)


def _of(batch: Sequence[RawRecord], asked: Asked, folds: dict[int, PartitionFold]) -> Iterator[Match]:
    for raw in batch:
        fold = folds.get(raw.partition)
        wanted = asked.may_match(raw)
        if fold is None:
            if not wanted:
                continue
            record, ruling, name = decode(raw), None, ""
        else:
            if asked.key is not None and raw.key != asked.key.encode() and not (raw.key or b"").startswith(_LAW):
                continue  # a fold reads its own stream and the law
            record, ruling = fold.apply(raw)
            if not wanted:
                continue
            state = fold.agents.get(record.key)
            name = state.name if state is not None else ""
        if (asked.outcome and ruling is not None and ruling.outcome != asked.outcome) or (
            asked.reason and ruling is not None and ruling.reason != asked.reason
        ):
            continue
        if asked.where:
            seen = _seen(record, ruling, name, any(w.in_payload for w in asked.where))
            if not all(w.holds(seen) for w in asked.where):
                continue
        yield record, ruling, name


def _seen(record: Record, ruling: Ruling | None, name: str, content: bool) -> dict[str, Any]:
    """A record as conditions look at it."""
    return {
        "type": record.type, "agent": name, "stream": record.key, "tenant": record.tenant, "actor": record.actor, "id": record.id,
        "causation": record.causation, "correlation": record.correlation, "partition": record.partition, "offset": record.offset,
        **({} if ruling is None else {"outcome": ruling.outcome, "reason": ruling.reason, "version": ruling.version}),
        **({"payload": _content(record)} if content else {}),
    }  # fmt: skip


def _content(record: Record) -> Any:
    """The value as JSON, also of a type that nobody knows; None where it is none."""
    try:
        return orjson.loads(record.value)
    except orjson.JSONDecodeError:
        return None


def _print(record: Record, ruling: Ruling | None, name: str, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {
            "position": f"{record.partition}:{record.offset}", "time": output.when(record.append_ts), "append_ts": record.append_ts,
            **_seen(record, None, name, False), "defect": record.defect,
        }  # fmt: skip
        if ruling is not None:
            shown |= {"outcome": ruling.outcome, "reason": ruling.reason, "state_version": ruling.version}
        output.print_json_line(shown | {"data": _content(record)})
        return
    outcome = "" if ruling is None else ruling.outcome + (f" ({ruling.reason})" if ruling.reason else "")
    excerpt = re.sub(r"\s+", " ", record.value[:4000].decode(errors="replace"))
    output.console().print(
        Text.assemble(
            (f"{output.when(record.append_ts)} {record.partition}:{record.offset:<6} ", "dim"),
            f"{output.visible(name or record.key)[:16]:<16} ",
            (output.visible(record.type) or "unreadable", "bold"),
            f" {outcome} ",
            (output.visible(excerpt[:100]) + ("…" if len(excerpt) > 100 else ""), "dim"),
        ),
        soft_wrap=True,
    )
